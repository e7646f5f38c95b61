"""A small classifier of a data set, whose features and class probabilities score images of the same kind.

Inception was trained on photographs and has never seen digits or clothes. A classifier trained on the data has features
that mean something there, for FID, KID, precision and recall, and the classes that IS needs. Its scores are called
"...-classifier". They compare only with scores by the same weights, never with published FID or IS.
"""

from collections.abc import Mapping
from copy import deepcopy
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..errors import UserError
from .fit import fit, kept, seeded
from .pixels import RESIZE, named, resize, to_network
from .weights import load_network, save_tensors, weights_hash

BATCH = 256


class Classifier(nn.Module):
    """Three strided convolutions, the mean over places (the features), a linear layer (the logits)."""

    side: Tensor

    def __init__(self, channels: int, classes: int, width: int = 128, size: int = 32):
        super().__init__()
        c = [channels, width // 4, width // 2, width]
        blocks = [layer for a, b in zip(c, c[1:], strict=False) for layer in _block(a, b)]
        self.channels, self.classes, self.width = channels, classes, width
        self.body = nn.Sequential(*blocks, nn.AdaptiveAvgPool2d(1), nn.Flatten())
        self.head = nn.Linear(width, classes)
        self.register_buffer("side", torch.tensor(size))  # of its images; in the file, as scores depend on it

    @property
    def size(self) -> int:
        return int(self.side)

    def forward(self, x: Tensor) -> Tensor:
        """Logits `(N, classes)` of `(N, channels, H, W)` in [-1, 1]."""
        return self.head(self.body(x))

    @property
    def hash(self) -> str:
        """SHA-256 of all weights and the size of the images."""
        return weights_hash(self.state_dict())

    def save(self, file: str | Path) -> None:
        """Write the weights as safetensors."""
        save_tensors(self.state_dict(), file)


def _block(a: int, b: int) -> tuple[nn.Module, ...]:
    return nn.Conv2d(a, b, 3, 2, 1, bias=False), nn.BatchNorm2d(b), nn.ReLU()


class ClassifierFeatures:
    """A classifier as an `Extractor` with logits. It is copied to the CPU; a feature depends on its image alone."""

    mode, batch = "eval", BATCH

    def __init__(self, classifier: Classifier):
        self.width, self.hash, self.size = classifier.width, classifier.hash, classifier.size
        self.name = named("classifier", self.size)
        self.resize = f"{RESIZE} to {self.size}x{self.size}"
        self._network = deepcopy(classifier).cpu().eval()

    @torch.inference_mode()
    def __call__(self, images: Tensor) -> Tensor:
        """uint8 `(N, C, H, W)` to float32 `(N, width)`."""
        network = self._network
        batches = (resize(x, network.channels, self.size) for x in images.split(BATCH))
        return torch.cat([network.body(to_network(x)) for x in batches])

    @torch.inference_mode()
    def logits(self, features: Tensor) -> Tensor:
        """`(N, width)` to `(N, classes)`."""
        return self._network.head(features)


def load_classifier(file: str | Path) -> Classifier:
    """A classifier in eval mode from a file of `Classifier.save`, or a reference (`.npz`).

    MissingFile, or UserError that names the file if it is anything else. No code in the file is run.
    """
    return load_network(file, "classifier", _built, "the .safetensors that tcja-gen reference makes")


def _built(state: Mapping[str, Tensor]) -> Classifier:
    channels, (classes, width) = state["body.0.weight"].shape[1], state["head.weight"].shape
    classifier = Classifier(channels, classes, width, int(state["side"]))
    classifier.load_state_dict(state)
    return classifier


def classifier_steps(n: int) -> int:
    """Training steps of 64 images for a set of n: ten epochs, but at least 200 and at most 2,000 steps."""
    return min(2000, max(200, 10 * n // 64))


def train_classifier(
    images: Tensor,
    labels: Tensor,
    *,
    size: int = 32,
    steps: int | None = None,
    seed: int = 0,
    device="cpu",
    progress=False,
) -> Classifier:
    """Train on uint8 `(N, C, H, W)` and labels `(N,)` of 0 .. K-1: cross-entropy, AdamW, one cycle up to 5e-3.

    steps: None for `classifier_steps(N)`. Returned in evaluation mode on the CPU; reproducible by the seed, see `fit`.
    UserError for labels of fewer than two classes.
    """
    classes = int(labels.max()) + 1
    if len(labels.unique()) < 2:
        raise UserError("a classifier needs labels of at least 2 classes; found one")
    steps = classifier_steps(len(images)) if steps is None else steps
    images = resize(images, images.shape[1], size)
    classifier = seeded(lambda: Classifier(images.shape[1], classes, size=size), seed, device)
    optimiser = torch.optim.AdamW(classifier.parameters(), lr=5e-3)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, 5e-3, total_steps=steps)

    def loss(chosen: Tensor) -> Tensor:
        return F.cross_entropy(classifier(to_network(images[chosen]).to(device)), labels[chosen].to(device))

    title = "training a classifier of the data" if progress else None
    how = dict(n=len(images), batch=64, steps=steps, seed=seed, title=title)
    return fit(classifier, loss, optimiser, schedule, **how)


def cached_classifier(
    images: Tensor,
    labels: Tensor,
    fingerprint: str,
    *,
    size: int = 32,
    steps: int | None = None,
    seed: int = 0,
    device="cpu",
    progress=False,
) -> tuple[Classifier, Path]:
    """The classifier of a training set with this fingerprint, trained now or before; and its file."""
    settings = dict(size=size, steps=steps or classifier_steps(len(images)), seed=seed)

    def make() -> Classifier:
        return train_classifier(images, labels, **settings, device=device, progress=progress)

    return kept("classifier", make, load_classifier, fingerprint=fingerprint, width=128, **settings)
