"""A perceptual loss, which compares images by the features of a classifier of the same data.

    d(y, x) = sum over layers l of  mean (f_l(y) - f_l(x))^2 / mean f_l(x)^2

f_l are the outputs of the classifier's ReLU layers, or of its stages if it is residual (Johnson, Alahi & Fei-Fei, ECCV
2016). Means are over the whole batch in all processes. The squared error of pixels alone favours the mean of all images
that a code could stand for, and that mean is blurred. The classifier is one of `metrics.classifier`. It is trained on
the training images with another seed than the classifier for scores, so no score uses the network of the loss.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ..data import EventSet, ImageSet
from ..errors import UserError
from ..metrics.classifier import Classifier, Network, cached_classifier
from ..nn import Draws
from ..nn.normalisation import process_mean
from ..ranges import check_ranges, setting

SEED = 1  # the classifier for scores has seed 0


@dataclass(frozen=True)
class Perceptual:
    """Settings of `PerceptualDistance`."""

    weight: float = setting(0.5, above=0)
    """Weight in the loss of the generator."""
    network: Network = "plain"
    """Classifier whose features are compared: plain or residual. The latter sees more in colour, and takes longer."""

    def __post_init__(self):
        check_ranges(self, "objective.perceptual.")


class PerceptualDistance(nn.Module):
    """weight times d(y, x), a scalar, for images (N, C, H, W) in [-1, 1]. Only y gets a gradient.

    In training every process has its share of a batch, and the mean of the result over processes is that of the whole
    batch. In evaluation mode a process compares its own images.
    """

    def __init__(self, classifier: Classifier, weight: float):
        super().__init__()
        self.body, self.weight = classifier.body.requires_grad_(False), weight
        self.residual = classifier.network == "residual"
        if self.residual:
            self.body.to(memory_format=torch.channels_last)  # as the generator's images are; twice as fast on a GPU
        self.train()

    def train(self, mode: bool = True) -> "PerceptualDistance":
        """As of any module, but the classifier stays in evaluation mode."""
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
        features = []
        if self.residual:
            x = x.contiguous(memory_format=torch.channels_last)
        for layer in (self.body.stem, *self.body.stages) if self.residual else self.body:
            x = layer(x)
            if self.residual or isinstance(layer, nn.ReLU):
                features.append(x.float())
        return features


def check_labels(data: ImageSet | EventSet) -> None:
    """UserError for images without labels, or event frames."""
    if isinstance(data, EventSet):
        raise UserError(f"{data.name}: event frames; objective.perceptual compares images, leave it out")
    if data.labels is None:
        raise UserError(f"{data.name}: no labels; a perceptual loss needs them to train its classifier")


def perceptual(
    settings: Perceptual,
    data: ImageSet,
    device: torch.device,
    resumed: bool = False,
    say: Callable[[str], None] = lambda line: None,
) -> PerceptualDistance:
    """The distance for a labelled training set. Its classifier is trained, or read from the cache.

    resumed: only make the classifier; its weights will be loaded from the state of the run. say: gets a line before the
    classifier is trained, which takes minutes. UserError if the data have no labels.
    """
    check_labels(data)
    images, labels = data.images, data.labels
    channels, size = images.shape[1], images.shape[-1]
    if resumed:
        classifier = Classifier(channels, int(labels.max()) + 1, size=size, network=settings.network)
    else:
        say(f"perceptual loss: a classifier of {data.name} at {size} pixels is trained, once, and kept in the cache")
        classifier, _ = cached_classifier(
            images,
            labels,
            data.fingerprint,
            size=size,
            seed=SEED,
            device=device,
            progress=True,
            network=settings.network,
        )
    return PerceptualDistance(classifier, settings.weight).to(device)
