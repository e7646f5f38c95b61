"""A perceptual loss: images are compared by what a classifier of the same data sees in them, beside their pixels.

    d(y, x) = sum over layers l of  mean (f_l(y) - f_l(x))^2 / mean f_l(x)^2

with f_l the outputs of the classifier's rectified convolutions (Johnson, Alahi & Fei-Fei, ECCV 2016) and means over the
whole batch, over all processes that share it. A squared error
of pixels alone asks for the mean of all images that a code may stand for, which is blurred. The classifier is the small
one of `metrics.classifier`, trained on the training images by another seed than the one that scores, so that no score
looks through the eyes that trained. What is gained in its likes, FID-classifier and FAD, is not likeness to people.
"""

import torch
from torch import Tensor, nn

from ..data import ImageSet
from ..errors import UserError
from ..metrics.classifier import Classifier, cached_classifier
from ..nn import Draws
from ..nn.normalisation import process_mean

SEED = 1  # the scoring classifier's is 0


class Perceptual(nn.Module):
    """d(y, x) of images (N, C, H, W) in [-1, 1], times `weight`; x gets no gradient, nothing is drawn.

    In training every process has its own share of a batch, and the mean of d over them is d of the whole batch; in
    evaluation mode images are compared in one process.
    """

    def __init__(self, classifier: nn.Module, weight: float):
        super().__init__()
        self.body, self.weight = classifier.body.requires_grad_(False), weight
        self.train()

    def train(self, mode: bool = True) -> "Perceptual":
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


def perceptual(data: ImageSet, weight: float, device: torch.device, kept: bool = False) -> Perceptual:
    """The loss for a labelled training set; its classifier is trained or cached, or, if a run that goes on has it in
    its `kept` state, waits for those weights. ValueError without labels."""
    if data.labels is None:
        raise UserError(f"{data.name}: no labels; the features of a perceptual loss are those of a classifier")
    images, labels = data.images, data.labels
    channels, size = images.shape[1], images.shape[-1]
    if kept:
        classifier = Classifier(channels, int(labels.max()) + 1, size=size)
    else:
        classifier, _ = cached_classifier(images, labels, data.fingerprint, size=size, seed=SEED, device=device)
    return Perceptual(classifier, weight).to(device)
