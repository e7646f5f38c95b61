"""A spiking discriminator, which learns to tell generated images from real ones while the generator learns to deceive
it (Goodfellow et al., NeurIPS 2014).

    s(x) = mean over time of D(x + noise)
    loss of D:              mean max(0, 1 - s(x)) + mean max(0, 1 + s(y))         (hinge; Lim & Ye, arXiv 1705.02894)
    loss of the generator:  -weight mean s(y)

D sees noisy images (Arjovsky & Bottou, ICLR 2017), so that it cannot rely on single pixels. Without the noise, images
are worse. Real and generated images form one batch for D, so its batch norm uses the same statistics for both. Each
loss has gradients for its own side only, so one backward pass of their sum and one optimiser are enough. The
optimiser's momentum is short (`step.BETAS_ADVERSARIAL`), since each side is a moving target for the other.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..models import Classifier, build
from ..models.settings import Network
from ..nn import Draws, RepeatedDraws
from ..ranges import check_ranges, setting


@dataclass(frozen=True)
class Adversarial:
    """Settings of `Adversary`."""

    weight: float = setting(0.3, above=0)
    """Weight of the discriminator's output in the loss of the generator."""
    network: str = "32C3s2-64C3s2-128C3s2"
    """Encoder notation of the discriminator."""
    noise: float = setting(0.3, least=0)
    """Standard deviation of the noise on the discriminator's inputs, images in [-1, 1]."""

    def __post_init__(self):
        check_ranges(self, "objective.adversarial.")


class Adversary(nn.Module):
    """A discriminator and the losses of both sides. model: settings of the generator, whose images, neurons and T the
    discriminator shares."""

    def __init__(self, settings: Adversarial, model: Network):
        super().__init__()
        shared = {name: getattr(model, name) for name in SHARED}
        self.discriminator = build(Classifier(encoder=settings.network, head="1L", **shared))
        self.weight, self.noise = settings.weight, settings.noise

    def forward(self, y: Tensor, x: Tensor, draws: Draws) -> Tensor:
        """The sum of both losses, a scalar, for generated images y and real images x, (N, C, H, W) in [-1, 1], or event
        frames (T, N, 2, H, W) in [-1, 1], of which D sees a stream."""
        draws = RepeatedDraws(draws, 2)  # for real and for generated images
        noise = self.noise * _normal(draws, x) if self.noise else 0.0
        real, generated = self._judge(x, y.detach(), noise, draws)
        hinge = F.relu(1 - real).mean() + F.relu(1 + generated).mean()
        self.discriminator.requires_grad_(False)
        _, generated = self._judge(x, y, noise, draws)
        self.discriminator.requires_grad_(True)
        return hinge - self.weight * generated.mean()

    def _judge(self, x: Tensor, y: Tensor, noise: Tensor | float, draws: Draws) -> tuple[Tensor, Tensor]:
        both = torch.cat([x, y.to(x.dtype)], -4) + noise
        return self.discriminator.outputs(both, draws).mean(0).squeeze(1).chunk(2)


def _normal(draws: Draws, x: Tensor) -> Tensor:
    """N(0, 1) for twice the images of x (N, C, H, W), or frames of x (T, N, C, H, W)."""
    if x.dim() == 4:
        return draws.normal(*x.shape[1:])
    return draws.normal(len(x), *x.shape[2:]).transpose(0, 1)


SHARED = ("image_size", "image_channels", "time_steps", "neuron", "surrogate")  # settings taken from the generator
