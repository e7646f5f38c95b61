"""Records: scores with everything that defines them, as JSON; and their comparison, which refuses unlike protocols.

A record is a dict of

    scores    metric: a number, or a list of them, one for each time step
    protocol  metric: {field: value}, how the score was measured, and of what
    spread    metric: standard deviation, of a score that is a mean: over the subsets of KID, the splits of IS, or the
              sets of seeds, whose scores are in "repeats"
    floor     metric: the score of real images, if `reference` has computed it
    nearest   with memorisation: the samples that are nearest to training images, see `nearest`
    recognition  with recognition-classifier: a row for each class, and counts (K, K), a row for each class asked for
    source    what was scored
    notes     lines for the user

Two scores of a metric can be compared if their protocols agree in all fields of `must_agree`. A missing field agrees
with nothing, not even with another missing one: nobody knows its value.
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

# Fields that tell how a score is measured. The others tell what is measured: step, seeds, repeats, time_steps, rounds,
# temperature; and the command.
ALL = ("n", "reference", "data", "split", "size", "channels", "versions")
MADE = ("quantised", "weights", "classes")  # how a model made the images; None for images that no model made
FEATURES = ("extractor", "extractor_hash", "mode", "resize", "n_reference")
OUTPUTS = ("weights", "classes", "drawn", "readout")
OWN = {
    "kid": ("kid_subsets", "kid_subset_size", "kid_seed"),
    "is": ("is_splits",),
    "is-fsvae": ("is_splits", "standard"),
    "memorisation": ("n_training", "training"),
} | dict.fromkeys(("precision", "recall", "density", "coverage"), ("neighbours",))
MISSING = "(missing)"


class Record(dict):
    """A record that shows its scores as a table; otherwise a dict."""

    def __repr__(self) -> str:
        rows = compare({"score": self})
        for title, values in (("±", self.get("spread")), ("floor", self.get("floor"))):
            rows = [row | {title: values.get(row["metric"])} for row in rows] if values else rows
        return "\n".join([table(rows), *(f"note: {note}" for note in self.get("notes", ()))])


def must_agree(metric: str) -> tuple[str, ...]:
    """The fields of a protocol that must agree before two scores of a metric are compared."""
    if metric.startswith("accuracy"):
        return OUTPUTS + ALL
    if metric in ("recognition", "recognition-events"):  # by a classifier of one's own
        return (*MADE, "extractor_hash", "n", "size", "channels", "versions")
    if metric in ("reconstruction", "psnr", "ssim"):
        return (*MADE, "range", *ALL)
    return MADE + FEATURES + ALL + OWN.get(_measure(metric), ())


def _measure(metric: str) -> str:
    """The name without that of a network: kid-autoencoder is kid."""
    name, _, network = metric.rpartition("-")
    return name if network in ("classifier", "autoencoder", "dinov2") else metric


def circumstances() -> dict:
    """The fields that are the same for every metric: versions, and the command of this process."""
    packages = ("torch", "torchvision", "tcja_gen")
    return {"versions": {name: _version(name) for name in packages}, "command": shlex.join(sys.argv)}


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"


def write_record(path: str | Path, record: dict) -> None:
    """Write a record as JSON; the file appears whole or not at all."""
    write(Path(path), text(record) + "\n")


def text(record) -> str:
    """Indented JSON; null stands for numbers that are not finite, which JSON does not have."""
    return json.dumps(_finite(record), indent=2, allow_nan=False)


def _finite(value):
    if isinstance(value, dict):
        return {name: _finite(part) for name, part in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(part) for part in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def file_name(record: dict, asked: Sequence[str]) -> str:
    """A name for the file of a record: its first metric, split and n, and a hash of the metrics and their protocols.

    The same evaluation gets the same name, any other one another name; versions and the command play no part.
    asked: names of the metrics; none: those in the record
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
    """Read what `write_record` wrote; MissingFile, or UserError that names a file without a record."""
    if not Path(path).is_file():
        raise MissingFile(f"{path}: no such file; wanted a record written by evaluate")
    try:
        record = json.loads(Path(path).read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: not a JSON record ({error})") from None
    parts = [record.get(name) if isinstance(record, dict) else None for name in ("scores", "protocol")]
    if not all(isinstance(part, dict) for part in parts) or not all(isinstance(p, dict) for p in parts[1].values()):
        raise UserError(f"{path}: not a record of scores; wanted the keys scores and protocol, tables by metric")
    record["scores"] = {metric: score for metric, score in record["scores"].items() if score is not None}  # not finite
    for metric, score in record["scores"].items():
        if not all(isinstance(number, int | float) for number in (score if isinstance(score, list) else [score])):
            raise UserError(f"{path}: not a record of scores; {metric} is {score!r}, a number is wanted")
    return record


def compare(records: Mapping[str, dict]) -> list[dict]:
    """Rows `{"metric": name, label: score, ...}`; a score is None if the record does not have the metric.

    records: by label, the title of their column
    A score that is a list gives a row for each of its numbers, called "name 1" and so on.
    UserError if the protocols of a metric differ; it names the fields and their values.
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
    """Scores by (metric,); those of a list by (metric, "1"), (metric, "2"), ..."""
    numbers = {}
    for metric, score in scores.items():
        if isinstance(score, list):
            numbers |= {(metric, str(t + 1)): value for t, value in enumerate(score)}
        else:
            numbers[metric,] = score
    return numbers


def _differences(metric: str, a: dict, b: dict) -> list[str]:
    a, b = ({"classes": None} | protocol if protocol else {} for protocol in (a, b))  # as in older records
    pairs = [(field, _value(a, field), _value(b, field)) for field in must_agree(metric)]
    no_model = () if metric.startswith("accuracy") else MADE  # may be None on a side whose images no model made
    unlike = [(f, x, y) for f, x, y in pairs if x != y and not (f in no_model and None in (x, y)) or MISSING in (x, y)]
    return [f"{field} {x} and {y}" for field, x, y in unlike]


def _value(protocol: dict, field: str):
    """A field's value; versions without their patch number, since a patch changes no score."""
    value = protocol.get(field, MISSING)
    if field == "versions" and isinstance(value, dict):
        return {name: ".".join(str(found).split(".")[:2]) for name, found in value.items()}
    return value


def table(rows: list[dict]) -> str:
    """Rows of `compare`, or of a record's "classes", as text: a line of column names, and a line for each row."""
    header = list(rows[0]) if rows else ["metric"]
    cells = [header] + [[_cell(row[name]) for name in header] for row in rows]
    widths = [max(len(line[i]) for line in cells) for i in range(len(header))]
    return "\n".join(_line(line, widths) for line in cells)


def _cell(value) -> str:
    return "-" if value is None else value if isinstance(value, str) else f"{value:.6g}"


def _line(cells: list[str], widths: list[int]) -> str:
    return "  ".join([cells[0].ljust(widths[0])] + [c.rjust(w) for c, w in zip(cells[1:], widths[1:], strict=True)])
