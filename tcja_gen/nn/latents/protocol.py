"""What every latent has in common; the protocol is told in the package's text."""

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
    """Settings that every latent has."""

    channels: int = setting(128, least=1)
    """Channels L of the latent."""
    divergence_weight: float = setting(1.0, least=0)
    """Weight of the divergence in the loss."""

    def __post_init__(self):
        check_ranges(self, "latent: ")


@dataclass(frozen=True)
class Context:
    """Where a latent stands: behind an encoder, before a decoder."""

    shape: tuple[int, int, int]
    """(C, h, w) of the encoder's output."""
    time_steps: int
    build: Build = Build()
    """What all layers have in common, the neuron first of all."""
    classes: int = 0
    """K of the data; 0: it has none."""

    @classmethod
    def behind(cls, encoder: SpikingEncoder, classes: int = 0) -> "Context":
        return cls(encoder.shape, encoder.time_steps, encoder.build, classes)


class Latent(nn.Module, ABC):
    """A latent z (T, N, L) of L channels, whose z are spikes if it is `spiking`.

    The encoder's output (T, N, C, h, w) is flattened for it; if it is `spatial` the grid stays, z (T, N, L, h, w).
    A subclass makes its layers in `__init__`, the layer `entry` among them (see `linear_entry`). Its prior, if it has
    weights, is called `prior`: stages of a training are told by that name.

    UserError if the settings do not go with the context.
    """

    spiking = True
    spatial = False

    def __init__(self, settings: LatentSettings, context: Context):
        super().__init__()
        if self.spiking != (context.build.neuron is not None):
            wanted = "spiking neurons" if self.spiking else "neuron = 'relu'"
            raise UserError(f"{type(self).__name__} goes with {wanted}")
        self.settings, self.time_steps, self.channels = settings, context.time_steps, settings.channels
        conditional = getattr(settings, "conditional", False)
        if conditional and not context.classes:
            raise UserError("a conditional generator needs classes, and the data have no labels")
        self.classes = context.classes if conditional else 0  # that the prior is told; 0: none

    def linear_entry(self, context: Context) -> nn.Module:
        """A layer for `entry`: from the flattened output of the encoder to spikes (T, N, L)."""
        return linear_block(math.prod(context.shape), self.channels, context.build)

    def enter(self, x: Tensor) -> Tensor:
        """The entry's output h (T, N, ...) for encoder spikes x (T, N, C, h, w)."""
        return self.entry(x if self.spatial else x.flatten(-3))

    @abstractmethod
    def encode(self, h: Tensor, draws: Draws) -> Tensor:
        """z (T, N, L) drawn from the posterior, given h (T, N, ...) of `enter`."""

    @abstractmethod
    def infer(self, h: Tensor, draws: Draws, progress: float = 1.0, y: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """z as `encode` draws it, and its divergence from the prior, a scalar. progress: of the training, in [0, 1]."""

    @abstractmethod
    def sample(self, draws: Draws, y: Tensor | None = None) -> Tensor:
        """z (T, N, L) from the prior, one row of draws an image."""

    @property
    def sampling(self) -> dict[str, float]:
        """The settings of `sample_by` that hold now, by name."""
        return {}

    def sample_by(self, rounds: int | None = None, temperature: float | None = None) -> None:
        """Changes how samples are drawn from now on; None leaves a setting as it is. UserError for a latent that has no
        such settings, or a value out of range."""
        if rounds is not None or temperature is not None:
            raise UserError("this latent's prior has no rounds and no temperature; one of spatial codes has")

    def between(self, z0: Tensor, z1: Tensor, a: Tensor, draws: Draws) -> Tensor:
        """z at fractions a (A,) of the way from z0 to z1, (T, L, ...) each -> (A, T, L, ...); draws: one row.

        Spikes have no halfway. At fraction a each bit is z1's with probability a, else z0's. One uniform number a bit
        decides for all fractions, so bits change one by one and never back. The numbers come from a stream of their
        own: z0 and z1 may have been drawn with the same seed, and a bit's value must not depend on when it changes.
        """
        return z1.where(draws.stream("between").uniform(*z0.shape) < a.view(-1, *[1] * z0.dim()), z0)


def check_class(classes: int, y: Tensor | None) -> None:
    """UserError if a prior of K classes gets none, or one of no classes (0) gets one. y: (N, K), one-hot."""
    if (y is None) == bool(classes):
        raise UserError(f"the prior is one of {classes} classes, and {'no' if y is None else 'a'} class came")
