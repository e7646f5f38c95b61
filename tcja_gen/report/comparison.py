"""Several runs side by side: settings that differ, curves in one plot, samples of the same seeds, and scores where they
can be compared."""

import itertools
from collections.abc import Mapping, Sequence
from pathlib import Path

from ..errors import UserError
from ..evaluation import energy, protocol
from ..training.runs import statistics
from . import history
from .figures import Lines, curve_panels, curves
from .html import Section, heading, paragraph, table
from .sections import diagrams, strips
from .subject import Subject
from .text import short, size

SEEDS = 8  # samples of each
Sequences = Sequence[Subject]


def compare(names: Sequence[str | Path]) -> str:
    """The settings and scores of several runs as text."""
    subjects = [Subject(name) for name in names]
    comparable, refused = scores(subjects)
    tables = {"": overview(subjects), "settings that differ": settings(subjects), "scores": comparable}
    texts = [_aligned([[title, *map(str, names)], *rows]) for title, rows in tables.items() if rows]
    return "\n\n".join([*texts, *(["not comparable:\n" + "\n".join(refused)] if refused else [])])


def sections(subjects: Sequences) -> list[Section]:
    """The sections of the page that compares."""
    head = ["", *(subject.name for subject in subjects)]
    different, (lines, refused) = settings(subjects), scores(subjects)
    parts = [Section("At a glance", [table(head, [*overview(subjects), *_energies(subjects)])])]
    shown = table(head, different) if different else paragraph("None that can change a result.")
    rule = [] if all(subject.config for subject in subjects) else [paragraph(RULE, "faint")]
    parts.append(Section("Settings that differ", [shown, *rule]))
    parts.append(Section("Curves", _curves(subjects)))
    parts.append(Section("Samples of the same seeds", _samples(subjects)))
    told = [table(head, lines)] if lines else [paragraph("There are no scores that can be compared.", "faint")]
    told += [heading("Not comparable"), *map(paragraph, refused)] if refused else []
    return [*parts, Section("Scores", told)]


RULE = "Of a file of weights, and of what it is compared with, only the settings of the model: it keeps no others."


def overview(subjects: Sequences) -> list[list[str]]:
    """Rows of facts, one column a subject."""
    facts = [subject.model.provenance for subject in subjects]
    rows = [["model", *(size(subject.model) for subject in subjects)]]
    rows.append(["data", *(str(one.get("data", {}).get("name", "unknown")) for one in facts)])
    rows += [[name, *(str(one.get(name, "?")) for one in facts)] for name in ("step", "weights", "seed")]
    validation = [{n: f"{v:.4f}" for n, v in one.get("validation", {}).items()} for one in facts]
    names = dict.fromkeys(name for one in validation for name in one)
    rows += [[f"validation {name}", *(one.get(name, "") for one in validation)] for name in names]
    return rows


def _energies(subjects: Sequences) -> list[list[str]]:
    """A row with the energy of a sample, if all make samples."""
    if not all(subject.samples_are_made for subject in subjects):
        return []
    counted = [subject.sampled[1] for subject in subjects]
    return [["energy of a sample", *(_micro(rows) if isinstance(rows, list) else "not known" for rows in counted)]]


def _micro(rows: list[energy.Row]) -> str:
    return f"{energy.totals(rows)['energy'] / 1e6:.2f} µJ"


def settings(subjects: Sequences) -> list[list[str]]:
    """A row for each setting that is not the same in all, "" where it does not exist.

    A setting that differs between the stages of a run has a row for each stage, with the stage's name in front. If one
    of the subjects is a file of weights, only settings of models are compared: such a file keeps no others.
    """
    every = [_by_stage(subject, all(other.config for other in subjects)) for subject in subjects]
    varying = {key for stages in every for one in stages.values() for key in one if not _is_constant(key, stages)}
    flat = [_flat(stages, varying) for stages in every]
    names = dict.fromkeys(name for one in flat for name in one)
    rows = [[name, *(one.get(name, "") for one in flat)] for name in names]
    return [row for row in rows if len(set(row[1:])) > 1]


def _by_stage(subject: Subject, whole: bool) -> dict[str, dict[str, str]]:
    """All settings that can change a result, as text, by their names, of each stage. Not whole: those of the model."""
    tables = history.tables(subject.config) if whole else {"": {"model": subject.settings}}
    return {name: _leaves(one) for name, one in tables.items()}


def _is_constant(key: str, stages: Mapping[str, Mapping[str, str]]) -> bool:
    return len({one.get(key, "") for one in stages.values()}) == 1


def _flat(stages: Mapping[str, Mapping[str, str]], varying: set[str]) -> dict[str, str]:
    flat = {"stages": ", ".join(filter(None, stages)) or "one"}
    for name, one in stages.items():
        prefix = f"{name}." if name else ""
        flat |= {prefix + key if key in varying else key: value for key, value in one.items()}
    return flat


def _leaves(nested: Mapping, path: str = "") -> dict[str, str]:
    """The values of a nested table, as text, by their dotted names."""
    flat: dict[str, str] = {}
    for key, value in nested.items():
        flat |= _leaves(value, f"{path}{key}.") if isinstance(value, Mapping) else {path + key: str(value)}
    return flat


def _curves(subjects: Sequences) -> list[str]:
    """One plot for each thing that was logged, a line for each run; steps are counted through all stages."""
    titles: dict[str, Lines] = {}
    for subject, label in zip(subjects, _labels([subject.name for subject in subjects]), strict=True):
        for title, lines in _through_stages(subject).items():
            for name, points in lines.items():
                titles.setdefault(title, {})[f"{label}, {name}" if len(lines) > 1 else label] = points
    if not titles:
        return [paragraph("Nothing was logged beside these weights.", "faint")]
    return [paragraph("Steps are counted through all stages of a run.", "faint"), diagrams(curve_panels(titles))]


def _labels(names: list[str]) -> list[str]:
    """The last parts of paths, as many as tell them from each other."""
    for parts in range(1, 1 + max(len(Path(name).parts) for name in names)):
        labels = ["/".join(Path(name).parts[-parts:]) for name in names]
        if len({*labels}) == len({*names}):
            break
    return [f"\u200b{label}" for label in labels]  # pyplot's legends pass over names that begin with _


def _through_stages(subject: Subject) -> dict[str, Lines]:
    joined: dict[str, Lines] = {}
    start = 0
    for folder in subject.stages.values():
        records = statistics(folder)
        for title, lines in curves(records).items():
            for name, points in lines.items():
                shifted = [(start + step, value) for step, value in points]
                joined.setdefault(title, {}).setdefault(name, []).extend(shifted)
        start += max((record["step"] for record in records), default=0)
    return joined


def _samples(subjects: Sequences) -> list[str]:
    rows = [(subject.name, subject.sampled[0][:SEEDS]) for subject in subjects if subject.samples_are_made]
    silent = [subject.name for subject in subjects if not subject.samples_are_made]
    reason = f"{', '.join(silent)}: no samples (a classifier, or no trained prior)."
    return [*([strips(rows)] if rows else []), *([paragraph(reason, "faint")] if silent else [])]


def scores(subjects: Sequences) -> tuple[list[list[str]], list[str]]:
    """Rows of the scores that can be compared, and sentences that say why others cannot."""
    records = {s.name: history.score_records(s) for s in subjects}
    metrics = dict.fromkeys(m for found in records.values() for record in found for m in record["scores"])
    rows, refused = [], list(dict.fromkeys(filter(None, map(history.other_scores, subjects))))
    for metric in metrics:
        having = {name: [r for r in found if metric in r["scores"]] for name, found in records.items()}
        having = {name: found for name, found in having.items() if found}
        if len(having) < 2:
            refused.append(f"{metric}: only {next(iter(having))} has it")
            continue
        try:
            rows += _comparable(metric, having, subjects)
        except UserError as error:
            refused.append(str(error))
    return rows, refused


def _comparable(metric: str, having: dict[str, list[dict]], subjects: Sequences) -> list[list[str]]:
    """The first choice of one record for each run whose protocols agree; the row's name tells where one was sampled by
    other settings than the model's own. UserError, of the last choice, if none agree."""
    error, models = None, {subject.name: subject.model for subject in subjects}
    for choice in itertools.islice(itertools.product(*having.values()), 256):
        one = {name: _only(metric, record) for name, record in zip(having, choice, strict=True)}
        try:
            found = protocol.compare(one)
        except UserError as unlike:
            error = unlike
            continue
        told = {name: history.deviations(record, metric, models[name]) for name, record in one.items()}
        marks = "".join(f" ({name}: {how})" for name, how in told.items() if how)
        return [[row["metric"] + marks, *(_value(row.get(subject.name)) for subject in subjects)] for row in found]
    raise error


def _value(score: float | None) -> str:
    return "" if score is None else short(score)


def _only(metric: str, record: dict) -> dict:
    return {part: {metric: record[part][metric]} for part in ("scores", "protocol")}


def _aligned(rows: list[list[str]]) -> str:
    """Rows as text, in columns."""
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    lines = ("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) for row in rows)
    return "\n".join(line.rstrip() for line in lines)
