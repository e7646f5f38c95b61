"""Image sets in memory: `load_images` finds the source, `ImageSet` is what the other rooms get.

The rules of conversion are those of `pictures`, the rules of splitting those of `catalogue`.
"""

from __future__ import annotations

import difflib
import hashlib
import os
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ..errors import MissingFile, UserError
from .builtin import BUILTIN, builtin_catalogue
from .catalogue import SPLITS, Catalogue
from .folders import folder_catalogue
from .pictures import SMALLEST, fit, fit_all


@dataclass(frozen=True, eq=False)
class ImageSet:
    """Images of one split: `images` uint8 `(N, C, H, W)`, `labels` int64 `(N,)` or None, both on the CPU."""

    images: Tensor
    labels: Tensor | None
    name: str
    split: str
    classes: tuple[str, ...] | None = None

    def __post_init__(self):
        if self.images.ndim != 4 or self.images.dtype != torch.uint8:
            found = f"{self.images.dtype} {tuple(self.images.shape)}"
            raise UserError(f"{self.name}: images are {found}, wanted torch.uint8 (N, C, H, W)")
        if self.labels is not None and self.labels.shape != self.images.shape[:1]:
            raise UserError(f"{self.name}: {len(self.images)} images but labels {tuple(self.labels.shape)}")

    def __len__(self) -> int:
        return len(self.images)

    @property
    def samples(self) -> Tensor:
        """What batches are cut from, as `EventSet.samples`."""
        return self.images

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 (hex) of the shape and bytes of the images and of the labels; the name plays no part."""
        digest = hashlib.sha256(repr(tuple(self.images.shape)).encode())
        digest.update(self.images.contiguous().numpy())
        if self.labels is not None:
            digest.update(self.labels.contiguous().numpy())
        return digest.hexdigest()


def load_images(
    source: str | os.PathLike,
    split: str = "train",
    *,
    size: int | None = None,
    channels: int | None = None,
    root: str | os.PathLike = "data",
    download: bool = False,
) -> ImageSet:
    """Load one split of a built-in set, of a folder of images or of a zip into memory.

    source: `digits`, `mnist`, `fashion-mnist`, `cifar10`, `cifar100`, `celeba`, or path of a folder or zip
    split: `train`, `validation`, `test`, `train+validation`, or `all`
    size: side of the square images in pixels; None takes the set's own (a folder's images must then agree)
    channels: 1 or 3; None takes the set's own (a folder's images must then agree)
    root: where the files of the built-in sets lie, in torchvision's layout
    download: fetch the files of a built-in set if they are missing

    ValueError for a mistaken argument or a bad image, FileNotFoundError for missing files; one line each.
    """
    if split not in SPLITS:
        raise UserError(f"unknown split {split!r}: take one of {', '.join(SPLITS)}")
    if size is not None and size < SMALLEST:
        raise UserError(f"size {size} is too small: at least {SMALLEST} pixels")
    if channels not in (None, 1, 3):
        raise UserError(f"channels {channels}: take 1 (grey) or 3 (RGB)")
    found = find_source(source)
    if isinstance(found, Path):
        catalogue = folder_catalogue(found, size, channels)
    else:
        catalogue = builtin_catalogue(found, size, channels, Path(root), download)
    return _read(catalogue, split)


def find_source(source: str | os.PathLike) -> str | Path:
    """A built-in name, else an existing path; the name wins over a folder called the same (say `./mnist`)."""
    if not isinstance(source, str | os.PathLike):
        raise UserError(f"data are a {type(source).__name__}; a set's name, or the path of a folder or zip, is wanted")
    if str(source) in BUILTIN:
        return str(source)
    path = Path(source)
    if path.exists():
        return path
    if path.suffix or len(path.parts) > 1:
        raise MissingFile(f"{source}: no such folder or zip")
    close = difflib.get_close_matches(str(source).lower(), BUILTIN, n=1)
    hint = f", did you mean {close[0]!r}?" if close else ":"
    known = f"known are {', '.join(BUILTIN)}, or give the path of a folder or zip"
    raise UserError(f"unknown data set {str(source)!r}{hint} {known}")


def _read(catalogue: Catalogue, split: str) -> ImageSet:
    indices = catalogue.indices(split)
    size, channels = catalogue.size, catalogue.channels
    labels = None if catalogue.labels is None else catalogue.labels[indices]
    pixels = None if catalogue.pixels is None else fit_all(catalogue.pixels[indices.numpy()], size, channels)
    if pixels is None:
        pixels = _one_by_one(catalogue, indices)
    return ImageSet(torch.from_numpy(pixels), labels, catalogue.name, split, catalogue.classes)


def _one_by_one(catalogue: Catalogue, indices: Tensor) -> np.ndarray:
    from tqdm import tqdm

    size, channels = catalogue.size, catalogue.channels
    pixels = np.empty((len(indices), channels, size, size), dtype=np.uint8)
    # tqdm writes to stderr, and here only for loads of more than 2 seconds watched on a terminal
    for row, i in enumerate(tqdm(indices.tolist(), catalogue.name, delay=2, leave=False, disable=None)):
        pixels[row] = fit(catalogue.picture(i), size, channels)
    return pixels
