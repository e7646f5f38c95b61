"""Ranges of settings, declared with the setting: `lr: float = setting(2e-3, above=0)`."""

import math
from dataclasses import dataclass, field, fields

from .errors import UserError

LARGEST = 2**64  # of whole numbers, the first that is too large for every setting


@dataclass(frozen=True)
class Range:
    """A range of finite numbers: from `least` (included) or `above` (excluded) to `most` (included) or `below`
    (excluded). None: no bound."""

    least: float | None = None
    above: float | None = None
    most: float | None = None
    below: float | None = None

    def check(self, name: str, value) -> None:
        """UserError unless `value` is a number in the range. name: of the setting, for the message."""
        if isinstance(value, int) and abs(value) >= LARGEST:
            raise UserError(f"{name} is a number of {value.bit_length()} bits, which is too large")
        if not isinstance(value, (int, float)) or not self._has(value):
            raise UserError(f"{name} is {value!r}, it must {self}")

    def _has(self, value: float) -> bool:
        low = (self.least is None or value >= self.least) and (self.above is None or value > self.above)
        high = (self.most is None or value <= self.most) and (self.below is None or value < self.below)
        return (isinstance(value, int) or math.isfinite(value)) and low and high

    def __str__(self) -> str:
        low, high = (self.least, self.above), (self.most, self.below)
        if high != (None, None):
            first = f"[{self.least}" if self.above is None else f"({self.above}"
            return f"lie in {first}, {self.most}]" if self.below is None else f"lie in {first}, {self.below})"
        if low in ((0, None), (None, 0)):
            return "be positive, or 0" if self.above is None else "be positive"
        if self.least is not None:
            return f"be at least {self.least}"
        return "be finite" if self.above is None else f"be greater than {self.above}"


def setting(default, **limits: float):
    """A field of a settings dataclass: its default, and its bounds as for `Range`."""
    return field(default=default, metadata={"range": Range(**limits)})


KINDS = {int: "a whole number", bool: "True or False"}


def check_ranges(settings, where: str) -> None:
    """UserError for the first setting of a dataclass that is out of its range, or is no whole number, or not True or
    False, where it should be. where: prefix of its name in the message, such as "model."."""
    for f in fields(settings):
        value = getattr(settings, f.name)
        if f.type in KINDS and type(value) is not f.type:
            raise UserError(f"{where}{f.name} is {value!r}, it must be {KINDS[f.type]}")
        if "range" in f.metadata:
            f.metadata["range"].check(f"{where}{f.name}", value)
