"""Results of measures, before they become scores in a record."""

from math import isfinite
from statistics import mean, stdev
from typing import NamedTuple

from ..metrics import Spread


class Result(NamedTuple):
    """A value, its standard deviation if it is a mean, and the fields of its protocol that the measure knows.

    sets: the values that it is the mean of, if several sets of seeds were scored. details: more than a number, by the
    part of the record that shows it; of several sets those of the first.
    """

    value: float
    spread: float | None
    facts: dict
    sets: list[float] | None = None
    details: dict | None = None

    @classmethod
    def of(cls, value: float | Spread, facts: dict, details: dict | None = None) -> "Result":
        value, spread = value if isinstance(value, Spread) else (value, None)
        return cls(value, spread, facts, details=details)


def over_sets(sets: list[dict[str, Result]]) -> dict[str, Result]:
    """The results of one set as they are; of several their mean and standard deviation (with n - 1), by metric."""
    if len(sets) == 1:
        return sets[0]
    return {name: _mean([results[name] for results in sets]) for name in sets[0]}


def _mean(results: list[Result]) -> Result:
    values = [result.value for result in results]
    spread = stdev(values) if all(map(isfinite, values)) else None
    return Result(mean(values), spread, results[0].facts, values, results[0].details)


def only_finite(results: dict[str, Result], notes: list[str]) -> dict[str, Result]:
    """The results that are finite numbers. The others say nothing and cannot be written as JSON: a note names each."""
    for name, result in results.items():
        if not isfinite(result.value):
            copies = "; the held-out images are copies of training images" if name.startswith("memorisation") else ""
            notes.append(f"{name} is left out: it is {result.value}, not a number{copies}")
    return {name: result for name, result in results.items() if isfinite(result.value)}
