"""How a run was trained, read from its folder: stages, settings that differ from the recipe, records of scores."""

import shlex
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

from torch.nn import Module

from ..errors import MissingFile, UserError
from ..evaluation.protocol import read_record
from ..models import store
from ..settings import differences
from ..shipped import recipes as shipped
from ..training import recipes
from ..training.config import FREE_ON_RESUME, Config, as_table, one_by_one
from ..training.runs import statistics
from ..words import scan, switches_of
from .subject import Subject

IGNORED = tuple({*FREE_ON_RESUME} - {"data", "init_from"})  # settings that cannot change the result
FILLED_IN = ("image_size", "image_channels", "image_width", "classes")  # of the model, by the data

Difference = tuple[str, str, str]  # setting, its value in the recipe, and in the run


def stage_rows(subject: Subject) -> list[tuple]:
    """Of each stage: name, what is trained, steps, batch, peak rate, further terms of the loss, samples seen, time."""
    return [_stage_row(name, one, subject.stages.get(name)) for name, one in one_by_one(subject.config).items()]


def _stage_row(name: str, one: Config, folder: Path | None) -> tuple:
    done = store.step_of(store.steps(folder)[-1]) if folder and store.steps(folder) else 0
    steps = f"{done:,}" if done == one.steps else f"{done:,} of {one.steps:,}"
    found = {name: getattr(one.objective, name) for name in ("perceptual", "adversarial", "firing")}
    terms = ", ".join(f"{name} {term.weight:g}" for name, term in found.items() if term)
    seconds = _seconds(statistics(folder), one.batch) if folder else 0
    time = f"{seconds / 60:,.1f} min" if seconds else ""
    return name or "one", one.fit, steps, one.batch, one.lr, terms, done * one.batch, time


def _seconds(records: list[dict], batch: int) -> float:
    """Time of the logged steps, from their speeds."""
    seconds, before = 0.0, 0
    for record in records:
        if speed := record.get("images_per_second"):
            seconds += (record["step"] - before) * batch / speed
            before = record["step"]
    return seconds


def tables(config: Config) -> dict[str, dict]:
    """The settings of each stage that can change the result, by its name."""
    return {
        name: {key: value for key, value in as_table(one).items() if key not in IGNORED}
        for name, one in one_by_one(config).items()
    }


def differences_from_recipe(subject: Subject) -> tuple[str, list[Difference]]:
    """The recipe of a run, and the settings in which the run differs from it.

    The recipe is the one that its command names; if none is named or it is gone, the shipped one of the same task with
    the fewest differences.
    """
    named = _alike(subject.config, _recipes_in(subject.environment.get("command", ""), subject.config))
    found = named or _alike(subject.config, shipped())
    name = min(found, key=lambda name: len(found[name]))
    return name if named else f"{name}, the nearest of those that ship", found[name]


def _alike(config: Config, names: Iterable[str]) -> dict[str, list[Difference]]:
    """The recipes among these names that have the config's task, and the settings in which it differs from them."""
    known = {name: recipe for name in names if (recipe := _loaded(name))}
    return {name: setting_differences(a, config) for name, a in known.items() if a.task == config.task}


def _recipes_in(command: str, config: Config) -> list[str]:
    """The words of a command that can name the recipe of this config: those that are no flag's value."""
    try:
        words = shlex.split(command)
    except ValueError:  # of an earlier version, which did not quote
        words = command.split()
    return [*scan(words, switches_of(config)).words]


def _loaded(word: str) -> Config | None:
    """The recipe of this name or file; None if there is none."""
    try:
        return recipes.load(word) if word in shipped() or word.endswith(".toml") else None
    except (MissingFile, UserError):
        return None


def setting_differences(a: Config, b: Config) -> list[Difference]:
    """Settings in which two configs differ, of those that can change the result. A setting that is not the same in all
    stages has the stage's name in front."""
    ours, theirs = one_by_one(a), one_by_one(b)
    if [*ours] != [*theirs]:
        names = [", ".join(filter(None, one)) or "one" for one in (ours, theirs)]
        first, second = next(iter(ours.values())), next(iter(theirs.values()))
        return [("stages", *names), *_split(_lines(first, second))]
    by_stage = {name: _lines(ours[name], theirs[name]) for name in ours}
    every = list(dict.fromkeys(line for lines in by_stage.values() for line in lines))
    common = [line for line in every if all(line in lines for lines in by_stage.values())]
    special = [f"{name}.{line}" for name, lines in by_stage.items() for line in lines if line not in common]
    return _split([*common, *special])


def _lines(a: Config, b: Config) -> list[str]:
    """Lines of `differences`. What was left to the data or the machine ("auto", 0) agrees with everything."""
    left = {n: getattr(b.model, n) for n in FILLED_IN if not getattr(a.model, n, 1)}
    a = replace(a, model=replace(a.model, **left), precision=b.precision if a.precision == "auto" else a.precision)
    return differences(as_table(a), as_table(b), IGNORED)


def _split(lines: Iterable[str]) -> list[Difference]:
    halves = (line.partition(": ") for line in lines)
    return [(name, *values.split(" -> ", 1)) for name, _, values in halves]


def score_records(subject: Subject) -> list[dict]:
    """The records of scores of the weights that were loaded; first those that were sampled by the model's own
    settings."""
    folder = store.scores_of(subject.model, subject.file)
    found = [read_record(file) for file in sorted(folder.glob("*.json"))] if folder else []
    return sorted(found, key=lambda record: any(deviations(record, name, subject.model) for name in record["scores"]))


def other_scores(subject: Subject) -> str:
    """A sentence that names the other checkpoints of a run that have scores; "" if none has any."""
    folders = dict.fromkeys([subject.run, *subject.stages.values()]) if subject.run else ()
    having = dict.fromkeys(file.parent for folder in folders for file in sorted(folder.glob("scores/*/*.json")))
    own = store.scores_of(subject.model, subject.file)
    others = [str(one.relative_to(subject.run)) for one in having if one.resolve() != own]
    return f"{subject.name}: scores of other checkpoints are left out: {', '.join(others)}" if others else ""


def deviations(record: dict, metric: str, model: Module) -> str:
    """The settings by which a score was sampled, if they are not the model's own: "rounds 4"; else ""."""
    own, asked = getattr(getattr(model, "latent", None), "sampling", {}), record["protocol"].get(metric, {})
    return ", ".join(f"{name} {asked[name]}" for name, value in own.items() if asked.get(name, value) != value)
