"""Every setting of a training run, in one place: fields are flags, comments are their help, TOML is their file.

`Config()` trains on the embedded digits. A setting has its range beside it; one that nothing would look at is refused.
This module imports nothing heavy.
"""

import codecs
import difflib
import json
import tomllib
from collections.abc import Container
from dataclasses import asdict, dataclass, field, fields, is_dataclass, replace
from pathlib import Path
from typing import Literal

from .errors import UserError
from .ranges import check_ranges, setting


@dataclass(frozen=True)
class Model:
    """Arguments of `models.SpikingVAE` and `models.SpikingClassifier`."""

    image_size: int = setting(0, least=0)
    """Pixels a side; 0: the data's own. Other images are resized (bilinear), events merged."""
    image_width: int = setting(0, least=0)
    """Pixels across of event frames that are not square; 0: as image_size."""
    image_channels: int = setting(0, least=0, most=3)
    """1 or 3, 2 for event frames; 0: the data's own."""
    time_steps: int = setting(4, least=1)
    """T, the number of time steps."""
    encoder: str = "32C3s2-TCJA-64C3s2-TCJA-128C3s2-TCJA-256C3s2-TCJA"
    """Encoder notation: 32C3s2 convolution, 64R3[TCJA] residual block, MP2 pooling, attention TCJA TLA CLA TCJAadd SE
    TA FC Conv2d, TCJA(4,2) with its kernels."""
    head: str = ""
    """Classifier's notation behind the encoder: DP.5-256FC-10L, 110FC-Voting10; empty: logits, and no classifier in a
    generator, which with one is trained on both tasks."""
    decoder: str = "mirror"
    """Decoder notation (64T3s2-TCJA-...), or mirror: the encoder's stages in reverse."""
    neuron: Literal["tcja", "tet", "fsvae", "relu"] = "tcja"
    """Preset of the LIF neuron; relu: none of them, an ANN with T = 1 (its generator has a gaussian latent)."""
    surrogate: Literal["atan", "triangle", "box", "box-zero"] | None = None
    """Surrogate gradient in place of the preset's."""
    classes: int = setting(0, least=0)
    """Number of classes; 0: the data's own."""
    objective: Literal["ce", "tet", "smse", "rate-mse"] = "ce"
    """Of classification: cross-entropy of the mean, TET, squared error a step (the paper's SMSE) or of the rates."""
    tet_weight: float = setting(1e-3, least=0, most=1)
    """TET's lambda."""
    tet_mean: float = setting(1.0)
    """TET's phi, which outputs are drawn to."""
    normalisation: Literal["tdbn", "bn"] = "tdbn"
    """Of a classifier: threshold-dependent batch norm, or plain and none behind linear layers (the paper's)."""
    bias: bool = True
    """Of a classifier's convolutions and linear layers."""
    conditional: bool = False
    """Generator whose prior is told the class."""
    head_weight: float = setting(1.0, least=0)
    """Weight of the classification in the loss of a generator with a head."""
    latent_kind: Literal["bernoulli", "poisson", "gaussian", "codes"] = "bernoulli"
    """Latent of a generator: FSVAE's autoregressive bits, ESVAE's rates, the ANN's Gaussian, or spatial spike codes."""
    latent: int = setting(128, least=1)
    """Channels of the latent spikes."""
    k: int = setting(20, least=1)
    """Bits per channel of a bernoulli latent, of which one is drawn."""
    divergence: Literal["mmd", "mmd-sum", "kl"] = "mmd"
    """Distance of a bernoulli latent's posterior and prior: PSP-MMD (mean, or sum as in FSVAE's paper), or KL."""
    divergence_weight: float = setting(1.0, least=0)
    """Weight of the divergence in the loss."""
    readout: Literal["membrane", "mean"] = "membrane"
    """Time weights of the output: a decaying membrane (FSVAE) or the mean (as TCJA's generator is described)."""
    passes: Literal["steps", "prefixes"] = "steps"
    """How a bernoulli latent's posterior draws: step by step, or every prefix anew as FSVAE's code does (slow)."""
    scheduled_start: float = setting(0.1, least=0, most=1)
    """Probability, at the start, that the prior sees its own z."""
    scheduled_end: float = setting(0.3, least=0, most=1)
    """The same at the end of training."""
    scheduled_first: int = setting(5, least=0)
    """First time step at which it may."""
    scheduled_replace: Literal["draw", "vote"] = "draw"
    """Its own z: one of k bits for each image, or FSVAE's code (majority vote, one decision a batch)."""
    prior: str = "128C3-128R3[TCJA]-128R3[TCJA]-128R3[TCJA]-128R3[TCJA]"
    """Notation of the masked prior over spatial codes; its layers keep the size of their grid."""
    rounds: int = setting(16, least=1)
    """Passes of the masked prior that a sample takes."""
    temperature: float = setting(1.0, above=0)
    """Divides the masked prior's logits when it samples; below 1: likelier tokens, less variety."""
    flips: float = setting(0.0, least=0, below=0.5)
    """Share of the bits of spatial codes that are flipped in training, where decoder and prior see them."""


@dataclass(frozen=True)
class Config:
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
    events_by: Literal["number", "time"] = "number"
    """Event frames hold equally many events, or equally long times."""
    init_from: str = ""
    """Run or checkpoint, of either task, whose encoder is the start; with fit = decoder, all of it, with prior,
    all but the prior."""
    fit: Literal["all", "autoencoder", "decoder", "prior"] = "all"
    """What of a generator is trained: all; all but the prior; or, with init_from, the decoder or the prior of a trained
    autoencoder, whose other weights stay."""
    perceptual: float = setting(0.0, least=0)
    """Weight, in a generator's loss, of a distance of images by the features of a classifier of the training set."""
    adversarial: float = setting(0.0, least=0)
    """Weight, in a generator's loss, of the judgement of a spiking discriminator that is trained beside it; AdamW's
    betas are then 0.5 and 0.99."""
    discriminator: str = "32C3s2-64C3s2-128C3s2"
    """Encoder notation of the discriminator."""
    noise: float = setting(0.3, least=0)
    """Standard deviation of the noise on images, in [-1, 1], that the discriminator sees."""
    freeze: bool = False
    """Leave the encoder's weights as they are (with init_from and a head of logits alone: a linear probe). A random
    encoder still learns its running statistics."""
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
    checkpoint_every: int = setting(500, least=1)
    """Steps between checkpoints (and scores on validation images)."""
    keep_every: int = setting(0, least=0)
    """Checkpoints at multiples of this are never deleted; 0: the last two and the best are kept."""
    model: Model = field(default_factory=Model)

    def __post_init__(self):
        check_ranges(self, "config: ")
        for name in ("data", "data_root", "out", "init_from"):
            value = getattr(self, name)
            if value != value.encode(errors="ignore").decode() or "\0" in value:
                raise UserError(f"config: {name} is {value!r}, which is no UTF-8: take another name")
        if self.model.time_steps == 1:
            self._refuse(("readout",), "with time_steps = 1, whose only step has the weight 1")
        if self.model.image_width and not self.model.image_size:
            raise UserError("config: model.image_width has no meaning without model.image_size")
        if self.prior_lr != 1 and (self.task == "classify" or self.model.latent_kind == "gaussian"):
            raise UserError("config: prior_lr has no meaning for a model without a prior that is trained")
        if self.task == "classify":
            self._refuse(OF_GENERATORS, "with task = 'classify'")
            for name in ("fit", "perceptual", "adversarial"):
                if getattr(self, name) not in ("all", 0.0):
                    raise UserError(f"config: {name} has no meaning with task = 'classify'")
            if self.sample_every not in (0, Config.sample_every):
                raise UserError("config: sample_every has no meaning with task = 'classify', which makes no images")
        else:
            self._refuse(OF_CLASSIFIERS, "with task = 'generate'")
            kind = self.model.latent_kind
            others = {name for names in OF_LATENTS.values() for name in names} - {*OF_LATENTS[kind]}
            self._refuse(others, f"with latent_kind = {kind!r}")
            for name in ("perceptual", "adversarial"):
                if self.fit == "prior" and getattr(self, name):
                    raise UserError(f"config: {name} has no meaning with fit = 'prior', which compares no images")
            if not self.model.head:
                self._refuse(OF_HEADS, "in a generator without a head")
            self._check_stage()
            self._check_scheduled()
        for name in ("discriminator", "noise"):
            if not self.adversarial and getattr(self, name) != getattr(Config, name):
                raise UserError(f"config: {name} has no meaning without adversarial")
        if self.model.objective != "tet":
            self._refuse(("tet_weight", "tet_mean"), f"with objective = {self.model.objective!r}")
        check_ranges(self.model, "config: model.")

    def _check_stage(self) -> None:
        """UserError for settings of what this stage leaves as it is."""
        model, fit = self.model, self.fit
        if fit in ("autoencoder", "decoder"):
            self._refuse(OF_PRIORS, f"with fit = {fit!r}, which trains no prior")
            if self.prior_lr != 1:
                raise UserError(f"config: prior_lr has no meaning with fit = {fit!r}, which trains no prior")
        if fit in ("decoder", "prior"):
            self._refuse((*OF_HEADS, "passes"), f"with fit = {fit!r}, which trains neither encoder nor head")
            if self.freeze:
                raise UserError(f"config: freeze has no meaning with fit = {fit!r}, which leaves the encoder as it is")
        if fit == "prior" and not model.divergence_weight:
            raise UserError("config: model.divergence_weight is 0, and with fit = 'prior' nothing would be trained")

    def _check_scheduled(self) -> None:
        """UserError for scheduled sampling that never takes place; the defaults ask for it where T is long enough."""
        m, default = self.model, Model()
        if m.time_steps - 1 > m.scheduled_first or not (m.scheduled_start or m.scheduled_end):
            return
        changed = [name for name in ("start", "end", "replace") if _of(m, name) != _of(default, name)]
        if m.time_steps - 1 <= default.scheduled_first and m.scheduled_first != default.scheduled_first:
            changed.append("first")
        if changed:
            raise UserError(
                f"config: model.scheduled_{changed[0]} has no meaning with time_steps = {m.time_steps} and "
                f"scheduled_first = {m.scheduled_first}: the last step that may be replaced is {m.time_steps - 2}"
            )

    def _refuse(self, names: Container[str], why: str) -> None:
        """ValueError if a setting of the model is changed that nothing would look at."""
        for f in fields(Model):
            if f.name in names and getattr(self.model, f.name) != f.default:
                raise UserError(f"config: model.{f.name} has no meaning {why}")


def _of(model: Model, name: str):
    return getattr(model, f"scheduled_{name}")


OF_LATENTS = {  # what some kinds look at and others do not
    "bernoulli": (
        "k",
        "divergence",
        "passes",
        "scheduled_start",
        "scheduled_end",
        "scheduled_first",
        "scheduled_replace",
        "conditional",
    ),
    "codes": ("prior", "rounds", "temperature", "flips", "conditional"),
    "poisson": (),
    "gaussian": (),
}
OF_GENERATORS = (
    "decoder",
    "latent_kind",
    "latent",
    "divergence_weight",
    "readout",
    "head_weight",
    *OF_LATENTS["bernoulli"],
    "prior",
    "rounds",
    "temperature",
    "flips",
)
OF_CLASSIFIERS = ("image_width", "normalisation", "bias")
OF_PRIORS = (
    "divergence",
    "divergence_weight",
    *(name for name in OF_LATENTS["bernoulli"] if name.startswith("scheduled")),
)
OF_HEADS = ("objective", "head_weight", "tet_weight", "tet_mean")

FREE_ON_RESUME = (  # of the data the fingerprint is compared, wherever they are
    "out",
    "data",
    "data_root",
    "download",
    "compile",
    "graph",
    "memory",
    "device",
    "log_every",
    "sample_every",
    "checkpoint_every",
)


def load(path: str | Path) -> Config:
    """Config of a TOML file; what it does not name keeps its default. ValueError naming file and key."""
    settings = _settings(Path(path))
    try:
        return update(Config(), settings)
    except UserError as error:
        raise UserError(f"{path}: {error}") from None


def _settings(path: Path) -> dict:
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


def update(config, settings: dict):
    """`config` with settings (nested as in the file) changed. ValueError for an unknown key or an unlike type."""
    known = {f.name: f for f in fields(config)}
    changes = {}
    for key, value in settings.items():
        if key not in known:
            near = difflib.get_close_matches(key, known, 1)
            hint = f"did you mean {near[0]!r}? " if near else ""
            raise UserError(f"unknown key {key!r}; {hint}known: {', '.join(known)}")
        old = getattr(config, key)
        if is_dataclass(old):
            if not isinstance(value, dict):
                raise UserError(f"key {key!r} is a table of settings, got {value!r}")
            changes[key] = update(old, value)
        else:
            changes[key] = _typed(key, value, known[key].type)
    return replace(config, **changes)


def _typed(key: str, value, wanted):
    choices = [c for part in getattr(wanted, "__args__", ()) for c in getattr(part, "__args__", [part])]
    if choices:  # a Literal, perhaps with None
        allowed = [c for c in choices if isinstance(c, str)]
        if value not in allowed and not (value is None and type(None) in choices):
            raise UserError(f"key {key!r} is {value!r}; known: {', '.join(allowed)}")
        return value
    if wanted is float and type(value) is int:
        return float(value)
    if type(value) is not wanted:
        raise UserError(f"key {key!r} is {value!r}; {wanted.__name__} is wanted")
    return value


def dump(config: Config) -> str:
    """TOML of all settings. `load` of it gives the same config."""
    settings = asdict(config)
    tables = {key: value for key, value in settings.items() if isinstance(value, dict)}
    lines = [_line(key, value) for key, value in settings.items() if key not in tables and value is not None]
    for name, table in tables.items():
        lines += ["", f"[{name}]"] + [_line(key, value) for key, value in table.items() if value is not None]
    return "\n".join(lines) + "\n"


def _line(key: str, value) -> str:
    """Strings, numbers and booleans are alike in JSON and TOML, but for escaped surrogates and a bare DEL."""
    return f"{key} = {json.dumps(value, ensure_ascii=False)}".replace("\x7f", "\\u007f")


def differences(a: Config, b: Config, ignore: tuple[str, ...] = ()) -> list[str]:
    """Lines "key: a's -> b's" of the fields in which two configs differ."""
    found = []
    for f in fields(a):
        x, y = getattr(a, f.name), getattr(b, f.name)
        if is_dataclass(x):
            found += [f"{f.name}.{line}" for line in differences(x, y)]
        elif x != y and f.name not in ignore:
            found.append(f"{f.name}: {x!r} -> {y!r}")
    return found
