"""A spiking discriminator: a network that learns to tell generated images from real ones while the generator is trained
against it (Goodfellow et al., NeurIPS 2014), and by which images are compared beside their pixels.

    s(x) = mean over time of D(x + noise)
    of D:              mean max(0, 1 - s(x)) + mean max(0, 1 + s(y))         (hinge; Lim & Ye, arXiv 1705.02894)
    of what made y:    -weight mean s(y)

Noise on what D sees (Arjovsky & Bottou, ICLR 2017) keeps it from telling the two by a detail of single pixels; without
it images come out worse. Real and generated images pass D as one batch, so that its batch norm sees both by one
statistic. Each of the two losses reaches its own side alone, so their sum takes one backward pass and one optimiser,
whose momentum is short (`step.AGAINST`): both aim at what moves.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..config import Config
from ..models import SpikingClassifier
from ..nn import Draws, RepeatedDraws


class Adversary(nn.Module):
    """A discriminator with the encoder `config.discriminator`, for images of the model that `config` describes, whose
    neurons and time steps it has, and the losses of both sides. `config.adversarial` is the weight of its judgement in
    the generator's, `config.noise` the standard deviation of the noise on the images (in [-1, 1]) that it sees."""

    def __init__(self, config: Config):
        super().__init__()
        model = config.model
        self.discriminator = SpikingClassifier(
            model.image_size,
            image_channels=model.image_channels,
            time_steps=model.time_steps,
            encoder=config.discriminator,
            head="1L",
            neuron=model.neuron,
            surrogate=model.surrogate,
        )
        self.weight, self.noise = config.adversarial, config.noise

    def forward(self, y: Tensor, x: Tensor, draws: Draws) -> Tensor:
        """The sum of both losses, of generated and real images (N, C, H, W) in [-1, 1]."""
        draws = RepeatedDraws(draws, 2)  # of both
        noise = self.noise * draws.normal(*x.shape[1:]) if self.noise else 0.0
        real, made = self._judge(x, y.detach(), noise, draws)
        hinge = F.relu(1 - real).mean() + F.relu(1 + made).mean()
        self.discriminator.requires_grad_(False)
        _, made = self._judge(x, y, noise, draws)
        self.discriminator.requires_grad_(True)
        return hinge - self.weight * made.mean()

    def _judge(self, x: Tensor, y: Tensor, noise: Tensor | float, draws: Draws) -> tuple[Tensor, Tensor]:
        both = torch.cat([x, y.to(x.dtype)]) + noise
        return self.discriminator.outputs(both, draws).mean(0).squeeze(1).chunk(2)
