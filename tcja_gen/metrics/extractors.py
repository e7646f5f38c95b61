"""Extractors: images in, features out; and FAD, the Fréchet distance on an autoencoder's features.

`Extractor` is all that a score asks for, so a further network is one more class like `AutoencoderFeatures`;
`inception.InceptionFeatures` and `classifier.ClassifierFeatures` are two, which also have logits. FAD exists in
two modes (Kamata et al., AAAI 2022, and their code):

eval      batch norm with the autoencoder's own statistics: a feature depends on its image alone. Our primary
          figure.
official  batch norm with the statistics of the batch, batches of exactly 256: what FSVAE, ESVAE and FSDDIM
          publish. Blind to contrast and nearly blind to noise; for comparison with the literature.
"""

from copy import deepcopy
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from torch import Tensor, nn

from ..cache import entry
from ..errors import UserError
from ..process import everywhere
from .autoencoder import Autoencoder
from .frechet import Statistics
from .pixels import RESIZE, named, resize, to_network

MODES = ("eval", "official")
BATCH = 256  # official mode is defined by it
VERSION = 1  # of the way from images to features; another number makes every kept feature and statistic anew


class Extractor(Protocol):
    """What a score asks for.

    The whole set goes in at once: how it is cut into batches is the extractor's affair and never the
    caller's, so the features do not depend on how the images were made or loaded. `name`, `mode`, `resize`
    and `hash` go into every record and into the key of cached statistics; the hash is that of the weights.
    One that names classes also has `logits(features)`, `(N, width)` to `(N, K)`, which IS asks for. A set may be cut
    after any number of whole batches, whose features are the same by themselves: so processes share the work.
    """

    name: str
    mode: str
    resize: str
    width: int
    batch: int
    hash: str

    def __call__(self, images: Tensor) -> Tensor:
        """uint8 `(N, C, H, W)`, any size, grey or RGB, to float32 `(N, width)` on the CPU."""
        ...


class AutoencoderFeatures:
    """An autoencoder as an `Extractor`, in a mode of this module's docstring. Keeps the images' order.

    It works on a copy on the CPU: the autoencoder handed in is never changed, and a score does not depend on
    the device (an encoder pass costs 3.6 million multiplications an image). In official mode a last batch of
    fewer than 256 images is a batch of its own, as in the published statistics (39 x 256 + 16);
    `official_order` avoids it.
    """

    batch = BATCH

    def __init__(self, autoencoder: Autoencoder, mode: str = "eval"):
        if mode not in MODES:
            raise UserError(f"unknown FAD mode {mode!r}; there are {', '.join(MODES)}")
        self.mode, self.width, self.hash = mode, autoencoder.width, autoencoder.hash
        self.name = named("fsvae-autoencoder", autoencoder.size)
        self.resize = f"{RESIZE} to {autoencoder.size}x{autoencoder.size}"
        self._network = deepcopy(autoencoder).cpu().eval()
        if mode == "official":
            for layer in self._network.modules():
                if isinstance(layer, nn.BatchNorm2d):  # without running statistics it uses the batch's
                    layer.running_mean = layer.running_var = None

    @torch.inference_mode()
    def __call__(self, images: Tensor) -> Tensor:
        net = self._network
        batches = resize(images, net.channels, net.size).split(BATCH)
        return torch.cat([net.features(to_network(x)) for x in batches])  # (N, width)


def official_order(images: Tensor, seed: int = 0) -> Tensor:
    """Shuffle by a fixed seed and drop what does not fill a batch of 256: official mode for generated images.

    Batches sorted by class would change the score by 6 (MNIST). ValueError for fewer than 256 images.
    """
    if len(images) < BATCH:
        raise UserError(f"official FAD needs at least {BATCH} images, one whole batch; found {len(images)}")
    order = torch.randperm(len(images), generator=torch.Generator().manual_seed(seed))
    return images[order[: len(images) // BATCH * BATCH]]


def fad(images: Tensor, reference: Statistics, extractor: AutoencoderFeatures) -> float:
    """FAD of uint8 images `(N, C, H, W)` against reference statistics made in the same mode; lower is better.

    In official mode the images go through `official_order`. ValueError if the reference has another width.
    """
    if reference.mu.size != extractor.width:
        raise UserError(f"the reference has {reference.mu.size} features, the extractor {extractor.width}")
    if extractor.mode == "official":
        images = official_order(images)
    return Statistics.of(extractor(images)).distance(reference)


def cached_statistics(
    images: Tensor, extractor: Extractor, fingerprint: str, features: Tensor | None = None, **facts
) -> tuple[Statistics, Path]:
    """Statistics of a whole reference set in its own order, or those computed before; and their file.

    The key is the images' fingerprint, the extractor (name, hash, mode, resize) and the facts (split, size,
    ...). Features of the same images, where they are known, save a pass. Under `torch.distributed` all processes ask
    together, for an extractor may share the work out.
    """
    facts = _facts(extractor, fingerprint, facts)
    cached = entry("statistics", ".npz", VERSION, Statistics.load, **facts)
    found = cached.get()
    if not everywhere(found is not None):
        made = Statistics.of(extractor(images) if features is None else features, **facts)
        found = cached.keep(made, made.save)
    return found, cached.file


def cached_features(images: Tensor, extractor: Extractor, fingerprint: str, **facts) -> tuple[Tensor, Path]:
    """Features `(N, width)` of a whole reference set, or those computed before; and their file, with the same key."""
    cached = entry("features", ".npy", VERSION, _read, **_facts(extractor, fingerprint, facts))
    found = cached.get()
    if not everywhere(found is not None):
        made = extractor(images)
        found = cached.keep(made, lambda file: _write(made, file))
    return found, cached.file


def _read(file: Path) -> Tensor:
    return torch.from_numpy(np.load(file, allow_pickle=False))


def _write(features: Tensor, file: Path) -> None:
    with open(file, "wb") as f:
        np.save(f, features.numpy())


def _facts(extractor: Extractor, fingerprint: str, facts: dict) -> dict:
    return dict(facts, fingerprint=fingerprint, extractor=identity(extractor))


def identity(extractor: Extractor) -> dict:
    """What tells the features of an extractor from those of another."""
    return {name: getattr(extractor, name) for name in ("name", "hash", "mode", "resize")}
