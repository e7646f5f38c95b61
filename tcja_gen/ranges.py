"""Ranges of settings, declared where a setting is: `lr: float = setting(2e-3, above=0)`."""

import math
from dataclasses import dataclass, field, fields

from .errors import UserError


@dataclass(frozen=True)
class Range:
    """Finite numbers: at least `least`, or greater than `above`; at most `most`, or less than `below`."""

    least: float | None = None
    above: float | None = None
    most: float | None = None
    below: float | None = None

    def check(self, name: str, value) -> None:
        """UserError unless value is a number of the range."""
        if not isinstance(value, (int, float)) or not self._has(value):
            raise UserError(f"{name} is {value}, it must {self}")

    def _has(self, value: float) -> bool:
        low = (self.least is None or value >= self.least) and (self.above is None or value > self.above)
        high = (self.most is None or value <= self.most) and (self.below is None or value < self.below)
        return math.isfinite(value) and low and high

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
    """Field of a dataclass of settings with its default and its `Range`."""
    return field(default=default, metadata={"range": Range(**limits)})


def check_ranges(settings, where: str) -> None:
    """UserError for the first number of a dataclass that is out of its range; `where` stands before its name."""
    for f in fields(settings):
        if "range" in f.metadata:
            f.metadata["range"].check(f"{where}{f.name}", getattr(settings, f.name))
