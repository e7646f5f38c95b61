"""What `book.toml` says: protocols, experiments, studies, records and tables. Reads and checks; trains nothing.

    [protocol.NAME]    arguments of `tcja_gen.evaluate`; autoencoder and reference are names of files in
                       --autoencoder-dir, recogniser is that of a pretrained model
    [experiment.NAME]  about, protocol, and
                         recipe            name of a recipe of the package, or a file beside book.toml
                         stage = ""        train only this stage of the recipe
                         init_from = ""    weights to start from, a file beside book.toml
                         set = {}          settings that differ from the recipe's, nested as in a recipe; those of a
                                           single stage by its name: set.stage.prior.steps = 4500
                         seeds = [0]       training seeds, a run each
                         sampling = 1      sets of n sampling seeds: 0 .. n - 1, n .. 2n - 1, and so on
                         checkpoint = ""   file beside book.toml that keeps the weights of the first training seed,
                                           in half precision; they are what is scored
                       cpu = {}, gpu = {}  scales at which it can be run, each with the fields above that it changes
    [study.NAME]       an experiment whose protocol looks at validation images, since a study chooses, with
                         cells             by label: settings that differ from the study's, the experiment NAME/LABEL;
                                           or the name of an experiment that has the same settings
                         rows = "cell"     title of the labels in its table
                         columns           of its table
    [record]           NAME = "FILE": a result that stays in the book, although no experiment makes it any more, and
                       its weights, a file beside book.toml; "" if they were not kept
    [table.NAME]       experiments (or records), columns, and published = a data set of `published.toml`
    [summary.NAME]     a short table: score, and rows = experiments (or records) by the label of their row

Every experiment has a third scale, smoke: the first training seed, two steps, 256 images, to see that it runs at all.
"""

import difflib
import hashlib
import tomllib
from collections.abc import Iterable
from dataclasses import dataclass, field, fields, is_dataclass, replace
from pathlib import Path
from typing import Any

from tcja_gen.settings import kind_of, merged
from tcja_gen.training import config as configs
from tcja_gen.training import recipes

SCALES = ("cpu", "gpu", "smoke")
SMOKE = {"steps": 2, "batch": 16, "warmup": 0, "log_every": 1}
OF_STUDIES = ("cells", "rows", "columns")  # what a study has beside an experiment's fields
PLACES = {"seed", *configs.FREE_ON_RESUME} - {"data"}  # settings that a result does not depend on, or tells elsewhere


@dataclass(frozen=True)
class Experiment:
    name: str
    about: str
    recipe: str
    protocol: str
    stage: str = ""
    init_from: str = ""
    set: dict = field(default_factory=dict)
    seeds: list[int] = field(default_factory=lambda: [0])
    sampling: int = 1
    checkpoint: str = ""
    scale: str = "cpu"


@dataclass
class Plan:
    """The book's experiments at one scale, by name; `known` are those of any scale."""

    folder: Path
    experiments: dict[str, Experiment]
    known: dict[str, tuple[str, ...]]  # scales by name
    records: dict[str, str]  # files of weights by name
    studies: dict[str, dict]
    protocols: dict[str, dict]
    tables: dict[str, dict]
    summaries: dict[str, dict]

    def rows(self, table: str) -> dict[str, str]:
        """Experiments by the label of their row, of a study or a table."""
        if table in self.tables:
            return {name: name for name in self.tables[table]["experiments"]}
        found = self.studies[table]["cells"]
        return {label: cell if isinstance(cell, str) else f"{table}/{label}" for label, cell in found.items()}

    def chosen(self, names: Iterable[str]) -> list[Experiment]:
        """Experiments by name, each once; a study's name stands for all its cells."""
        return list({experiment.name: experiment for name in names for experiment in self.named(name)}.values())

    def named(self, name: str) -> list[Experiment]:
        """The experiment of a name, or all cells of a study. ValueError with similar names if there is none."""
        if name in self.records:
            raise ValueError(f"{name} is a record: no experiment makes it again; --check scores its weights")
        members = self.rows(name).values() if name in self.studies else [name]
        if found := [self.experiments[member] for member in members if member in self.experiments]:
            return found
        alike = [known for known in self.known if name in (known, known.split("/")[0])]
        if scales := {scale for known in alike for scale in self.known[known]}:
            raise ValueError(f"{name} cannot be run at this --scale; it has: {', '.join(sorted(scales))}")
        names = [*self.studies, *self.known, *self.records]
        near = difflib.get_close_matches(name, names, 1)
        hint = f"did you mean {near[0]!r}? " if near else ""
        raise ValueError(f"unknown experiment {name!r}; {hint}--list shows them all")

    def config(self, experiment: Experiment, seed: int) -> configs.Config:
        """Settings of a run, apart from where things are. ValueError for one that is unknown."""
        file = self.folder / experiment.recipe
        try:
            config = recipes.load(file if file.is_file() else experiment.recipe)
            if experiment.stage:
                config = configs.one_by_one(config)[experiment.stage]
            config = configs.change(config, merged(experiment.set, {"seed": seed}))
            return configs.change(config, SMOKE) if experiment.scale == "smoke" else config
        except KeyError:
            raise ValueError(f"{experiment.name}: {experiment.recipe} has no stage {experiment.stage!r}") from None
        except ValueError as error:
            raise ValueError(f"{experiment.name}: {error}") from None

    def protocol(self, experiment: Experiment) -> dict:
        """Arguments of `evaluate`, without seeds, and with bare names of files."""
        if experiment.protocol not in self.protocols:
            known = ", ".join(self.protocols)
            raise ValueError(f"{experiment.name}: unknown protocol {experiment.protocol!r}; known: {known}")
        protocol = self.protocols[experiment.protocol]
        return protocol | ({"n": 256} if experiment.scale == "smoke" and "n" in protocol else {})

    def asked(self, experiment: Experiment) -> dict:
        """All that a result depends on, apart from seeds, data and program: settings that are no defaults, the weights
        it starts from, protocol."""
        found: dict = {"settings": settings(self.config(experiment, 0))}
        if experiment.init_from:
            file = self.folder / experiment.init_from
            digest = hashlib.sha256(file.read_bytes()).hexdigest() if file.exists() else "no such file"
            found["init_from"] = {experiment.init_from: digest}
        return found | {"protocol": self.protocol(experiment), "sampling": experiment.sampling}


# settings of a result


def settings(config: configs.Config) -> dict:
    """The settings of a config that are no defaults and that its results depend on, nested as in a recipe."""
    found = changed(replace(config, stages=()))
    found.get("model", {}).pop("kind", None)  # which the task tells
    if config.stages:
        stages = {name: changed(stage) for name, stage in configs.one_by_one(config).items()}
        found["stage"] = [{"name": name} | _of_stage(stage) for name, stage in stages.items()]
    if config.precision == "auto":  # the cost tells which it was
        del found["precision"]
    return {key: value for key, value in found.items() if key not in PLACES}


def _of_stage(stage: dict) -> dict:
    return {key: value for key, value in stage.items() if key in configs.STAGE_KEYS - PLACES}


def changed(part) -> dict:
    """The fields of a dataclass of settings that are no defaults, as a nested table."""
    found, default = {}, type(part)()
    for f in fields(part):
        value = getattr(part, f.name)
        if value == getattr(default, f.name):
            continue
        kind = {"kind": kind_of(f, value)} if "kinds" in f.metadata else {}
        found[f.name] = kind | changed(value) if is_dataclass(value) else value
    return found


# reading


def read(file: Path, scale: str = "cpu") -> Plan:
    """The plan of a file. ValueError that names the file for anything it must not say."""
    try:
        book = tomllib.loads(file.read_text(encoding="utf-8"))
        _known(book, ("protocol", "experiment", "study", "record", "table", "summary"), "table")
        entries, studies, records = dict(book.get("experiment", {})), book.get("study", {}), book.get("record", {})
        for name, study in studies.items():
            entries |= _cells(name, study)
            _known([cell for cell in study["cells"].values() if isinstance(cell, str)], entries, name)
        if odd := [name for name, entry in entries.items() if not isinstance(entry, dict)]:
            raise ValueError(f"experiment {odd[0]} is {entries[odd[0]]!r}; a table is wanted")
        scales = {name: tuple(s for s in SCALES[:2] if s in entry) for name, entry in entries.items()}
        built = {name: _experiment(name, entry, scale) for name, entry in entries.items()}
        for name, table in book.get("table", {}).items():
            _known(_wanted(table, "experiments", list, f"table {name}"), [*entries, *records], f"table {name}")
        for name, summary in book.get("summary", {}).items():
            rows = _wanted(summary, "rows", dict, f"summary {name}")
            _known(rows.values(), [*entries, *records], f"summary {name}")
    except ValueError as error:  # of TOML, too
        raise ValueError(f"{file}: {error}") from None
    experiments = {name: experiment for name, experiment in built.items() if experiment}
    protocols, tables, summaries = (book.get(table, {}) for table in ("protocol", "table", "summary"))
    return Plan(file.parent, experiments, scales, records, studies, protocols, tables, summaries)


def _cells(name: str, study: dict) -> dict[str, dict]:
    """The experiments of a study, by name."""
    _wanted(study, "cells", dict, f"study {name}")
    base = {key: value for key, value in study.items() if key not in OF_STUDIES}
    own = {label: cell for label, cell in study["cells"].items() if isinstance(cell, dict)}
    return {f"{name}/{label}": merged(base, {"set": cell}) for label, cell in own.items()}


def _experiment(name: str, entry: dict, scale: str) -> Experiment | None:
    """The experiment at a scale, None if it does not have it. Smoke takes the first that there is."""
    own = scale if scale != "smoke" else next((s for s in SCALES if s in entry), "cpu")
    if own not in entry:
        return None
    known = [f.name for f in fields(Experiment) if f.name not in ("name", "scale")]
    _known(entry, (*known, *SCALES[:2]), name)
    _known(_wanted(entry, own, dict, name), known, f"{name}.{own}")
    if missing := [key for key in ("about", "recipe", "protocol") if key not in entry]:
        raise ValueError(f"{name}: {', '.join(missing)} is missing")
    both = merged({key: value for key, value in entry.items() if key not in SCALES}, entry[own])
    for f in fields(Experiment):
        wanted = getattr(f.type, "__origin__", f.type)
        if f.name in both and not isinstance(both[f.name], wanted):
            raise ValueError(f"{name}: {f.name} is {both[f.name]!r}; {wanted.__name__} is wanted")
    found = Experiment(name=name, scale=scale, **both)
    return replace(found, seeds=found.seeds[:1], sampling=1, checkpoint="") if scale == "smoke" else found


def _wanted(table: Any, key: str, kind: type, where: str) -> Any:
    """The value of a key that a table must have."""
    if not isinstance(table, dict) or key not in table:
        raise ValueError(f"{where}: {key} is missing")
    if not isinstance(table[key], kind):
        raise ValueError(f"{where}: {key} is {table[key]!r}; {kind.__name__} is wanted")
    return table[key]


def _known(given: Iterable[str], known: Iterable[str], where: str) -> None:
    if unknown := [name for name in given if name not in known]:
        raise ValueError(f"{where}: unknown {unknown[0]!r}; known: {', '.join(known)}")
