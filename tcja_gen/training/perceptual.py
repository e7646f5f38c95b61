"""A perceptual loss: images are compared by what a classifier of the same data sees in them, beside their pixels.

    d(y, x) = sum over layers l of  mean (f_l(y) - f_l(x))^2 / mean f_l(x)^2

with f_l the outputs of the classifier's rectified convolutions (Johnson, Alahi & Fei-Fei, ECCV 2016). A squared error
of pixels alone asks for the mean of all images that a code may stand for, which is blurred. The classifier is the small
one of `metrics.classifier`, trained on the training images by another seed than the one that scores, so that no score
looks through the eyes that trained. What is gained in its likes, FID-classifier and FAD, is not likeness to people.
"""

import torch
from torch import Tensor, nn

from ..data import ImageSet
from ..errors import UserError
from ..metrics.classifier import cached_classifier
from ..nn import Draws

SEED = 1  # the scoring classifier's is 0


class Perceptual(nn.Module):
    """d(y, x) of images (N, C, H, W) in [-1, 1], times `weight`; x gets no gradient, nothing is drawn."""

    def __init__(self, classifier: nn.Module, weight: float):
        super().__init__()
        self.body, self.weight = classifier.body.requires_grad_(False).eval(), weight

    def forward(self, y: Tensor, x: Tensor, draws: Draws | None = None) -> Tensor:
        with torch.no_grad():
            wanted = self._features(x)
        parts = [(a - b).square().mean() / b.square().mean() for a, b in zip(self._features(y), wanted, strict=True)]
        return self.weight * torch.stack(parts).sum()

    def _features(self, x: Tensor) -> list[Tensor]:
        found = []
        for layer in self.body:
            x = layer(x)
            if isinstance(layer, nn.ReLU):
                found.append(x.float())
        return found


def perceptual(data: ImageSet, weight: float, device: torch.device) -> Perceptual:
    """The loss for a labelled training set; its classifier is trained or cached. ValueError without labels."""
    if data.labels is None:
        raise UserError(f"{data.name}: no labels; the features of a perceptual loss are those of a classifier")
    size = data.images.shape[-1]
    classifier, _ = cached_classifier(data.images, data.labels, data.fingerprint, size=size, seed=SEED, device=device)
    return Perceptual(classifier, weight).to(device)
