"""A classifier of a data set, whose features and class probabilities score images of the same kind.

Inception was trained on photographs and has never seen digits or clothes. A classifier trained on the data has features
that mean something there, for FID, KID, precision and recall, and the classes that IS needs. Its scores are called
"...-classifier". They compare only with scores by the same weights, never with published FID or IS.

There are two networks. Which one a data set gets follows from its images:

plain     grey images: three strided convolutions; 98 to 99 % of MNIST's test images, about 91 % of Fashion-MNIST's
residual  colour images: seven convolutions, 43 million products an image of 32 pixels, after ResNet-9 (Page, "How to
          train your ResNet", 2018); trained on shifted and mirrored images, in bf16 where the device has units for it.
          Its matrices are rounded to half precision, so that a file of 1 MB holds them exactly. CIFAR-10's takes half
          an hour of one core; a data set whose classes are mirror images of others should bring its own classifier
"""

from collections import OrderedDict
from collections.abc import Mapping
from copy import deepcopy
from pathlib import Path
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..errors import UserError
from ..half_precision import halved
from ..process import bf16_units
from .fit import fit, kept, seeded
from .pixels import RESIZE, SMALL, named, resize, to_network
from .weights import load_network, save_tensors, weights_hash

BATCH = 256
SHIFT = 4  # pixels, in the training of the residual network
Network = Literal["plain", "residual"]


class Classifier(nn.Module):
    """`body`, one of the networks above, whose output are the features; and `head`, a linear layer, the logits."""

    side: Tensor

    def __init__(self, channels: int, classes: int, width: int = 128, size: int = 32, network: Network = "plain"):
        super().__init__()
        self.channels, self.classes, self.width, self.network = channels, classes, width, network
        self.body = _plain(channels, width) if network == "plain" else _residual(channels, width, size)
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
        """Write the weights as safetensors; the residual network's matrices in half precision, see `rounded`."""
        state = self.state_dict()
        save_tensors(halved(state) if self.network == "residual" else state, file)

    def rounded(self) -> "Classifier":
        """Itself, with the residual network's matrices rounded to half precision, as a file holds them."""
        if self.network == "residual":
            self.load_state_dict(halved(self.state_dict()))
        return self


def _plain(channels: int, width: int) -> nn.Sequential:
    """Three strided convolutions, the mean over places."""
    c = [channels, width // 4, width // 2, width]
    layers = [module for a, b in zip(c, c[1:], strict=False) for module in _layer(a, b, 2)]
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten())


def _residual(channels: int, width: int, size: int) -> nn.Sequential:
    """A first convolution, down to 32 pixels; three stages that halve the image; the mean over places."""
    c = width // 4
    stem = nn.Sequential(*_layer(channels, c, max(1, size // SMALL)))
    stages = [_Stage(c, c), _Stage(c, width), _Stage(width, width)]
    last = [nn.AdaptiveAvgPool2d(1), nn.Flatten()]
    return nn.Sequential(OrderedDict(stem=stem, stages=nn.Sequential(*stages), mean=nn.Sequential(*last)))


def _layer(a: int, b: int, stride: int = 1) -> tuple[nn.Module, ...]:
    return nn.Conv2d(a, b, 3, stride, 1, bias=False), nn.BatchNorm2d(b), nn.ReLU()


class _Stage(nn.Module):
    """A convolution and a pooling, and a second convolution with an identity path around it."""

    def __init__(self, a: int, b: int):
        super().__init__()
        convolution, *rest = _layer(a, b)
        self.down = nn.Sequential(convolution, nn.MaxPool2d(2), *rest)
        self.block = nn.Sequential(*_layer(b, b))

    def forward(self, x: Tensor) -> Tensor:
        x = self.down(x)
        return x + self.block(x)


def network_of(images: Tensor) -> Network:
    """The network for images `(N, C, H, W)` of a data set."""
    return "plain" if images.shape[1] == 1 else "residual"


class ClassifierFeatures:
    """A classifier as an `Extractor` with logits. It is copied to the CPU; a feature depends on its image alone."""

    mode, batch = "eval", BATCH

    def __init__(self, classifier: Classifier):
        self.width, self.hash, self.size = classifier.width, classifier.hash, classifier.size
        self.classes = classifier.classes
        self.name = named("classifier", self.size)
        self.resize = f"{RESIZE} to {self.size}x{self.size}"
        self._network = deepcopy(classifier).cpu().eval()
        self._format = torch.channels_last if classifier.network == "residual" else torch.contiguous_format
        self._network.to(memory_format=self._format)  # half as fast again for colour

    @torch.inference_mode()
    def __call__(self, images: Tensor) -> Tensor:
        """uint8 `(N, C, H, W)` to float32 `(N, width)`."""
        network = self._network
        batches = (resize(x, network.channels, self.size) for x in images.split(BATCH))
        return torch.cat([network.body(to_network(x).contiguous(memory_format=self._format)) for x in batches])

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
    network = "residual" if "body.stem.0.weight" in state else "plain"
    first = state["body.stem.0.weight" if network == "residual" else "body.0.weight"]
    classes, width = state["head.weight"].shape
    classifier = Classifier(first.shape[1], classes, width, int(state["side"]), network)
    classifier.load_state_dict(state)
    return classifier


def classifier_steps(n: int, network: Network = "plain") -> int:
    """Training steps for a set of n images.

    plain: ten epochs in batches of 64, but at least 200 and at most 2,000 steps. residual: ten epochs in batches of
    128, at least 100 and at most 4,000 steps.
    """
    if network == "plain":
        return min(2000, max(200, 10 * n // 64))
    return min(4000, max(100, 10 * n // 128))


def train_classifier(
    images: Tensor,
    labels: Tensor,
    *,
    size: int = 32,
    steps: int | None = None,
    seed: int = 0,
    device="cpu",
    progress=False,
    network: Network | None = None,
    state: Path | None = None,
) -> Classifier:
    """Train on uint8 `(N, C, H, W)` and labels `(N,)` of 0 .. K-1, by cross-entropy.

    plain: AdamW, one cycle up to 5e-3. residual: SGD with Nesterov's momentum, one cycle up to 0.1, labels smoothed by
    0.1. steps: None for `classifier_steps(N)`. network: None for `network_of(images)`. state: see `fit`. Returned in
    evaluation mode on the CPU; reproducible by the seed, see `fit`. UserError for labels of fewer than two classes.
    """
    classes = int(labels.max()) + 1
    if len(labels.unique()) < 2:
        raise UserError("a classifier needs labels of at least 2 classes; found one")
    network = network or network_of(images)
    steps = classifier_steps(len(images), network) if steps is None else steps
    images = resize(images, images.shape[1], size)
    classifier = seeded(lambda: Classifier(images.shape[1], classes, size=size, network=network), seed, device)
    title = "training a classifier of the data" if progress else None
    how = dict(n=len(images), steps=steps, seed=seed, title=title, state=state)
    train = _train_plain if network == "plain" else _train_residual
    return train(classifier, images, labels, torch.device(device), how).rounded()


def _train_plain(classifier: Classifier, images: Tensor, labels: Tensor, device: torch.device, how: dict) -> nn.Module:
    optimiser = torch.optim.AdamW(classifier.parameters(), lr=5e-3)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, 5e-3, total_steps=how["steps"])

    def loss(chosen: Tensor, _: torch.Generator) -> Tensor:
        return F.cross_entropy(classifier(to_network(images[chosen]).to(device)), labels[chosen].to(device))

    return fit(classifier, loss, optimiser, schedule, batch=64, **how)


def _train_residual(
    classifier: Classifier, images: Tensor, labels: Tensor, device: torch.device, how: dict
) -> nn.Module:
    classifier.to(memory_format=torch.channels_last)
    optimiser = torch.optim.SGD(classifier.parameters(), lr=0.1, momentum=0.9, nesterov=True, weight_decay=5e-4)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, 0.1, total_steps=how["steps"], pct_start=0.2)
    short = bool(bf16_units(device))

    def loss(chosen: Tensor, generator: torch.Generator) -> Tensor:
        x = to_network(_varied(images[chosen], generator)).to(device, memory_format=torch.channels_last)
        with torch.autocast(device.type, torch.bfloat16, enabled=short):
            logits = classifier(x)
        return F.cross_entropy(logits.float(), labels[chosen].to(device), label_smoothing=0.1)

    trained = fit(classifier, loss, optimiser, schedule, batch=128, **how)
    return trained.to(memory_format=torch.contiguous_format)


def _varied(images: Tensor, generator: torch.Generator) -> Tensor:
    """uint8 images, each shifted by up to 4 pixels (edges are mirrored) and, every second one, mirrored."""
    n, _, _, side = images.shape
    padded = F.pad(images.float(), (SHIFT,) * 4, mode="reflect").to(torch.uint8)
    rows, columns = torch.randint(2 * SHIFT + 1, (2, n, 1), generator=generator) + torch.arange(side)  # (n, side) each
    flipped = torch.rand(n, 1, generator=generator) < 0.5
    columns = torch.where(flipped, columns.flip(1), columns)
    varied = padded[torch.arange(n)[:, None, None], :, rows[:, :, None], columns[:, None]]  # (n, side, side, C)
    return varied.permute(0, 3, 1, 2)


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
    network: Network | None = None,
) -> tuple[Classifier, Path]:
    """The classifier of a training set with this fingerprint, trained now or before; and its file."""
    network = network or network_of(images)
    settings = dict(size=size, steps=steps or classifier_steps(len(images), network), seed=seed)

    def make(state: Path) -> Classifier:
        how = dict(device=device, progress=progress, network=network, state=state)
        return train_classifier(images, labels, **settings, **how)

    facts = {} if network == "plain" else {"network": network}
    return kept("classifier", make, load_classifier, fingerprint=fingerprint, width=128, **settings, **facts)
