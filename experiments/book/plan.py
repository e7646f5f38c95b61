"""What `book.toml` says: experiments, studies, protocols and tables. Reads, checks, trains nothing.

    [protocol.NAME]    arguments of `tcja_gen.evaluate`; autoencoder and reference are names of files that are looked
                       for in --autoencoder-dir
    [experiment.NAME]  about, recipe, protocol, and, if they differ from the defaults:
                         seeds = [0]       training seeds, a run each
                         sampling = 1      sets of n sampling seeds: 0 .. n - 1, n .. 2n - 1, and so on
                         set = {}          settings that it changes in the recipe
                         after = {}        settings that are another experiment's run of the same training seed, which
                                           is made first: after = { init_from = "first-stage" }; or a kept file of
                                           weights, from here: after = { init_from = "weights/mnist.safetensors" }
                         checkpoint = ""   file, from here, that keeps the weights of the first training seed
                       cpu = {}, gpu = {}  the scales that it has, each with the fields above that it changes
    [study.NAME]       an experiment whose cells are experiments NAME/CELL with changes of their own:
                         cells             by label; a text is the name of an experiment whose row is the same
                         grid              axes, all combinations of them: a list of what {axis} stands for in texts
                                           of `set`, a list of values of a setting, or changes by label
                         columns           of its table
    [table.NAME]       experiments, columns, and published = a data set of `published.toml`

Every experiment has a third scale, smoke: the first training seed, two steps, 256 images, to see that it runs at all.
"""

import difflib
import itertools
import re
import tomllib
from collections.abc import Iterable
from dataclasses import dataclass, field, fields, replace
from functools import reduce
from pathlib import Path

from tcja_gen import config as configs

SCALES = ("cpu", "gpu", "smoke")
SMOKE = {"steps": 2, "batch": 16, "warmup": 0, "log_every": 1}


@dataclass(frozen=True)
class Experiment:
    name: str
    about: str
    recipe: str
    protocol: str
    seeds: list[int] = field(default_factory=lambda: [0])
    sampling: int = 1
    set: dict = field(default_factory=dict)
    after: dict = field(default_factory=dict)
    checkpoint: str = ""
    scale: str = "cpu"


@dataclass
class Plan:
    """The book's experiments at one scale, by name; `known` are those of any scale."""

    folder: Path
    experiments: dict[str, Experiment]
    known: dict[str, tuple[str, ...]]  # scales by name
    studies: dict[str, dict]
    protocols: dict[str, dict]
    tables: dict[str, dict]

    def rows(self, table: str) -> dict[str, str]:
        """Experiments by the label of their row, of a study or a table."""
        if table in self.tables:
            return {name: name for name in self.tables[table]["experiments"]}
        found = cells(self.studies[table])
        return {label: cell if isinstance(cell, str) else f"{table}/{label}" for label, cell in found.items()}

    def chosen(self, names: list[str]) -> list[Experiment]:
        """Experiments by name, each behind those that it comes after; a study's name stands for all its cells."""
        found: dict[str, Experiment] = {}
        for name in names:
            for experiment in self.named(name):
                for first in experiment.after.values():
                    if not is_file(first):
                        found |= {e.name: e for e in self.chosen([first])}
                found[experiment.name] = experiment
        return list(found.values())

    def named(self, name: str) -> list[Experiment]:
        """The experiment of a name, or all cells of a study. ValueError with names that are alike if there is none."""
        members = self.rows(name).values() if name in self.studies else [name]
        if found := [self.experiments[member] for member in members if member in self.experiments]:
            return found
        alike = [known for known in self.known if name in (known, known.split("/")[0])]
        if scales := {scale for known in alike for scale in self.known[known]}:
            raise ValueError(f"{name} is not to be run at this --scale; it has: {', '.join(sorted(scales))}")
        names = [*self.studies, *self.known]
        near = difflib.get_close_matches(name, names, 1)
        hint = f"did you mean {near[0]!r}? " if near else ""
        raise ValueError(f"unknown experiment {name!r}; {hint}--list tells them all")

    def config(self, experiment: Experiment, seed: int) -> configs.Config:
        """Settings of a run, apart from where things are: what it comes after is there by its name. ValueError for
        one that is unknown."""
        changes = merged(experiment.set, {**experiment.after, "seed": seed})
        if experiment.scale == "smoke":
            changes = merged(changes, SMOKE)
        try:
            recipe = tomllib.loads((self.folder / experiment.recipe).read_text(encoding="utf-8"))
            return configs.update(configs.Config(), merged(recipe, changes))
        except ValueError as error:
            raise ValueError(f"{experiment.name}: {error}") from None

    def asked(self, experiment: Experiment) -> dict:
        """Arguments of `evaluate`, without seeds and with mere names of files."""
        if experiment.protocol not in self.protocols:
            known = ", ".join(self.protocols)
            raise ValueError(f"{experiment.name}: unknown protocol {experiment.protocol!r}; known: {known}")
        asked = self.protocols[experiment.protocol]
        return asked | ({"n": 256} if experiment.scale == "smoke" and "n" in asked else {})


def read(file: Path, scale: str = "cpu") -> Plan:
    """ValueError naming the file for what it should not say."""
    try:
        book = tomllib.loads(file.read_text(encoding="utf-8"))
        _known(book, ("protocol", "experiment", "study", "table"), "table")
        entries, studies = dict(book.get("experiment", {})), book.get("study", {})
        for name, study in studies.items():
            found = cells(study).items()
            entries |= {f"{name}/{label}": cell for label, cell in found if isinstance(cell, dict)}
            _known([cell for _, cell in found if isinstance(cell, str)], entries, name)
        scales = {name: tuple(s for s in SCALES[:2] if s in entry) for name, entry in entries.items()}
        built = {name: _experiment(name, entry, scale) for name, entry in entries.items()}
        for name, told in book.get("table", {}).items():
            _known(told["experiments"], entries, f"table {name}")
    except ValueError as error:  # of TOML, too
        raise ValueError(f"{file}: {error}") from None
    experiments = {name: experiment for name, experiment in built.items() if experiment}
    return Plan(file.parent, experiments, scales, studies, book.get("protocol", {}), book.get("table", {}))


def _experiment(name: str, entry: dict, scale: str) -> Experiment | None:
    """The experiment at a scale, None if it does not have it. Smoke takes the first that there is."""
    own = scale if scale != "smoke" else next((s for s in SCALES if s in entry), "cpu")
    if own not in entry:
        return None
    known = [f.name for f in fields(Experiment) if f.name not in ("name", "scale")]
    _known(entry, (*known, *SCALES[:2]), name)
    _known(entry[own], known, f"{name}.{own}")
    if missing := [key for key in ("about", "recipe", "protocol") if key not in entry]:
        raise ValueError(f"{name}: {', '.join(missing)} is missing")
    both = merged({key: value for key, value in entry.items() if key not in SCALES}, entry[own])
    for f in fields(Experiment):
        wanted = getattr(f.type, "__origin__", f.type)
        if f.name in both and not isinstance(both[f.name], wanted):
            raise ValueError(f"{name}: {f.name} is {both[f.name]!r}; {wanted.__name__} is wanted")
    found = Experiment(name=name, scale=scale, **both)
    return replace(found, seeds=found.seeds[:1], sampling=1, checkpoint="") if scale == "smoke" else found


def _known(given: Iterable[str], known: Iterable[str], where: str) -> None:
    if unknown := [name for name in given if name not in known]:
        raise ValueError(f"{where}: unknown {unknown[0]!r}; known: {', '.join(known)}")


def is_file(first: str) -> bool:
    """Whether what an experiment comes after is a file, not an experiment's name."""
    return first.endswith(".safetensors")


def cells(study: dict) -> dict[str, dict | str]:
    """Entries of cells, or names of experiments, by label: those written out, then the grid's, in its order."""
    base = {key: value for key, value in study.items() if key not in ("cells", "grid", "columns")}
    given = study.get("cells", {}).items()
    found = {label: c if isinstance(c, str) else merged(base, {"set": c}) for label, c in given}
    axes = [_axis(name, values, str(study)) for name, values in study.get("grid", {}).items()]
    for combination in itertools.product(*axes) if axes else ():
        labels, changes, words = zip(*combination, strict=True)
        cell = merged(base, {"set": reduce(merged, changes)})
        found[", ".join(labels)] = _filled(cell, reduce(merged, words))
    return found


def _axis(name: str, values: dict | list, text: str) -> list[tuple[str, dict, dict]]:
    """Label, changes and words to fill in, of each value of an axis."""
    if isinstance(values, dict):
        return [(label, changes, {}) for label, changes in values.items()]
    if f"{{{name}}}" in text:
        return [(str(value), {}, {name: str(value)}) for value in values]
    return [(str(value), _nested(name, value), {}) for value in values]


def _nested(key: str, value) -> dict:
    """{"model": {"k": 1}} of "model.k" and 1."""
    for part in reversed(key.split(".")):
        value = {part: value}
    return value


def _filled(value, words: dict[str, str]):
    """`value`, nested, with each {name} in its texts replaced."""
    if isinstance(value, dict):
        return {key: _filled(item, words) for key, item in value.items()}
    if isinstance(value, str):
        return re.sub(r"\{(\w+)\}", lambda found: words.get(found[1], found[0]), value)
    return value


def merged(a: dict, b: dict) -> dict:
    """Nested dicts: b's values, and a's where b has none."""
    return a | {k: merged(a[k], v) if isinstance(v, dict) and isinstance(a.get(k), dict) else v for k, v in b.items()}
