"""Settings of whole models, which are the table [model] of a recipe, and `build`, which makes a model from them.

>>> model = build(Generator(encoder="8C3s2-TCJA-16C3s2", image_size=16))
>>> model.sample(seeds=[0]).shape
torch.Size([1, 1, 16, 16])
"""

from collections.abc import Mapping
from dataclasses import dataclass

from torch import nn

from ..errors import UserError
from ..nn import (
    BernoulliSettings,
    Build,
    Context,
    LatentSettings,
    SpikingDecoder,
    SpikingEncoder,
    SpikingHead,
    latent_settings,
    make_latent,
    makes_frames,
    mirror,
    neuron_named,
)
from ..nn.objectives import CrossEntropy
from ..ranges import check_ranges, setting
from ..settings import part, update
from .classifier import SpikingClassifier
from .vae import SpikingVAE


@dataclass(frozen=True)
class Network:
    """Settings of every model."""

    image_size: int = setting(0, least=0)
    """Pixels a side; 0: as in the data. Images of another size are resized (bilinear), events are merged."""
    image_channels: int = setting(0, least=0, most=3)
    """1 or 3, 2 for event frames; 0: as in the data."""
    time_steps: int = setting(4, least=1)
    """T, the number of time steps."""
    encoder: str = "32C3s2-TCJA-64C3s2-TCJA-128C3s2-TCJA-256C3s2-TCJA"
    """Encoder notation: 32C3s2 is a convolution, 64R3[TCJA] a residual block, MP2 pooling. Attention is a word of its
    own: TCJA TLA CLA TCJAadd SE TA FC Conv2d on spikes, TCJAC and others on the currents of the layer before;
    TCJA(4,2) sets its kernels."""
    neuron: str = "tcja"
    """Preset of the LIF neuron (tcja, tet, fsvae), or spikingjelly:NAME. relu makes an ANN, which needs T = 1 and, as a
    generator, a gaussian latent."""
    surrogate: str | None = None
    """Surrogate gradient instead of the preset's: atan, triangle, box, box-zero."""
    classes: int = setting(0, least=0)
    """Number of classes; 0: as in the data."""
    head: str = ""
    """Notation of a head behind the encoder: DP.5-256FC-10L, 110FC-Voting10. Empty: logits for a classifier, no head
    for a generator. A generator with a head also learns to classify."""

    def __post_init__(self):
        check_ranges(self, "model.")


@dataclass(frozen=True)
class Generator(Network):
    """Settings of a `SpikingVAE`."""

    decoder: str = "mirror"
    """Decoder notation (64T3s2-TCJA-...); mirror: the encoder's stages in reverse order."""
    readout: str = "membrane"
    """Weights of the output's time steps: membrane, which decays (FSVAE), mean (as the TCJA paper describes it), or a
    gate of the output's mean currents: tcja (TAID's code, T^2 weights), tcja-both (with the temporal branch, too).
    frames: a generator of event frames, one for each time step."""
    full_count: int = setting(0, least=0)
    """Of event frames: events in a pixel that make it full; more are not told from it. 0: as many as one of 100
    pixels with events exceeds."""
    latent: LatentSettings = part(latent_settings, BernoulliSettings())
    """Kind of latent: bernoulli (FSVAE's autoregressive bits), poisson (ESVAE's rates), gaussian (for an ANN), or codes
    (spatial spike codes with a masked prior)."""

    @property
    def conditional(self) -> bool:
        """Whether the prior is conditioned on the class."""
        return getattr(self.latent, "conditional", False)


@dataclass(frozen=True)
class Classifier(Network):
    """Settings of a `SpikingClassifier`."""

    image_width: int = setting(0, least=0)
    """Width in pixels of event frames that are not square; 0: same as image_size."""
    normalisation: str = "tdbn"
    """tdbn: threshold-dependent batch norm; bn: plain batch norm, none behind linear layers (the paper's classifiers).
    """
    bias: bool = True
    """Whether convolutions and linear layers have a bias."""

    def __post_init__(self):
        super().__post_init__()
        if self.image_width and not self.image_size:
            raise UserError("model.image_width has no meaning without model.image_size")


MODELS: dict[str, type[Network]] = {SpikingVAE.kind: Generator, SpikingClassifier.kind: Classifier}


def build(settings: Network | Mapping, objective: CrossEntropy | None = None) -> nn.Module:
    """The model with these settings and random weights. UserError if the settings do not fit together.

    settings: a `Generator` or `Classifier`, or a nested table of a generator: {"latent": {"kind": "codes"}, ...}. An
    image size of 0 becomes 32 pixels, 0 channels become 1. objective: of classification, by default cross-entropy.
    """
    if isinstance(settings, Mapping):
        settings = update(Generator(), settings, "model.")
    neuron = neuron_named(settings.neuron, settings.surrogate)
    make = _generator if isinstance(settings, Generator) else _classifier
    return make(settings, neuron, objective)


def _generator(settings: Generator, neuron, objective: CrossEntropy | None) -> SpikingVAE:
    size, channels, steps = settings.image_size or 32, _channels(settings), settings.time_steps
    encoder = SpikingEncoder(settings.encoder, channels, steps, neuron, size)
    latent = make_latent(settings.latent, Context.behind(encoder, settings.classes))
    notation = mirror(settings.encoder) if settings.decoder == "mirror" else settings.decoder
    decoder = SpikingDecoder(
        notation, latent.channels, encoder.shape, channels, steps, neuron, size, settings.readout, latent.spatial
    )
    head = SpikingHead(settings.head, encoder.shape, steps, encoder.build) if settings.head else None
    full = settings.full_count or int(makes_frames(settings.readout))
    return SpikingVAE(encoder, latent, decoder, head, objective, full)


def _channels(settings: Generator) -> int:
    """Of the images, or 2 of event frames. UserError if the readout does not suit them."""
    frames = makes_frames(settings.readout)
    channels = settings.image_channels or (2 if frames else 1)
    if frames != (channels == 2):
        made = "event frames, which have 2 channels" if frames else "images; readout 'frames' makes event frames"
        raise UserError(f"{channels} channels, and readout {settings.readout!r} makes {made}")
    if settings.full_count and not frames:
        raise UserError("model.full_count has no meaning for images; it counts events")
    return channels


def _classifier(settings: Classifier, neuron, objective: CrossEntropy | None) -> SpikingClassifier:
    size, steps = settings.image_size or 32, settings.time_steps
    common = Build(neuron, settings.normalisation, settings.bias)
    sides, channels = (size, settings.image_width or size), settings.image_channels or 1
    encoder = SpikingEncoder(settings.encoder, channels, steps, neuron, sides, common.normalisation, common.bias)
    head = settings.head or f"{settings.classes or 10}L"
    return SpikingClassifier(encoder, SpikingHead(head, encoder.shape, steps, common), objective)
