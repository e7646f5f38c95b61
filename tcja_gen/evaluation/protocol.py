"""Records: scores with everything that defines them, as JSON; and the comparison that refuses unlike ones.

A record is `{"scores": {metric: value}, "protocol": {metric: {field: ...}}, "source": {}, "notes": []}`; a value is a
number, or a list of them, one a time step. "spread" has, by metric, the standard deviation over the parts that a score
is a mean of (the subsets of KID, the splits of IS; or sets of seeds, whose scores are in "repeats"), "floor" what real
images score, where `reference` has told it.

Two scores of a metric are compared if `must_agree` names no field of their protocols that differs. A field that is
missing differs from any that is there, and from one that is missing elsewhere: nobody knows what it was.
"""

import hashlib
import itertools
import json
import math
import shlex
import sys
from collections.abc import Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from ..errors import MissingFile, UserError
from ..files import write

# Fields that say how a score is measured. All others say what is measured: step, seeds, repeats, time_steps, rounds,
# temperature; and the command.
ALL = ("n", "reference", "data", "split", "size", "channels", "versions")
MADE = ("quantised", "weights", "classes")  # how a model made the images; None of images that were there
FEATURES = ("extractor", "extractor_hash", "mode", "resize", "n_reference")
OUTPUTS = ("weights", "classes", "drawn", "readout")
OWN = {
    "kid": ("kid_subsets", "kid_subset_size", "kid_seed"),
    "is": ("is_splits",),
    "is-fsvae": ("is_splits", "standard"),
    "memorisation": ("n_training", "training"),
} | dict.fromkeys(("precision", "recall", "density", "coverage"), ("neighbours",))
MISSING = "(missing)"


def must_agree(metric: str) -> tuple[str, ...]:
    """Fields of a protocol in which scores of a metric must agree to be compared."""
    if metric.startswith("accuracy"):
        return OUTPUTS + ALL
    if metric in ("reconstruction", "psnr", "ssim"):
        return (*MADE, "range", *ALL)
    return MADE + FEATURES + ALL + OWN.get(metric.removesuffix("-classifier"), ())


def circumstances() -> dict:
    """Versions and the command of this process: the part of a protocol that the program knows by itself."""
    packages = ("torch", "torchvision", "tcja_gen")
    return {"versions": {name: _version(name) for name in packages}, "command": shlex.join(sys.argv)}


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"


def write_record(path: str | Path, record: dict) -> None:
    """Write a record as `text`; the file appears whole or not at all."""
    write(Path(path), text(record) + "\n")


def text(record) -> str:
    """Indented JSON, which has no numbers that are not finite: null stands for them."""
    return json.dumps(_finite(record), indent=2, allow_nan=False)


def _finite(value):
    if isinstance(value, dict):
        return {name: _finite(part) for name, part in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(part) for part in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def file_name(record: dict, asked: Sequence[str]) -> str:
    """A name for the file of a record: of its first score, split and n, and a hash of all that was asked for.

    The same question again has the same name, any other question another one; by which versions and words it was asked
    plays no part. asked: names of the metrics; none: those that are there
    """
    asked = asked or [*record["scores"]] or ["nothing"]
    protocols = record["protocol"].values()
    facts = [{k: v for k, v in facts.items() if k not in ("versions", "command")} for facts in protocols]
    key = hashlib.sha256(json.dumps([list(asked), facts], sort_keys=True).encode()).hexdigest()[:8]
    first, *others = asked
    split, n = max(((facts["split"], facts["n"]) for facts in protocols), key=lambda x: x[1], default=("none", 0))
    sets = max((facts.get("repeats") or 1 for facts in protocols), default=1)
    shown = [f"{first}+{len(others)}" if others else first, split, f"{n}x{sets}" if sets > 1 else str(n)]
    return "-".join([*shown, key]) + ".json"


def read_record(path: str | Path) -> dict:
    """Read what `write_record` wrote; FileNotFoundError, or ValueError naming a file that is no record."""
    if not Path(path).is_file():
        raise MissingFile(f"{path}: no such file; wanted a record written by evaluate")
    try:
        record = json.loads(Path(path).read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: not a JSON record ({error})") from None
    parts = [record.get(name) if isinstance(record, dict) else None for name in ("scores", "protocol")]
    if not all(isinstance(part, dict) for part in parts):
        raise UserError(f"{path}: not a record of scores; wanted the keys scores and protocol")
    return record


def compare(records: Mapping[str, dict]) -> list[dict]:
    """Rows `{"metric": name, label: score, ...}` of records by label; None where a record lacks the metric.

    A score that is a list gives a row for each of its numbers, called "name 1" and so on.
    ValueError that names the fields, and their values, in which two protocols of one metric differ and must not.
    """
    metrics = list(dict.fromkeys(metric for record in records.values() for metric in record["scores"]))
    for metric in metrics:
        having = {label: r["protocol"].get(metric, {}) for label, r in records.items() if metric in r["scores"]}
        for (one, a), (other, b) in itertools.combinations(having.items(), 2):
            if unlike := _differences(metric, a, b):
                raise UserError(f"{metric} of {one} and of {other} are not comparable: {'; '.join(unlike)}")
    columns = {label: _numbers(record["scores"]) for label, record in records.items()}
    names = dict.fromkeys(name for column in columns.values() for name in column)
    names = sorted(names, key=lambda name: (metrics.index(name[0]), *map(int, name[1:])))
    return [
        {"metric": " ".join(name)} | {label: column.get(name) for label, column in columns.items()} for name in names
    ]


def _numbers(scores: dict) -> dict[tuple, float]:
    """Scores by (metric,), those of a list by (metric, "1"), (metric, "2") ..."""
    numbers = {}
    for metric, score in scores.items():
        if isinstance(score, list):
            numbers |= {(metric, str(t + 1)): value for t, value in enumerate(score)}
        else:
            numbers[metric,] = score
    return numbers


def _differences(metric: str, a: dict, b: dict) -> list[str]:
    a, b = ({"classes": None} | protocol if protocol else {} for protocol in (a, b))  # before models had classes
    pairs = [(field, _value(a, field), _value(b, field)) for field in must_agree(metric)]
    by_hand = () if metric.startswith("accuracy") else MADE  # no model made one side, or neither
    unlike = [(f, x, y) for f, x, y in pairs if x != y and not (f in by_hand and None in (x, y)) or MISSING in (x, y)]
    return [f"{field} {x} and {y}" for field, x, y in unlike]


def _value(protocol: dict, field: str):
    """A field's value; of versions the releases, since a patch of a package changes no score."""
    value = protocol.get(field, MISSING)
    if field == "versions" and isinstance(value, dict):
        return {name: ".".join(str(found).split(".")[:2]) for name, found in value.items()}
    return value


def table(rows: list[dict]) -> str:
    """Rows of `compare`, or of a record's "classes", as text: one line a row under the names of the columns."""
    header = list(rows[0]) if rows else ["metric"]
    cells = [header] + [[_cell(row[name]) for name in header] for row in rows]
    widths = [max(len(line[i]) for line in cells) for i in range(len(header))]
    return "\n".join(_line(line, widths) for line in cells)


def _cell(value) -> str:
    return "-" if value is None else value if isinstance(value, str) else f"{value:.6g}"


def _line(cells: list[str], widths: list[int]) -> str:
    return "  ".join([cells[0].ljust(widths[0])] + [c.rjust(w) for c, w in zip(cells[1:], widths[1:], strict=True)])
