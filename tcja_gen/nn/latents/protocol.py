"""Base classes of all latents and their settings. The text of `nn.latents` describes the protocol."""

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass

from torch import Tensor, nn

from ...errors import UserError
from ...ranges import check_ranges, setting
from ..coders import SpikingEncoder
from ..draws import Draws
from ..layers import Build, linear_block


@dataclass(frozen=True)
class LatentSettings:
    """Settings of every latent."""

    channels: int = setting(128, least=1)
    """L, the number of channels of the latent."""
    divergence_weight: float = setting(1.0, least=0)
    """Weight of the divergence in the loss."""

    def __post_init__(self):
        check_ranges(self, "latent: ")


@dataclass(frozen=True)
class Context:
    """What a latent needs to know of the model that it is part of."""

    shape: tuple[int, int, int]
    """(C, h, w) of the encoder's output."""
    time_steps: int
    build: Build = Build()
    """Settings that all layers share, above all the neuron."""
    classes: int = 0
    """K, the number of classes in the data; 0: no classes."""

    @classmethod
    def behind(cls, encoder: SpikingEncoder, classes: int = 0) -> "Context":
        """The context of a latent that follows this encoder. UserError if that ends without pixels."""
        if len(encoder.shape) != 3:
            raise UserError(f"encoder {encoder.notation!r} ends with a linear layer; a generator's ends with pixels")
        return cls(encoder.shape, encoder.time_steps, encoder.build, classes)


class Latent(nn.Module, ABC):
    """A latent z (T, N, L) with L channels; z are spikes if the class says `spiking`.

    The encoder's output (T, N, C, h, w) is flattened for it. If the class says `spatial`, the grid is kept, and z are
    (T, N, L, h, w). A subclass makes its layers in `__init__`, including `entry` (see `linear_entry`). If its prior has
    weights, the attribute must be called `prior`, since training stages find it by that name.

    UserError if the settings do not fit the context.
    """

    spiking = True
    spatial = False

    def __init__(self, settings: LatentSettings, context: Context):
        super().__init__()
        if self.spiking != (context.build.neuron is not None):
            required = "spiking neurons" if self.spiking else "neuron = 'relu'"
            raise UserError(f"{type(self).__name__} needs {required}")
        self.settings, self.time_steps, self.channels = settings, context.time_steps, settings.channels
        conditional = getattr(settings, "conditional", False)
        if conditional and not context.classes:
            raise UserError("a conditional generator needs classes, and the data have no labels")
        self.classes = context.classes if conditional else 0  # K of a conditional prior; 0: unconditional

    def linear_entry(self, context: Context) -> nn.Module:
        """A layer for `entry` that maps the flattened output of the encoder to spikes (T, N, L)."""
        return linear_block(math.prod(context.shape), self.channels, context.build)

    def enter(self, x: Tensor) -> Tensor:
        """The entry's output h (T, N, ...) for encoder spikes x (T, N, C, h, w)."""
        return self.entry(x if self.spatial else x.flatten(-3))

    @abstractmethod
    def encode(self, h: Tensor, draws: Draws) -> Tensor:
        """z (T, N, L) drawn from the posterior, given h (T, N, ...) of `enter`."""

    @abstractmethod
    def infer(self, h: Tensor, draws: Draws, progress: float = 1.0, y: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """z as `encode` draws it, and the divergence of posterior and prior, a scalar.

        progress: of the training, in [0, 1]. y: (N, K) one-hot, for a conditional prior.
        """

    @abstractmethod
    def sample(self, draws: Draws, y: Tensor | None = None) -> Tensor:
        """z (T, N, L) from the prior, one row of draws per image. y: (N, K) one-hot, for a conditional prior."""

    @property
    def sampling(self) -> dict[str, float | str]:
        """The current values of the settings of `sample_by`, by name."""
        return {}

    def sample_by(self, **changes: float | str | None) -> None:
        """Changes settings of sampling from now on. None leaves a setting as it is. UserError for a value that is out
        of range, or a setting that the latent does not have."""
        if given := [name for name, value in changes.items() if value is not None]:
            raise UserError(f"this latent's prior has no {' and no '.join(given)}; one of spatial codes has")

    def between(self, z0: Tensor, z1: Tensor, a: Tensor, draws: Draws) -> Tensor:
        """z (A, T, L, ...) at fractions a (A,) of the way from z0 to z1, (T, L, ...) each. draws: one row.

        A spike is 0 or 1 and has no middle. At fraction a, each bit is that of z1 with probability a, else that of z0.
        One uniform number per bit decides for all fractions, so bits change one by one and never back. The numbers come
        from a stream of their own: z0 and z1 may have been drawn with the same seed, and when a bit changes must not
        depend on its value.
        """
        return z1.where(draws.stream("between").uniform(*z0.shape) < a.view(-1, *[1] * z0.dim()), z0)


def check_class(classes: int, y: Tensor | None) -> None:
    """UserError if a conditional prior of K classes gets no class, or an unconditional one (0 classes) gets one.

    y: (N, K) one-hot, or None.
    """
    if (y is None) == bool(classes):
        raise UserError(f"the prior has {classes} classes, but was given {'none' if y is None else 'a class'}")
