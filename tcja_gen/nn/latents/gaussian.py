"""The Gaussian latent of an ordinary VAE (Kingma and Welling, ICLR 2014), for the ANN that papers compare with.

    posterior  z = mu + exp(s / 2) eps, eps ~ N(0, 1)       mu, s (N, L): two linear maps of the encoder's output
    prior      N(0, 1)
    divergence KL = 1/2 sum over L of (mu^2 + exp(s) - 1 - s), mean over N, in nats

z are real numbers, not spikes. The model needs ReLU in place of neurons, and T = 1.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ...registry import register_latent
from ..draws import Draws
from .protocol import Context, Latent, LatentSettings


@dataclass(frozen=True)
class GaussianSettings(LatentSettings):
    """Settings of `GaussianLatent`."""


@register_latent("gaussian", GaussianSettings)
class GaussianLatent(Latent):
    """Gaussian latent. The module's text has its equations."""

    spiking = False

    def __init__(self, settings: GaussianSettings, context: Context):
        super().__init__(settings, context)
        self.entry = nn.Linear(math.prod(context.shape), 2 * self.channels)  # mu and s side by side, (1, N, 2 L)

    def encode(self, h: Tensor, draws: Draws) -> Tensor:
        mu, s = h.float().chunk(2, -1)
        return mu + (s / 2).exp() * draws.normal(self.channels)

    def infer(self, h: Tensor, draws: Draws, progress: float = 1.0, y: Tensor | None = None) -> tuple[Tensor, Tensor]:
        return self.encode(h, draws), kl(*h.float().chunk(2, -1))

    def sample(self, draws: Draws, y: Tensor | None = None) -> Tensor:
        return draws.normal(self.channels)[None]

    def between(self, z0: Tensor, z1: Tensor, a: Tensor, draws: Draws) -> Tensor:
        """z (A, 1, L) at fractions a (A,) of the straight line from z0 to z1, (1, L) each."""
        return torch.lerp(z0, z1, a.view(-1, 1, 1))


def kl(mu: Tensor, s: Tensor) -> Tensor:
    """KL of N(mu, exp(s)) from N(0, 1) in nats, summed over L, mean over N. mu, s: (..., N, L)."""
    return 0.5 * (mu.square() + s.exp() - 1 - s).sum(-1).mean()
