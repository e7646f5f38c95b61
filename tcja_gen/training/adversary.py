"""A spiking discriminator: it learns to tell generated images from real ones while the generator is trained against it
(Goodfellow et al., NeurIPS 2014).

    s(x) = mean over time of D(x + noise)
    loss of D:              mean max(0, 1 - s(x)) + mean max(0, 1 + s(y))         (hinge; Lim & Ye, arXiv 1705.02894)
    loss of the generator:  -weight mean s(y)

D sees noisy images (Arjovsky & Bottou, ICLR 2017), so that it cannot rely on single pixels; without the noise images
come out worse. Real and generated images are one batch for D, so its batch norm uses the same statistics for both. Each
loss reaches its own side alone, so their sum takes one backward pass and one optimiser, with a short momentum
(`step.AGAINST`), since each side is a moving target for the other.
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
    """Weight of the discriminator's judgement in a generator's loss."""
    network: str = "32C3s2-64C3s2-128C3s2"
    """Encoder notation of the discriminator."""
    noise: float = setting(0.3, least=0)
    """Standard deviation of the noise on images, in [-1, 1], that the discriminator sees."""

    def __post_init__(self):
        check_ranges(self, "objective.adversarial.")


class Adversary(nn.Module):
    """A discriminator for images of a model of these sizes, with its neurons and T, and the losses of both sides."""

    def __init__(self, settings: Adversarial, model: Network):
        super().__init__()
        shared = {name: getattr(model, name) for name in SHARED}
        self.discriminator = build(Classifier(encoder=settings.network, head="1L", **shared))
        self.weight, self.noise = settings.weight, settings.noise

    def forward(self, y: Tensor, x: Tensor, draws: Draws) -> Tensor:
        """The sum of both losses, of generated and real images (N, C, H, W) in [-1, 1]."""
        draws = RepeatedDraws(draws, 2)  # of both
        noise = self.noise * draws.normal(*x.shape[1:]) if self.noise else 0.0
        real, generated = self._judge(x, y.detach(), noise, draws)
        hinge = F.relu(1 - real).mean() + F.relu(1 + generated).mean()
        self.discriminator.requires_grad_(False)
        _, generated = self._judge(x, y, noise, draws)
        self.discriminator.requires_grad_(True)
        return hinge - self.weight * generated.mean()

    def _judge(self, x: Tensor, y: Tensor, noise: Tensor | float, draws: Draws) -> tuple[Tensor, Tensor]:
        both = torch.cat([x, y.to(x.dtype)]) + noise
        return self.discriminator.outputs(both, draws).mean(0).squeeze(1).chunk(2)


SHARED = ("image_size", "image_channels", "time_steps", "neuron", "surrogate")  # of the generator's settings
