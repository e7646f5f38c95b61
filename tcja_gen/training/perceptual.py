"""A perceptual loss, which compares images by the features of a network that was trained on the same data.

    d(y, x) = sum over layers l of  mean (f_l(y) - f_l(x))^2 / mean f_l(x)^2

f_l are the outputs of the network's stages (Johnson, Alahi & Fei-Fei, ECCV 2016). Means are over the whole batch in all
processes. The squared error of pixels alone favours the mean of all images that a code could stand for, and that mean
is blurred. The network is a classifier, or, for images without labels, the encoder of an autoencoder. Both are those of
`metrics`, trained on the training images with another seed than for scores, so no score uses the network of the loss.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..data import EventSet, ImageSet
from ..errors import UserError
from ..metrics.autoencoder import Autoencoder, autoencoder_side, cached_autoencoder
from ..metrics.classifier import Classifier, cached_classifier
from ..nn import Draws
from ..nn.fused import process_mean
from ..ranges import check_ranges, setting

SEED = 1  # networks for scores have seed 0


@dataclass(frozen=True)
class Perceptual:
    """Settings of `PerceptualDistance`."""

    weight: float = setting(0.5, above=0)
    """Weight in the loss of the generator."""
    network: Literal["plain", "residual", "autoencoder"] = "plain"
    """Network whose features are compared: a plain or a residual classifier, or an autoencoder, which needs no labels.
    The residual one sees more in colour than the plain one, and takes longer."""

    def __post_init__(self):
        check_ranges(self, "objective.perceptual.")


class PerceptualDistance(nn.Module):
    """weight times d(y, x), a scalar, for images (N, C, H, W) in [-1, 1]. Only y gets a gradient.

    In training every process has its share of a batch, and the mean of the result over processes is that of the whole
    batch. In evaluation mode a process compares its own images.
    """

    def __init__(self, network: Classifier | Autoencoder, weight: float):
        super().__init__()
        encoder = isinstance(network, Autoencoder)
        self.body, self.weight = (network.encoder if encoder else network.body).requires_grad_(False), weight
        self.stages, self.side = _stages(network), network.size if encoder else None
        self.channels_last = encoder or network.network == "residual"  # as images are made; twice as fast on a GPU
        if self.channels_last:
            self.body.to(memory_format=torch.channels_last)
        self.train()

    def train(self, mode: bool = True) -> "PerceptualDistance":
        """As of any module, but the network stays in evaluation mode."""
        super().train(mode)
        self.body.eval()
        return self

    def forward(self, y: Tensor, x: Tensor, draws: Draws | None = None) -> Tensor:
        with torch.no_grad():
            real = self._features(x)
            sizes = torch.stack([f.square().mean() for f in real])
            sizes = process_mean(sizes) if self.training else sizes
        errors = torch.stack([(a - b).square().mean() for a, b in zip(self._features(y), real, strict=True)])
        return self.weight * (errors / sizes).sum()

    def _features(self, x: Tensor) -> list[Tensor]:
        if self.side not in (None, x.shape[-1]):  # the autoencoder was trained on resized images
            x = F.interpolate(x, (self.side, self.side), mode="bilinear", antialias=True)
        if self.channels_last:
            x = x.contiguous(memory_format=torch.channels_last)
        features = []
        for stage in self.stages:
            x = stage(x)
            features.append(x.float())
        return features


def _stages(network: Classifier | Autoencoder) -> tuple[nn.Module, ...]:
    """The parts of a network, in their order, whose outputs are compared. Each ends with a (leaky) ReLU."""
    if isinstance(network, Autoencoder):
        return tuple(network.encoder)
    if network.network == "residual":
        return network.body.stem, *network.body.stages
    return tuple(network.body[i : i + 3] for i in (0, 3, 6))  # convolution, batch norm, ReLU


def check_data(settings: Perceptual, data: ImageSet | EventSet) -> None:
    """UserError for event frames, and for images without labels if a classifier is wanted."""
    if isinstance(data, EventSet):
        raise UserError(f"{data.name}: event frames; objective.perceptual compares images, leave it out")
    if data.labels is None and settings.network != "autoencoder":
        advice = "objective.perceptual.network = 'autoencoder' needs none"
        raise UserError(f"{data.name}: no labels; a perceptual loss needs them to train its classifier, {advice}")


def perceptual(
    settings: Perceptual,
    data: ImageSet,
    device: torch.device,
    resumed: bool = False,
    say: Callable[[str], None] = lambda line: None,
) -> PerceptualDistance:
    """The distance for a training set. Its network is trained, or read from the cache.

    resumed: only make the network; its weights will be loaded from the state of the run. say: gets a line before the
    network is trained, which takes minutes. UserError if a classifier is wanted and the data have no labels.
    """
    check_data(settings, data)
    make = _autoencoder if settings.network == "autoencoder" else _classifier
    return PerceptualDistance(make(settings, data, device, resumed, say), settings.weight).to(device)


def _classifier(settings: Perceptual, data: ImageSet, device: torch.device, resumed: bool, say) -> Classifier:
    images, labels, network = data.images, data.labels, settings.network
    size = images.shape[-1]
    if resumed:
        return Classifier(images.shape[1], int(labels.max()) + 1, size=size, network=network)
    say(_told(f"a classifier of {data.name} at {size} pixels"))
    how = dict(size=size, seed=SEED, device=device, progress=True, network=network)
    return cached_classifier(images, labels, data.fingerprint, **how)[0]


def _autoencoder(settings: Perceptual, data: ImageSet, device: torch.device, resumed: bool, say) -> Autoencoder:
    size = autoencoder_side(data.images)
    if resumed:
        return Autoencoder(data.images.shape[1], size=size)
    say(_told(f"an autoencoder of {data.name} at {size} pixels"))
    return cached_autoencoder(data.images, data.fingerprint, size=size, seed=SEED, device=device, progress=True)[0]


def _told(network: str) -> str:
    return f"perceptual loss: {network} is trained, once, and kept in the cache"
