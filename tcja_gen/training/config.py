"""The settings of a training run, and of its stages.

Each field is a flag of `tcja-gen train`, and the text below it is the flag's help. `Config()` trains on the embedded
digits. A recipe can have several stages, which are tables [[stage]] with a name and the settings that are special to
the stage. Each stage fits a part of the same model and starts from the stage before.
"""

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, fields, is_dataclass, replace
from pathlib import Path
from typing import Any, Literal

from ..errors import UserError
from ..files import last_part
from ..models.first_format import MOVED
from ..models.settings import MODELS, Generator, Network
from ..nn.objectives import OBJECTIVES, CrossEntropy
from ..ranges import check_ranges, setting
from ..settings import dump, merged, optional, part, table, typed, update
from .adversary import Adversarial
from .firing import Firing
from .perceptual import Perceptual


@dataclass(frozen=True)
class Objective:
    """Terms of the loss, in addition to a generator's reconstruction error and divergence. A term that is not named
    does not exist."""

    classification: CrossEntropy = part(lambda: OBJECTIVES, CrossEntropy())
    """Loss of a classifier, or of a generator's head. ce: cross-entropy of the mean over time; tet; smse: squared error
    of every time step (the paper's); rate-mse: squared error of the rates."""
    perceptual: Perceptual | None = optional(Perceptual)
    """Distance of images in the features of a classifier of the training set."""
    adversarial: Adversarial | None = optional(Adversarial)
    """Loss against a spiking discriminator that is trained with the generator; AdamW's betas are then 0.5, 0.99."""
    firing: Firing | None = optional(Firing)
    """Cost of spikes: a network that fires less takes less energy. Scores on validation samples are without it."""


@dataclass(frozen=True)
class StageSettings:
    """Settings that each stage of a recipe can set for itself."""

    fit: Literal["all", "autoencoder", "decoder", "prior"] = "all"
    """Which part of a generator is trained. all: everything; autoencoder: everything but the prior; decoder or prior:
    only that part of a trained autoencoder (the stage before, or --init-from)."""
    steps: int = setting(2000, least=1)
    """Training steps."""
    batch: int = setting(128, least=1)
    """Images per step, in all processes together."""
    lr: float = setting(2e-3, above=0)
    """Peak learning rate of AdamW."""
    prior_lr: float = setting(1.0, above=0)
    """Learning rate of the prior, as a multiple of lr (ESVAE: 10)."""
    warmup: int = setting(100, least=0)
    """Steps of linear warm-up."""
    schedule: Literal["cosine", "constant"] = "cosine"
    """Learning rate after the warm-up."""
    weight_decay: float = setting(1e-3, least=0)
    """Weight decay of AdamW."""
    clip: float = setting(1.0, least=0)
    """Gradients are clipped to this norm; 0: no clipping."""
    ema: float = setting(0.995, least=0, below=1)
    """Decay of the moving average of the weights, which is the model that is used; 0: no average."""
    flip: bool = False
    """Mirror training images at random."""
    shift: int = setting(0, least=0)
    """Shift training images at random by up to this many pixels."""
    augment: str = ""
    """Augmentation of event frames, separated by commas: flip, roll, rotation, shear, cutout; nda: all of them."""
    mixup: float = setting(0.0, least=0)
    """Blend pairs of training samples and their classes with weights from Beta(mixup, mixup); 0: no blending."""
    freeze: bool = False
    """Do not train the encoder's weights. With init_from and a head that is only a linear layer, this is a linear
    probe. The running statistics of a random encoder are still updated."""
    checkpoint_every: int = setting(500, least=1)
    """Steps between checkpoints, which are scored on validation images."""
    objective: Objective = field(default_factory=Objective)
    """Terms of the loss."""


@dataclass(frozen=True)
class Stage:
    """A stage of a recipe: its name, and the `StageSettings` that it changes, as a nested table."""

    name: str
    changes: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Config(StageSettings):
    """A training run."""

    task: Literal["generate", "classify"] = "generate"
    """What is trained: a generator or a classifier."""
    data: str = "digits"
    """digits, mnist, fashion-mnist, cifar10, cifar100, celeba, celeba-10k, or a folder or zip of images. Event
    recordings: dvs128-gesture, cifar10-dvs, n-caltech101, n-mnist, or a folder of them; a generator then has readout
    frames."""
    data_root: str = "data"
    """Folder of the named data sets, in torchvision's layout."""
    download: bool = False
    """Download a named data set if it is missing."""
    out: str = ""
    """Run folder; default: runs/ with the next number."""
    seed: int = setting(0, least=0, below=2**63)
    """Seed of weights, batches and all random numbers."""
    events_by: str = "number"
    """How events are cut into frames: number, an equal number of events; time, equal duration; or a plugin's."""
    folds: int = setting(0, least=0)
    """Cross-validation on event recordings: all of them are cut into so many folds, alike in classes, of which one
    validates and the others train; 0: the set's own splits."""
    fold: int = setting(-1, least=-1)
    """With folds: the number of the fold that validates, from 0; -1: seed mod folds."""
    init_from: str = ""
    """Run, checkpoint or name of a pretrained model whose weights the training starts from. Its task may differ."""
    init: Literal["auto", "all", "encoder"] = "auto"
    """Which weights of init_from are used. all: every weight (to train longer, or on other data); encoder: the
    encoder's; auto: the autoencoder's if a decoder or prior is fitted, else the encoder's."""
    precision: Literal["fp32", "bf16", "auto"] = "fp32"
    """Precision of convolutions and matrix products; membranes and statistics are always fp32. auto: bf16 if the device
    has instructions for it, else fp32 (without them bf16 is many times slower). A resumed run keeps its precision."""
    compile: Literal["auto", "on", "off"] = "auto"
    """Compiled kernels for normalisation and neurons. auto: if there is a C++ compiler, or Triton on a GPU."""
    graph: Literal["auto", "on", "off"] = "auto"
    """Run training steps as a CUDA graph, which makes small networks fast on a GPU. auto: in one process on a GPU."""
    memory: Literal["speed", "recompute"] = "speed"
    """recompute: store only the spikes between layers, one byte each, and compute the rest twice; on a CPU, give freed
    memory back at once, too. For large T and images."""
    device: str = "auto"
    """cpu, cuda, cuda:1; auto: a GPU if there is one."""
    log_every: int = setting(50, least=1)
    """Steps between log lines."""
    sample_every: int = setting(500, least=0)
    """Steps between grids of samples and reconstructions; 0: only at the end."""
    keep_every: int = setting(0, least=0)
    """Never delete checkpoints at multiples of this; 0: keep only the last two and the best."""
    model: Network = part(lambda: {"generate": Generator, "classify": MODELS["classifier"]}, None)
    """The model, of the kind that the task needs."""
    stages: tuple[Stage, ...] = ()
    """Stages, [[stage]] in a recipe; none: the training has one stage with the settings above."""

    def __post_init__(self):
        if self.model is None:
            object.__setattr__(self, "model", _model_of(self.task)())
        check_ranges(self, "config: ")
        for name in ("data", "data_root", "out", "init_from"):
            value = getattr(self, name)
            if value != value.encode(errors="ignore").decode() or "\0" in value:
                raise UserError(f"config: {name} is {value!r}, which is no UTF-8: use another name")
        if type(self.model) is not _model_of(self.task):
            raise UserError(f"config: task is {self.task!r}, its model is not a {type(self.model).__name__}")


STAGE_KEYS = {f.name for f in fields(StageSettings)}
FREE_ON_RESUME = (  # settings that may change when a run is resumed
    "out",
    "data",  # the fingerprint of the images is compared instead
    "data_root",
    "download",
    "init_from",  # its weights have been taken over already
    "compile",
    "graph",
    "memory",
    "device",
    "log_every",
    "sample_every",
    "checkpoint_every",
    "keep_every",
)


def _model_of(task: str) -> type[Network]:
    return MODELS[{"generate": "generator", "classify": "classifier"}[task]]


# checks


def check(config: Config) -> Config:
    """The same config. UserError for settings that contradict each other, or that nothing reads."""
    if config.folds == 1 or config.fold >= max(config.folds, 0):
        raise UserError(
            f"config: fold {config.fold} of folds = {config.folds}; wanted 2 folds or more, and one of them"
        )
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
    """UserError for settings that have no meaning for a classifier."""
    unread = {
        "fit": config.fit != "all",
        "objective.perceptual": config.objective.perceptual,
        "objective.adversarial": config.objective.adversarial,
        "sample_every": config.sample_every not in (0, Config.sample_every),
    }
    for name in filter(unread.get, unread):
        raise UserError(f"config: {name} has no meaning with task = 'classify', which makes no images")


def _check_generator(config: Config) -> None:
    """UserError for settings of a generator that contradict each other or have no effect."""
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
            raise UserError(f"stage {name!r}: a name has lower-case letters, digits, - and _, as it names a folder")
        if names.count(name) > 1:
            raise UserError(f"stage {name!r}: there are two of this name")
    if objects := [stage.name for stage in config.stages if not _is_plain(stage.changes)]:
        raise UserError(f"stage {objects[0]!r}: its parts are written as tables, dict(weight=...), and not as objects")
    if changed := [name for name in STAGE_KEYS if getattr(config, name) != getattr(Config(), name)]:
        raise UserError(f"config: {changed[0]} must be set in the stages, as each has its own")
    for name, one in one_by_one(config).items():
        with _of_stage(name):
            check(one)


def fold_of(config: Config) -> tuple[int, int] | None:
    """Which fold of how many validates; None for the data's own splits."""
    if not config.folds:
        return None
    return (config.seed % config.folds if config.fold < 0 else config.fold), config.folds


def _is_plain(value: Any) -> bool:
    """Whether a file can hold it: no settings of parts are in it."""
    return all(map(_is_plain, value.values())) if isinstance(value, Mapping) else not is_dataclass(value)


def one_by_one(config: Config) -> dict[str, Config]:
    """The config of each stage, by the stage's name. The first one alone starts from `init_from`, as each later one
    starts from the stage before it. A config without stages is returned itself, under the name ""."""
    if not config.stages:
        return {"": config}
    common, configs = replace(config, stages=()), {}
    for stage in config.stages:
        if unknown := [key for key in stage.changes if key not in STAGE_KEYS]:
            raise UserError(
                f"stage {stage.name!r}: {unknown[0]!r} is no setting of a stage; known: {', '.join(sorted(STAGE_KEYS))}"
            )
        with _of_stage(stage.name):
            configs[stage.name] = update(common, stage.changes)
        common = replace(common, init_from="", init="auto")
    return configs


@contextmanager
def _of_stage(name: str) -> Iterator[None]:
    """Adds the name of the stage to a UserError that is raised inside."""
    try:
        yield
    except UserError as error:
        raise UserError(f"stage {name!r}: {error}") from None


# changes


def change(config: Config, changes: Mapping[str, Any], stage: str = "") -> Config:
    """A copy of `config` with changes, which are nested as in a recipe.

    If the config has stages, changes of stage settings apply to all of them, or only to the one named `stage`. The key
    "stage" holds a list of tables that replace the stages, or a table of changes by the stage's name. UserError for an
    unknown key, a value of the wrong type, or settings that contradict each other.
    """
    return check(unchecked(config, changes, stage))


def unchecked(config: Config, changes: Mapping[str, Any], stage: str = "") -> Config:
    """As `change`, for settings that need not fit together yet, since more changes will follow."""
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
        known = ", ".join(each.name for each in stages) or "none, it has no stages"
        raise UserError(f"no stage {stage!r} in this recipe; known: {known}")
    if stages:
        common = {key: changes.pop(key) for key in [*changes] if key in STAGE_KEYS}
        weaker = isinstance(of_stages, list | tuple)  # in a file, a stage's own settings win over those above it
        stages = tuple(
            replace(each, changes=merged(common, each.changes) if weaker else merged(each.changes, common))
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
        if bad := [name for name, value in changes.items() if not isinstance(value, Mapping)]:
            raise UserError(f"stage {bad[0]!r} is {changes[bad[0]]!r}; a table of settings is wanted")
        return tuple(replace(stage, changes=merged(stage.changes, changes.get(stage.name, {}))) for stage in stages)
    if not isinstance(changes, list | tuple) or not all(isinstance(one, Mapping) and "name" in one for one in changes):
        raise UserError("key 'stage' must be a list of tables, each with a name: [[stage]]")
    return tuple(Stage(str(one["name"]), {k: v for k, v in one.items() if k != "name"}) for one in changes)


RENAMED = {
    "perceptual": "objective.perceptual.weight",
    "adversarial": "objective.adversarial.weight",
    "discriminator": "objective.adversarial.network",
    "noise": "objective.adversarial.noise",
    **{f"model.{old}": new.replace("objective.", "objective.classification.", 1) for old, new in MOVED.items()},
}


def _check_moved(changes: Mapping[str, Any]) -> None:
    """UserError for the old name of a setting that was renamed. It says the new name."""
    model = changes.get("model")
    if isinstance(model, Mapping) and "kind" in model:
        raise UserError("model.kind: the kind of a model follows from task, generate or classify")
    if isinstance(model, Mapping) and isinstance(kind := model.get("latent"), str):
        raise UserError(f"model.latent is a table of settings; {kind!r} as its kind is model.latent.kind")
    flat = {
        **changes,
        **{f"model.{key}": value for key, value in (model if isinstance(model, Mapping) else {}).items()},
    }
    for old in RENAMED:
        if isinstance(flat.get(old), int | float | str):  # not a table, or settings, of the same name
            raise UserError(f"{old} is called {RENAMED[old]} now")


def scaled(config: Config, factor: float) -> Config:
    """A shorter or longer training: in every stage, the settings that count steps are multiplied by `factor`."""
    if factor == 1:
        return config
    stages = one_by_one(config)
    changes = {
        name: {key: max(round(getattr(one, key) * factor), least) for key, least in SCALED.items()}
        for name, one in stages.items()
    }
    return change(config, {"stage": changes} if config.stages else changes[""])


SCALED = {"steps": 1, "warmup": 0, "checkpoint_every": 1}  # settings that `scaled` changes, and their least values


def without_places(config: Config) -> Config:
    """The same training without folders of this machine, to give away. Of a path of data, or of a run to start from,
    its last part stays."""
    names = {"data": last_part(config.data), "init_from": Path(config.init_from).name}
    return replace(config, out=Config.out, data_root=Config.data_root, **names)


# as a table and as TOML


def as_table(config: Config) -> dict[str, Any]:
    """All settings, nested as in a file; `change(Config(), as_table(config))` is the same config."""
    nested = table(replace(config, stages=()))
    del nested["stages"], nested["model"]["kind"]  # the kind follows from the task
    if config.stages:
        nested = {key: value for key, value in nested.items() if key not in STAGE_KEYS}
        nested["stage"] = [{"name": stage.name, **stage.changes} for stage in config.stages]
    return nested


def text(config: Config) -> str:
    """All settings as TOML, which `recipes.load` reads back as the same config."""
    return dump(as_table(config))
