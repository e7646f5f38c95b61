"""A perceptual loss: images are compared by the features of a classifier of the same data, beside their pixels.

    d(y, x) = sum over layers l of  mean (f_l(y) - f_l(x))^2 / mean f_l(x)^2

with f_l the outputs of the classifier's rectified convolutions (Johnson, Alahi & Fei-Fei, ECCV 2016) and means over the
whole batch, over all processes that share it. The squared error of pixels alone is least for the mean of all images
that a code may stand for, which is blurred. The classifier is the small one of `metrics.classifier`, trained on the
training images with another seed than the classifier that scores, so that no score uses the network of the loss.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ..data import ImageSet
from ..errors import UserError
from ..metrics.classifier import Classifier, cached_classifier
from ..nn import Draws
from ..nn.normalisation import process_mean
from ..ranges import check_ranges, setting

SEED = 1  # the scoring classifier's is 0


@dataclass(frozen=True)
class Perceptual:
    """Settings of `PerceptualDistance`."""

    weight: float = setting(0.5, above=0)
    """Weight in a generator's loss."""

    def __post_init__(self):
        check_ranges(self, "objective.perceptual.")


class PerceptualDistance(nn.Module):
    """d(y, x) of images (N, C, H, W) in [-1, 1], times `weight`; x gets no gradient, nothing is drawn.

    In training every process has its own share of a batch, and the mean of d over them is d of the whole batch; in
    evaluation mode images are compared in one process.
    """

    def __init__(self, classifier: nn.Module, weight: float):
        super().__init__()
        self.body, self.weight = classifier.body.requires_grad_(False), weight
        self.train()

    def train(self, mode: bool = True) -> "PerceptualDistance":
        """The classifier stays as it was trained, in either mode."""
        super().train(mode)
        self.body.eval()
        return self

    def forward(self, y: Tensor, x: Tensor, draws: Draws | None = None) -> Tensor:
        with torch.no_grad():
            wanted = self._features(x)
            sizes = torch.stack([f.square().mean() for f in wanted])
            sizes = process_mean(sizes) if self.training else sizes
        found = torch.stack([(a - b).square().mean() for a, b in zip(self._features(y), wanted, strict=True)])
        return self.weight * (found / sizes).sum()

    def _features(self, x: Tensor) -> list[Tensor]:
        found = []
        for layer in self.body:
            x = layer(x)
            if isinstance(layer, nn.ReLU):
                found.append(x.float())
        return found


def check_labels(data: ImageSet) -> None:
    """UserError for images without labels."""
    if data.labels is None:
        raise UserError(f"{data.name}: no labels; the features of a perceptual loss are those of a classifier")


def perceptual(
    settings: Perceptual,
    data: ImageSet,
    device: torch.device,
    kept: bool = False,
    say: Callable[[str], None] = lambda line: None,
) -> PerceptualDistance:
    """The distance for a labelled training set. Its classifier is trained, or found in the cache; or, if the state that
    a run goes on from has its weights (`kept`), made to receive them. UserError without labels.

    say: gets a line before the classifier is trained, which takes minutes.
    """
    check_labels(data)
    images, labels = data.images, data.labels
    channels, size = images.shape[1], images.shape[-1]
    if kept:
        classifier = Classifier(channels, int(labels.max()) + 1, size=size)
    else:
        say(f"preparing the perceptual loss: a classifier of {data.name} at {size} pixels, trained once and kept")
        classifier, _ = cached_classifier(
            images, labels, data.fingerprint, size=size, seed=SEED, device=device, progress=True
        )
    return PerceptualDistance(classifier, settings.weight).to(device)
