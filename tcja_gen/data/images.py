"""`load_images`: one split of any set of images, by name or path, as an `ImageSet`.

How pictures are converted and resized is told in `pictures`, how they are split in `catalogue`.
"""

from __future__ import annotations

import difflib
import os
from collections.abc import Callable, Mapping
from pathlib import Path

import torch
from torch import Tensor

from ..errors import MissingFile, UserError
from ..registry import DATASETS
from .builtin import BUILTIN, builtin_catalogue
from .catalogue import SPLITS, Catalogue
from .event_names import KNOWN
from .folders import folder_catalogue
from .image_sets import ImageSet, catalogue_of, registered_catalogue
from .pictures import SMALLEST, fit_all
from .reading import read


def load_images(
    source: str | os.PathLike,
    split: str = "train",
    *,
    size: int | None = None,
    channels: int | None = None,
    root: str | os.PathLike = "data",
    download: bool = False,
    pick: Callable[[int], Tensor] | None = None,
) -> ImageSet:
    """One split of a named set, a folder of images or a zip, in memory.

    source: `digits`, `mnist`, `fashion-mnist`, `cifar10`, `cifar100`, `celeba`, `celeba-10k`, the name of a registered
        set, or the path of a folder or zip
    split: `train`, `validation`, `test`, `train+validation`, or `all`
    size: side of the square images in pixels; None takes the set's own (a folder's images must then agree)
    channels: 1 or 3; None takes the set's own (a folder's images must then agree)
    root: folder of the named sets, in torchvision's layout
    download: fetch the files of a built-in set if they are missing
    pick: which images of the split, a function from their number to ascending indices; None: all. No others are read

    ValueError for a mistaken argument or a bad image, FileNotFoundError for missing files; one line each.
    """
    if split not in SPLITS:
        raise UserError(f"unknown split {split!r}: take one of {', '.join(SPLITS)}")
    check_shape(size, channels)
    found = find_source(source)
    if isinstance(found, Path):
        catalogue = folder_catalogue(found, size, channels)
    elif found in BUILTIN:
        catalogue = builtin_catalogue(found, size, channels, Path(root), download)
    else:
        catalogue = registered_catalogue(found, size, channels, Path(root))
    return _read(catalogue, split, pick)


def fit_splits(splits: Mapping[str, ImageSet | None], size: int | None, channels: int | None) -> dict[str, ImageSet]:
    """Splits that Python hands over (`splits_of`), in this size and with so many channels; None: as they are."""
    check_shape(size, channels)
    catalogue = catalogue_of(splits, size, channels)
    return {split: _read(catalogue, split) for split in splits}


def check_shape(size: int | None, channels: int | None) -> None:
    if size is not None and size < SMALLEST:
        raise UserError(f"size {size} is too small: at least {SMALLEST} pixels")
    if channels not in (None, 1, 3):
        raise UserError(f"channels {channels}: take 1 (grey) or 3 (RGB)")


def find_source(source: str | os.PathLike) -> str | Path:
    """The name of a set of images, or a path that exists. A name wins over a folder called the same (./mnist)."""
    if not isinstance(source, str | os.PathLike):
        raise UserError(f"data are a {type(source).__name__}; a set's name, or the path of a folder or zip, is wanted")
    known = [name for name in DATASETS if name not in KNOWN]
    if str(source) in known:
        return str(source)
    path = Path(source)
    if path.exists():
        return path
    if path.suffix or len(path.parts) > 1:
        raise MissingFile(f"{source}: no such folder or zip")
    if str(source) in KNOWN:
        raise UserError(f"{source}: event recordings; images are wanted here, a set's name, a folder or a zip")
    close = difflib.get_close_matches(str(source).lower(), known, n=1)
    hint = f", did you mean {close[0]!r}?" if close else ":"
    told = f"known are {', '.join(known)}, or give the path of a folder or zip; --plugin FILE adds those of a file"
    raise UserError(f"unknown data set {str(source)!r}{hint} {told}")


def _read(catalogue: Catalogue, split: str, pick: Callable[[int], Tensor] | None = None) -> ImageSet:
    indices = catalogue.indices(split)
    if pick:
        indices = indices[pick(len(indices))]
    size, channels = catalogue.size, catalogue.channels
    labels = None if catalogue.labels is None else catalogue.labels[indices]
    pixels = None if catalogue.pixels is None else fit_all(catalogue.pixels[indices.numpy()], size, channels)
    if pixels is None:
        pixels = read(catalogue, indices.tolist())
    converted = _converted(catalogue)
    return ImageSet(torch.from_numpy(pixels), labels, catalogue.name, split, catalogue.classes, converted)


def _converted(catalogue: Catalogue) -> str:
    """What is done to the pictures of a folder or zip, in words; "" if nothing is."""
    wanted = (catalogue.size, catalogue.size, catalogue.channels)
    if catalogue.first in (None, wanted):
        return ""
    before, after = (f"{'grey' if c == 1 else 'colour'}, {w} x {h} pixels" for w, h, c in (catalogue.first, wanted))
    return f"{before}, converted to {after}"
