"""The settings of a training run: fields are flags, the texts below them their help, TOML is their file.

`Config()` trains on the embedded digits. A recipe may have several stages, tables [[stage]] with a name and the
settings in which they differ from the rest: each fits a part of the same model, and goes on from the one before.
"""

import codecs
import difflib
import re
import tomllib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any, Literal

from ..errors import MissingFile, UserError
from ..models.first_format import MOVED
from ..models.settings import MODELS, Generator, Network
from ..nn.objectives import OBJECTIVES, CrossEntropy
from ..ranges import check_ranges, setting
from ..settings import dump, optional, part, table, typed, update
from ..shipped import recipes
from .adversary import Adversarial
from .perceptual import Perceptual


@dataclass(frozen=True)
class Objective:
    """Terms of the loss, beside the squared error of a generator's images and the divergence of its latent. A term that
    is not named does not exist."""

    classification: CrossEntropy = part(lambda: OBJECTIVES, CrossEntropy())
    """Of a classifier, or of a generator with a head: ce (cross-entropy of the mean over time), tet, smse (squared
    error of every step, the paper's) or rate-mse (of the rates)."""
    perceptual: Perceptual | None = optional(Perceptual)
    """Distance of images by the features of a classifier of the training set."""
    adversarial: Adversarial | None = optional(Adversarial)
    """Judgement of a spiking discriminator that is trained beside the generator; AdamW's betas are then 0.5, 0.99."""


@dataclass(frozen=True)
class StageSettings:
    """Settings that each stage of a recipe may have of its own."""

    fit: Literal["all", "autoencoder", "decoder", "prior"] = "all"
    """What of a generator is trained: all of it; all but the prior; or the decoder or prior of a trained autoencoder
    (the stage before, or --init-from), whose other weights stay."""
    steps: int = setting(2000, least=1)
    """Optimiser steps."""
    batch: int = setting(128, least=1)
    """Images a step, over all processes."""
    lr: float = setting(2e-3, above=0)
    """Peak learning rate of AdamW."""
    prior_lr: float = setting(1.0, above=0)
    """Learning rate of the latent's prior, as a multiple of lr (ESVAE: 10)."""
    warmup: int = setting(100, least=0)
    """Steps of linear warm-up."""
    schedule: Literal["cosine", "constant"] = "cosine"
    """Learning rate after the warm-up."""
    weight_decay: float = setting(1e-3, least=0)
    """AdamW's."""
    clip: float = setting(1.0, least=0)
    """Largest gradient norm; 0: no clipping."""
    ema: float = setting(0.995, least=0, below=1)
    """Decay of the weights' moving average, which is what is sampled; 0: none."""
    flip: bool = False
    """Mirror training images at random."""
    shift: int = setting(0, least=0)
    """Shift training images at random by up to so many pixels."""
    augment: str = ""
    """Of event frames in training, with commas: flip, roll, rotation, shear, cutout; nda: all of them."""
    mixup: float = setting(0.0, least=0)
    """Blend training samples and their classes, by Beta(mixup, mixup); 0: not."""
    freeze: bool = False
    """Leave the encoder's weights as they are (with init_from and a head of logits alone: a linear probe). A random
    encoder still learns its running statistics."""
    checkpoint_every: int = setting(500, least=1)
    """Steps between checkpoints (and scores on validation images)."""
    objective: Objective = field(default_factory=Objective)
    """Terms of the loss."""


@dataclass(frozen=True)
class Stage:
    """A stage of a recipe: its name, and a nested table of the `StageSettings` in which it differs from the recipe."""

    name: str
    changes: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Config(StageSettings):
    """A training run."""

    task: Literal["generate", "classify"] = "generate"
    """What is trained: a generator or a classifier."""
    data: str = "digits"
    """digits, mnist, fashion-mnist, cifar10, cifar100, celeba, or an image folder or zip; to classify also
    dvs128-gesture, cifar10-dvs, n-caltech101, n-mnist, or a folder of events in SpikingJelly's layout."""
    data_root: str = "data"
    """Folder of the named data sets, in torchvision's layout."""
    download: bool = False
    """Fetch a named data set that is not there."""
    out: str = ""
    """Run folder; default: runs/ with the next number."""
    seed: int = setting(0, least=0, below=2**63)
    """Of weights, batches and draws."""
    events_by: Literal["number", "time"] = "number"
    """Event frames hold equally many events, or equally long times."""
    init_from: str = ""
    """Run, checkpoint or name of a pretrained model to start from, of either task."""
    init: Literal["auto", "all", "encoder"] = "auto"
    """Which weights of init_from: all (train longer, or on other data), or the encoder's; auto: the encoder's, or, to
    fit a decoder or a prior, those of the autoencoder."""
    precision: Literal["fp32", "bf16", "auto"] = "fp32"
    """Of convolutions and products; membranes and statistics are always fp32. auto: bf16 where the device has
    instructions for it (without them it is many times slower than fp32), else fp32; the run keeps what it was."""
    compile: Literal["auto", "on", "off"] = "auto"
    """Kernels for normalisation and neurons, compiled once a machine; auto: where there is a compiler (or Triton)."""
    graph: Literal["auto", "on", "off"] = "auto"
    """Training steps as a CUDA graph, which keeps a GPU busy with small networks; auto: in one process on a GPU."""
    memory: Literal["speed", "recompute"] = "speed"
    """recompute: keep only the spikes between layers, a byte each, and compute the rest twice (large T and images)."""
    device: str = "auto"
    """cpu, cuda, cuda:1; auto: a GPU if there is one."""
    log_every: int = setting(50, least=1)
    """Steps between lines of statistics."""
    sample_every: int = setting(500, least=0)
    """Steps between grids of samples and reconstructions; 0: only at the end."""
    keep_every: int = setting(0, least=0)
    """Checkpoints at multiples of this are never deleted; 0: the last two and the best are kept."""
    model: Network = part(lambda: {"generate": Generator, "classify": MODELS["classifier"]}, None)
    """The model, of the kind that the task wants."""
    stages: tuple[Stage, ...] = ()
    """Stages, [[stage]] in a recipe; none: the settings above are of the only one."""

    def __post_init__(self):
        if self.model is None:
            object.__setattr__(self, "model", _model_of(self.task)())
        check_ranges(self, "config: ")
        for name in ("data", "data_root", "out", "init_from"):
            value = getattr(self, name)
            if value != value.encode(errors="ignore").decode() or "\0" in value:
                raise UserError(f"config: {name} is {value!r}, which is no UTF-8: take another name")
        if type(self.model) is not _model_of(self.task):
            raise UserError(f"config: task is {self.task!r}, its model is not a {type(self.model).__name__}")


STAGE_KEYS = {f.name for f in fields(StageSettings)}
FREE_ON_RESUME = (  # of the data the fingerprint is compared, wherever they are
    "out",
    "data",
    "data_root",
    "download",
    "init_from",  # whose weights have been taken over
    "compile",
    "graph",
    "memory",
    "device",
    "log_every",
    "sample_every",
    "checkpoint_every",
)


def _model_of(task: str) -> type[Network]:
    return MODELS[{"generate": "generator", "classify": "classifier"}[task]]


# what goes together


def check(config: Config) -> Config:
    """The same config. UserError for settings that contradict each other, or that nothing reads."""
    if config.init != "auto" and not config.init_from:
        raise UserError(f"config: init = {config.init!r} has no meaning without init_from")
    if config.stages:
        _check_stages(config)
    elif config.task == "classify":
        _check_classifier(config)
    else:
        _check_generator(config)
    return config


def _check_classifier(config: Config) -> None:
    """UserError for settings that a classifier has no use for."""
    unread = {
        "fit": config.fit != "all",
        "objective.perceptual": config.objective.perceptual,
        "objective.adversarial": config.objective.adversarial,
        "sample_every": config.sample_every not in (0, Config.sample_every),
    }
    for name in filter(unread.get, unread):
        raise UserError(f"config: {name} has no meaning with task = 'classify', which makes no images")


def _check_generator(config: Config) -> None:
    """UserError for settings of a generator that contradict each other, or that nothing reads."""
    fit, objective = config.fit, config.objective
    if not config.model.head and objective.classification != CrossEntropy():
        raise UserError("config: objective.classification has no meaning in a generator without a head")
    for name in ("perceptual", "adversarial"):
        if fit == "prior" and getattr(objective, name):
            raise UserError(f"config: objective.{name} has no meaning with fit = 'prior', which compares no images")
    if fit in ("decoder", "prior") and config.freeze:
        raise UserError(f"config: freeze has no meaning with fit = {fit!r}, which leaves the encoder as it is")
    if fit in ("decoder", "prior") and objective.classification != CrossEntropy():
        raise UserError(f"config: objective.classification has no meaning with fit = {fit!r}, which trains no head")
    if fit == "prior" and not config.model.latent.divergence_weight:
        raise UserError("config: model.latent.divergence_weight is 0, and with fit = 'prior' nothing would be trained")


def _check_stages(config: Config) -> None:
    """UserError if the stages cannot follow each other."""
    names = [stage.name for stage in config.stages]
    for name in names:
        if not re.fullmatch(r"[a-z0-9][a-z0-9_-]*", name):
            raise UserError(f"stage {name!r}: a name has small letters, digits and dashes, as its folder will")
        if names.count(name) > 1:
            raise UserError(f"stage {name!r}: there are two of this name")
    if changed := [name for name in STAGE_KEYS if getattr(config, name) != getattr(Config(), name)]:
        raise UserError(f"config: {changed[0]} belongs into the stages, which have their own")
    for name, one in one_by_one(config).items():
        with _of_stage(name):
            check(one)


def one_by_one(config: Config) -> dict[str, Config]:
    """The runs that a config stands for, by the names of its stages; of one without stages itself, by no name."""
    if not config.stages:
        return {"": config}
    alone, made = replace(config, stages=()), {}
    for stage in config.stages:
        if unknown := [key for key in stage.changes if key not in STAGE_KEYS]:
            raise UserError(
                f"stage {stage.name!r}: {unknown[0]!r} is no setting of a stage; known: {', '.join(sorted(STAGE_KEYS))}"
            )
        with _of_stage(stage.name):
            made[stage.name] = update(alone, stage.changes)
    return made


@contextmanager
def _of_stage(name: str) -> Iterator[None]:
    """A UserError within tells the stage that it is about."""
    try:
        yield
    except UserError as error:
        raise UserError(f"stage {name!r}: {error}") from None


# changes


def change(config: Config, changes: Mapping[str, Any], stage: str = "") -> Config:
    """`config` with settings changed, nested as in a file. If it has stages, settings that stages have of their own are
    changed in all of them, or in the one that is named. UserError for an unknown key or an unlike type, or for settings
    that contradict each other.

    "stage" is a list of tables, which are the stages from now on, or a table of changes by name.
    """
    return check(unchecked(config, changes, stage))


def unchecked(config: Config, changes: Mapping[str, Any], stage: str = "") -> Config:
    """The same while some of the changes are still to come, by which settings go together that now do not."""
    changes = dict(changes)
    _check_moved(changes)
    if "stages" in changes:
        raise UserError("unknown key 'stages': a stage is a table [[stage]]")
    if changes.get("task", config.task) != config.task:
        task = typed("task", changes.pop("task"), Config.__annotations__["task"])
        config = replace(config, task=task, model=None)
    of_stages = changes.pop("stage", None)
    stages = config.stages if of_stages is None else _stages(config.stages, of_stages)
    if stage and stage not in [each.name for each in stages]:
        known = ", ".join(each.name for each in stages) or "none, it is trained in one go"
        raise UserError(f"no stage {stage!r} in this recipe; known: {known}")
    if stages:
        common = {key: changes.pop(key) for key in [*changes] if key in STAGE_KEYS}
        weaker = isinstance(of_stages, list | tuple)  # what stands above the stages in a file
        stages = tuple(
            replace(each, changes=_merged(common, each.changes) if weaker else _merged(each.changes, common))
            if stage in ("", each.name)
            else each
            for each in stages
        )
    return replace(update(replace(config, stages=()), changes), stages=stages)


def _stages(stages: tuple[Stage, ...], changes: list | Mapping) -> tuple[Stage, ...]:
    if isinstance(changes, Mapping):
        names = [stage.name for stage in stages]
        if unknown := [name for name in changes if name not in names]:
            raise UserError(f"no stage {unknown[0]!r} in this recipe; known: {', '.join(names) or 'none'}")
        return tuple(replace(stage, changes=_merged(stage.changes, changes.get(stage.name, {}))) for stage in stages)
    if not isinstance(changes, list | tuple) or not all(isinstance(one, Mapping) and "name" in one for one in changes):
        raise UserError("key 'stage' is a list of tables, each with a name: [[stage]]")
    return tuple(Stage(str(one["name"]), {k: v for k, v in one.items() if k != "name"}) for one in changes)


def _merged(old: Mapping, new: Mapping) -> dict:
    """Two nested tables, of which the second one counts."""
    both = {**old, **new}
    for key in old:
        if isinstance(old[key], Mapping) and isinstance(new.get(key), Mapping):
            both[key] = _merged(old[key], new[key])
    return both


RENAMED = {
    "perceptual": "objective.perceptual.weight",
    "adversarial": "objective.adversarial.weight",
    "discriminator": "objective.adversarial.network",
    "noise": "objective.adversarial.noise",
    **{f"model.{old}": new.replace("objective.", "objective.classification.", 1) for old, new in MOVED.items()},
}


def _check_moved(changes: Mapping[str, Any]) -> None:
    """UserError that tells the new name of a setting that had another one once."""
    model = changes.get("model")
    if isinstance(model, Mapping) and "kind" in model:
        raise UserError("model.kind: the kind of a model follows from task, generate or classify")
    flat = {
        **changes,
        **{f"model.{key}": value for key, value in (model if isinstance(model, Mapping) else {}).items()},
    }
    for old in RENAMED:
        if old in flat and not isinstance(flat[old], Mapping):
            raise UserError(f"{old} is called {RENAMED[old]} now")


def scaled(config: Config, factor: float) -> Config:
    """A shorter (or longer) training: steps, warm-up and steps between checkpoints, of every stage, times `factor`."""
    if factor == 1:
        return config
    stages = one_by_one(config)
    changes = {
        name: {key: max(round(getattr(one, key) * factor), least) for key, least in SCALED.items()}
        for name, one in stages.items()
    }
    return change(config, {"stage": changes} if config.stages else changes[""])


SCALED = {"steps": 1, "warmup": 0, "checkpoint_every": 1}  # settings that count steps, and their least value


# files


def find_recipe(name: str | Path) -> Path:
    """A TOML file, or that of a recipe that comes with the package. MissingFile if there is neither."""
    path = Path(name)
    if path.is_file():
        return path
    if path.is_dir() and path.suffix != ".toml" and str(name) not in recipes():
        raise UserError(f"{path}: a folder, a recipe is wanted; --resume {path} goes on with a run")
    if str(name) in recipes():
        return recipes()[str(name)]
    near = difflib.get_close_matches(str(name), recipes(), 1)
    hint = f"did you mean {near[0]!r}? " if near else ""
    raise MissingFile(f"{name}: no such file, and no recipe of this name; {hint}tcja-gen list names them")


def load(name: str | Path) -> Config:
    """Config of a TOML file or of a recipe's name; what it does not tell keeps its default. UserError that names file
    and key."""
    path = find_recipe(name)
    settings = read(path)
    try:
        return change(Config(), settings)
    except UserError as error:
        raise UserError(f"{path}: {error}") from None


def read(path: Path) -> dict:
    """What a TOML file says. The mark that Windows' editors put before UTF-8 is no part of it."""
    data = path.read_bytes()
    if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        raise UserError(f"{path}: text in UTF-16, TOML is UTF-8: save it as UTF-8")
    try:
        return tomllib.loads(data.decode("utf-8-sig"))
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: not UTF-8 ({error.reason} at byte {error.start}): save it as UTF-8") from None
    except (ValueError, RecursionError) as error:  # TOMLDecodeError, or a number that is too long
        raise UserError(f"{path}: not TOML: {error}") from None


def as_table(config: Config) -> dict[str, Any]:
    """All settings, nested as in a file; `change(Config(), as_table(config))` is the same config."""
    made = table(replace(config, stages=()))
    del made["stages"], made["model"]["kind"]  # which the task tells
    if config.stages:
        made = {key: value for key, value in made.items() if key not in STAGE_KEYS}
        made["stage"] = [{"name": stage.name, **stage.changes} for stage in config.stages]
    return made


def text(config: Config) -> str:
    """TOML of all settings. `load` of it gives the same config."""
    return dump(as_table(config))
