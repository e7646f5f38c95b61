"""Extractors: images in, features out; and FAD, the Fréchet distance on an autoencoder's features.

A new network is one more class like `AutoencoderFeatures` with the methods of `Extractor`; others are
`inception.InceptionFeatures` and `classifier.ClassifierFeatures`, which also have logits. FAD has two modes (Kamata et
al., AAAI 2022, and their code):

eval      batch norm uses the autoencoder's running statistics: a feature depends on its image alone. Our main score
official  batch norm uses the statistics of the batch, in batches of exactly 256. FSVAE, ESVAE and FSDDIM publish this
          one. It does not see contrast and hardly sees noise; for comparison with the literature
"""

from copy import deepcopy
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from torch import Tensor, nn

from ..cache import entry
from ..errors import UserError
from ..process import in_all_processes
from .autoencoder import Autoencoder
from .frechet import Statistics
from .pixels import RESIZE, named, resize, to_network

MODES = ("eval", "official")
BATCH = 256  # part of the definition of official mode
VERSION = 1  # of the code from images to features; a new number discards all cached features and statistics


class Extractor(Protocol):
    """A network that turns images into features.

    It takes the whole set at once and cuts it into batches of `batch` itself, so that features do not depend on how the
    images were made or loaded. A part of the set that consists of whole batches has the same features by itself: this
    lets processes share the work. `name`, `mode`, `resize` and `hash` (of the weights) are in every record and in the
    key of cached statistics. For IS an extractor also has `logits(features)`, `(N, width)` to `(N, K)`.
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
    """An autoencoder as an `Extractor`, in one of the modes above. Keeps the order of the images.

    It is copied to the CPU: the given autoencoder is not changed, and scores do not depend on the device (the encoder
    takes 3.6 million multiplications for an image). In official mode the last batch may have fewer than 256 images, as
    in the published statistics (39 x 256 + 16); `official_order` avoids it.
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
    """Generated images as official mode takes them: shuffled by a fixed seed, in whole batches of 256.

    Without the shuffle, images sorted by class would change the score by 6 (MNIST). UserError for fewer than 256.
    """
    if len(images) < BATCH:
        raise UserError(f"official FAD needs at least {BATCH} images, one whole batch; found {len(images)}")
    order = torch.randperm(len(images), generator=torch.Generator().manual_seed(seed))
    return images[order[: len(images) // BATCH * BATCH]]


def fad(images: Tensor, reference: Statistics, extractor: AutoencoderFeatures) -> float:
    """FAD of uint8 images `(N, C, H, W)` against reference statistics made in the same mode; lower is better.

    In official mode the images go through `official_order`. UserError if the reference has another width.
    """
    if reference.mu.size != extractor.width:
        raise UserError(f"the reference has {reference.mu.size} features, the extractor {extractor.width}")
    if extractor.mode == "official":
        images = official_order(images)
    return Statistics.of(extractor(images)).distance(reference)


def cached_statistics(
    images: Tensor, extractor: Extractor, fingerprint: str, features: Tensor | None = None, **facts
) -> tuple[Statistics, Path]:
    """Statistics of a whole reference set in its own order, computed now or before; and their file.

    The cache's key is the fingerprint of the images, the extractor's name, hash, mode and resize, and the facts (split,
    size, ...). features: of the same images, if they are known already. Under `torch.distributed` all processes must
    call this together, because they share the extractor's work.
    """
    facts = _facts(extractor, fingerprint, facts)
    cached = entry("statistics", ".npz", VERSION, Statistics.load, **facts)
    found = cached.get()
    if not in_all_processes(found is not None):
        made = Statistics.of(extractor(images) if features is None else features, **facts)
        found = cached.try_store(made, made.save)
    return found, cached.file


def cached_features(images: Tensor, extractor: Extractor, fingerprint: str, **facts) -> tuple[Tensor, Path]:
    """Features `(N, width)` of a whole reference set, and their file; see `cached_statistics`."""
    cached = entry("features", ".npy", VERSION, _read, **_facts(extractor, fingerprint, facts))
    found = cached.get()
    if not in_all_processes(found is not None):
        made = extractor(images)
        found = cached.try_store(made, lambda file: _write(made, file))
    return found, cached.file


def _read(file: Path) -> Tensor:
    return torch.from_numpy(np.load(file, allow_pickle=False))


def _write(features: Tensor, file: Path) -> None:
    with open(file, "wb") as f:
        np.save(f, features.numpy())


def _facts(extractor: Extractor, fingerprint: str, facts: dict) -> dict:
    return dict(facts, fingerprint=fingerprint, extractor=identity(extractor))


def identity(extractor: Extractor) -> dict:
    """The fields that tell the features of one extractor from those of another."""
    return {name: getattr(extractor, name) for name in ("name", "hash", "mode", "resize")}
