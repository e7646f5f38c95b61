"""Records: scores with everything that defines them, as JSON; and the comparison that refuses unlike ones.

A record is `{"scores": {metric: value}, "protocol": {metric: {field: ...}}, "source": {}, "notes": []}`; a value is a
number, or a list of them, one a time step. "spread" has, by metric, the standard deviation over the parts that a score
is a mean of (the subsets of KID, the splits of IS; or sets of seeds, whose scores are in "repeats"), "floor" what real
images score, where `reference` has told it. A field that does not apply (the weights of a folder of images) is None and
is not compared.
"""

import json
import shlex
import sys
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from ..errors import MissingFile, UserError
from ..files import replacing

# what is compared, not how it is measured
MAY_DIFFER = {"step", "seeds", "repeats", "time_steps", "rounds", "temperature", "command"}


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
    """Write a record as indented JSON; the file appears whole or not at all."""
    text = json.dumps(record, indent=2, allow_nan=False) + "\n"
    with replacing(Path(path)) as temporary:
        temporary.write_text(text, encoding="utf-8")


def read_record(path: str | Path) -> dict:
    """Read what `write_record` wrote; FileNotFoundError, or ValueError naming a file that is no record."""
    if not Path(path).is_file():
        raise MissingFile(f"{path}: no such file; wanted a record written by evaluate")
    try:
        record = json.loads(Path(path).read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: not a JSON record ({error})") from None
    if not isinstance(record, dict) or not {"scores", "protocol"} <= record.keys():
        raise UserError(f"{path}: not a record of scores; wanted the keys scores and protocol")
    return record


def compare(records: Mapping[str, dict]) -> list[dict]:
    """Rows `{"metric": name, label: score, ...}` of records by label; None where a record lacks the metric.

    A score that is a list gives a row for each of its numbers, called "name 1" and so on.
    ValueError that names the fields, and their values, in which two protocols of one metric differ; only the
    step, the seeds and the number of sets of them, T, the prior's rounds and temperature, and the command may.
    """
    metrics = list(dict.fromkeys(metric for record in records.values() for metric in record["scores"]))
    for metric in metrics:
        protocols = {label: r["protocol"][metric] for label, r in records.items() if metric in r["protocol"]}
        first, *others = protocols
        for other in others:
            if unlike := _differences(protocols[first], protocols[other]):
                raise UserError(f"{metric} of {first} and of {other} are not comparable: {'; '.join(unlike)}")
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


def _differences(a: dict, b: dict) -> list[str]:
    fields = [field for field in dict.fromkeys([*a, *b]) if field not in MAY_DIFFER]
    pairs = [(field, a.get(field), b.get(field)) for field in fields]
    return [f"{field} {x} and {y}" for field, x, y in pairs if x is not None and y is not None and x != y]


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
