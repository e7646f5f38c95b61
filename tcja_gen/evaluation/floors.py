"""Floors: what real training images score by a protocol. `prepare` computes and keeps them, `scores` tells them."""

import json
from pathlib import Path

from ..cache import Entry, entry, key
from ..errors import UserError
from ..files import write
from .references import Reference
from .results import Result

VERSION = 3  # of the kept floors; another number makes every one anew


def known_floor(reference: Reference, measure: str, result: Result) -> float | None:
    """The floor by the protocol and n of a result: in the reference file, or in the cache; None if there is none."""
    in_file = reference.floors.get(floor_name(reference, measure, result))
    if in_file is not None:
        return in_file
    try:
        return _entry(reference, measure, result).get()
    except (UserError, OSError):  # of training images that are not there, or not whole
        return None


def keep_floor(reference: Reference, measure: str, result: Result) -> None:
    """Keep the result of real training images in the cache."""
    text = json.dumps({"score": result.value}, allow_nan=False)
    _entry(reference, measure, result).try_store(result.value, lambda file: write(file, text))


def floor_name(reference: Reference, measure: str, result: Result) -> str:
    """The name of a floor in a reference file."""
    return f"floor-{key(**_facts(reference, measure, result))}"


def _entry(reference: Reference, measure: str, result: Result) -> Entry[float]:
    facts = _facts(reference, measure, result)
    return entry("floor", ".json", VERSION, _read, **facts, training=reference.real.training_identity)


def _facts(reference: Reference, measure: str, result: Result) -> dict:
    return dict(measure=measure, against=reference.fingerprint, facts=result.facts)


def _read(file: Path) -> float:
    return float(json.loads(file.read_text(encoding="utf-8"))["score"])
