"""What every latent has in common; the protocol is told in the package's text."""

from abc import ABC, abstractmethod

from torch import Tensor, nn

from ...errors import UserError
from ..draws import Draws
from ..layers import Build, linear_block


class Latent(nn.Module, ABC):
    """A latent of `latent` channels over `time_steps` steps, whose z are spikes if it is `spiking`.

    The encoder's output is flattened for it, and z is (T, N, L); if it is `spatial`, the grid stays, z (T, N, L, h, w).
    """

    spiking = True
    spatial = False

    def __init__(self, latent: int, time_steps: int):
        super().__init__()
        if latent < 1:
            raise UserError(f"the latent has {latent} channels; at least 1 is wanted")
        self.latent, self.time_steps = latent, time_steps

    def entry(self, features: int, build: Build) -> nn.Module:
        """The layer from the encoder's output (T, N, features) to h: spikes of `latent` channels."""
        return linear_block(features, self.latent, build)

    @abstractmethod
    def encode(self, h: Tensor, draws: Draws) -> Tensor:
        """z (T, N, L) drawn from the posterior of h (T, N, ...)."""

    @abstractmethod
    def infer(self, h: Tensor, draws: Draws, progress: float = 1.0, y: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """z of `encode`, and the divergence from the prior. progress: of the training, in [0, 1]."""

    @abstractmethod
    def sample(self, draws: Draws, y: Tensor | None = None) -> Tensor:
        """z (T, N, L) from the prior, one row of draws an image."""

    @property
    def sampling(self) -> dict[str, float]:
        """What of `sample_by` holds now, by name."""
        return {}

    def sample_by(self, rounds: int | None = None, temperature: float | None = None) -> None:
        """Changes how samples are drawn from now on, where that can be chosen; None: as before. ValueError if it cannot
        be so."""
        if rounds is not None or temperature is not None:
            raise UserError("this latent's prior has no rounds and no temperature; one of spatial codes has")

    def between(self, z0: Tensor, z1: Tensor, a: Tensor, draws: Draws) -> Tensor:
        """z at fractions a (A,) of the way from z0 to z1, (T, L, ...) each, -> (A, T, L, ...); one row of draws.

        Spikes have no halfway. At fraction a every bit (t, l) is the end's with probability a, decided by one uniform
        number a bit that is the same for all fractions: bits change over one by one and never back. The numbers are
        those of the stream "between": the draws that made z0 and z1 may have the same seed, and a bit must not depend
        on the moment of its change.
        """
        return z1.where(draws.stream("between").uniform(*z0.shape) < a.view(-1, *[1] * z0.dim()), z0)


def check_class(classes: int, y: Tensor | None) -> None:
    """ValueError if a prior of classes is told none, or one of no classes (0) is told one."""
    if (y is None) == bool(classes):
        raise UserError(f"the prior is one of {classes} classes, and {'no' if y is None else 'a'} class came")
