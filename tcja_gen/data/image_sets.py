"""Image sets in memory, and how arrays become one: those that Python hands over, and those of registered data sets.

A data set of your own is a function with a name:

    @register_dataset("bars")
    def bars(split, root):
        return images, labels      # or images alone, an `ImageSet`, a torch `Dataset`; None if there is no such split

It is called with "train", "validation" and "test", and with the folder of --data-root. A split for which it returns
None is held out of its training images, as in a folder without that split (`catalogue`). The images must be the same at
every call: a run that is resumed compares their fingerprint.
"""

from __future__ import annotations

import hashlib
import operator
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from itertools import combinations
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from ..errors import UserError
from ..registry import DATASETS
from .catalogue import PARTS, Catalogue, partition
from .pictures import plain

if TYPE_CHECKING:
    from PIL.Image import Image

NAME = "images"  # of a data set that has no other


@dataclass(frozen=True, eq=False)
class ImageSet:
    """Images of one split: `images` uint8 `(N, C, H, W)`, `labels` int64 `(N,)` or None, both on the CPU.

    classes: names of the classes, by label. converted: in words, what was done to the pictures of a folder or zip
    to bring them to this size and these channels; "" if nothing was. UserError for images or labels of another type or
    shape.
    """

    images: Tensor
    labels: Tensor | None
    name: str
    split: str
    classes: tuple[str, ...] | None = None
    converted: str = ""

    def __post_init__(self):
        if self.images.ndim != 4 or self.images.dtype != torch.uint8:
            found = f"{self.images.dtype} {tuple(self.images.shape)}"
            raise UserError(f"{self.name}: images are {found}, wanted torch.uint8 (N, C, H, W)")
        if self.labels is not None and self.labels.shape != self.images.shape[:1]:
            raise UserError(f"{self.name}: {len(self.images)} images but labels {tuple(self.labels.shape)}")

    def __len__(self) -> int:
        return len(self.images)

    def __repr__(self) -> str:
        shape = " x ".join(map(str, self.images.shape[1:]))
        classes = f", {len(self.classes)} classes" if self.classes else ""
        return f"ImageSet({self.name}, {self.split}: {len(self):,} images, {shape}{classes})"

    @property
    def samples(self) -> Tensor:
        """What batches are made of, as `EventSet.samples`."""
        return self.images

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 (hex) of the shape and bytes of the images and of the labels, whatever the set is called."""
        digest = hashlib.sha256(repr(tuple(self.images.shape)).encode())
        digest.update(self.images.contiguous().numpy())
        if self.labels is not None:
            digest.update(self.labels.contiguous().numpy())
        return digest.hexdigest()


# anything that holds images, as an ImageSet


def image_set(data: Any, split: str, name: str = NAME) -> ImageSet:
    """One split of images.

    data: an `ImageSet`; an array or tensor (N, C, H, W) or (N, H, W), uint8 or floats in [0, 1]; a pair of such images
    and labels (N,), integers from 0; or a torch `Dataset` of images, or of pairs of image and label. UserError for
    anything else.
    """
    if isinstance(data, ImageSet):
        return data
    if isinstance(data, Tensor | np.ndarray):
        data = (data, None)
    if isinstance(data, tuple | list) and len(data) == 2:
        images, labels = data
        return ImageSet(_pixels(_tensor("images", images)), _labels(labels), name, split)
    if hasattr(data, "__getitem__") and hasattr(data, "__len__") and not isinstance(data, str | Mapping):
        return image_set(_read(data), split, name)
    found = type(data).__name__
    raise UserError(f"data is a {found}; an ImageSet, an array (N, C, H, W), (images, labels) or a Dataset is wanted")


def _tensor(what: str, values: Any) -> Tensor:
    try:
        return torch.as_tensor(values)
    except (TypeError, ValueError, RuntimeError) as error:
        raise UserError(f"{what} are a {type(values).__name__} that is no array: {error}") from None


def _pixels(images: Tensor) -> Tensor:
    """uint8 (N, C, H, W) of images, uint8 or floats in [0, 1]."""
    if images.dim() == 3:
        images = images[:, None]
    if images.dim() != 4 or not len(images):
        raise UserError(f"images have the shape {tuple(images.shape)}; (N, C, H, W) is wanted, N at least 1")
    if images.dtype == torch.uint8:
        return images.cpu().contiguous()
    if not images.is_floating_point() or not (images.min() >= 0 and images.max() <= 1):
        raise UserError(f"images are {images.dtype}; uint8, or floats in [0, 1], are wanted")
    return (images.cpu() * 255).round().to(torch.uint8).contiguous()


def _labels(labels: Any) -> Tensor | None:
    if labels is None:
        return None
    labels = _tensor("labels", labels)
    if labels.is_floating_point() or labels.dim() != 1 or (len(labels) and labels.min() < 0):
        raise UserError(f"labels are {labels.dtype} {tuple(labels.shape)}; integers from 0, (N,), are wanted")
    return labels.cpu().long()


def _read(dataset: Any) -> tuple[Tensor, Tensor | None]:
    """All images of a Dataset, and their labels if it has some."""
    images, labels = [], []
    for i in range(len(dataset)):
        item = dataset[i]
        image, *label = item if isinstance(item, tuple | list) else (item,)
        try:
            images.append(_image(image))
            labels += [_label(each) for each in label[:1]]
        except UserError as error:
            raise UserError(f"item {i} of the data: {error}") from None
        if images[i].shape != images[0].shape or images[i].dtype != images[0].dtype:
            shapes = [f"{tuple(images[k].shape)} {images[k].dtype}" for k in (i, 0)]
            raise UserError(f"item {i} of the data is {shapes[0]}, item 0 {shapes[1]}; images of one shape are wanted")
    if not images:
        raise UserError("the data are empty; at least 1 image is wanted")
    if labels and len(labels) < len(images):
        raise UserError(f"{len(labels)} of {len(images)} items of the data have a label; all or none are wanted")
    return torch.stack(images), torch.tensor(labels) if labels else None


def _image(image: Any) -> Tensor:
    """(C, H, W) of a tensor or array of this shape, (H, W, C) or (H, W), or of a picture of PIL's. UserError for
    anything else."""
    pillow = sys.modules.get("PIL.Image")
    if pillow and isinstance(image, pillow.Image):
        image = np.array(plain(image))
    if not isinstance(image, Tensor | np.ndarray):
        raise UserError(f"a {type(image).__name__}; an image, or an image and its label, is wanted")
    try:
        array = torch.as_tensor(image if isinstance(image, Tensor) else np.array(image)).clone()  # a reused buffer
    except (TypeError, ValueError) as error:
        raise UserError(f"an array of {image.dtype}: {error}") from None
    if array.dim() == 2:
        return array[None]
    usual, other = (0, 2) if isinstance(image, Tensor) else (2, 0)
    places = [place for place in (usual, other) if array.dim() == 3 and array.shape[place] in (1, 3)]
    if not places:
        raise UserError(f"an image of shape {tuple(array.shape)}; (C, H, W) with 1 or 3 channels is wanted")
    return array.movedim(places[0], 0)


def _label(label: Any) -> int:
    try:
        value = label.item() if isinstance(label, Tensor | np.ndarray | np.generic) else label
        return int(value) if isinstance(value, float) and value.is_integer() else operator.index(value)
    except (TypeError, ValueError, RuntimeError):
        told = f"a label {label!r}" if isinstance(label, int | float) else f"a label of type {type(label).__name__}"
        raise UserError(f"{told}; a whole number from 0 is wanted") from None


def splits_of(data: Any) -> dict[str, ImageSet | None]:
    """Splits "train" and "validation" of data that Python hands over: a mapping of both, or what `image_set` takes, of
    which the validation images are still to be held out (None)."""
    if not isinstance(data, Mapping):
        train = image_set(data, "train")
        if len(train) < 2:
            raise UserError("the data are 1 image; at least 2 are wanted, to train and to validate")
        return {"train": train, "validation": None}
    if not {"train", "validation"} <= {*data}:
        raise UserError(f"data has the splits {', '.join(map(str, data))}; train and validation are wanted")
    return {split: image_set(data[split], split) for split in ("train", "validation")}


# sets as a source, to be split and resized like any other


def registered_catalogue(name: str, size: int | None, channels: int | None, root: Path) -> Catalogue:
    """The images of a registered data set. UserError if its function gives anything but images."""
    splits = {part: _split_of(name, part, root) for part in PARTS}
    for a, b in combinations([part for part in PARTS if splits[part]], 2):
        if torch.equal(splits[a].images, splits[b].images):
            raise UserError(f"data set {name!r} gives the same images for {a} and {b}: return None for {b} to split it")
    try:
        return catalogue_of(splits, size, channels, name)
    except UserError as error:
        raise UserError(f"data set {name!r}: {error}") from None


def _split_of(name: str, split: str, root: Path) -> ImageSet | None:
    data = DATASETS[name](split, root)
    if data is None and split != "train":
        return None
    try:
        return image_set(data, split, name)
    except UserError as error:
        raise UserError(f"data set {name!r}, split {split!r}: {error}") from None


def catalogue_of(
    splits: Mapping[str, ImageSet | None], size: int | None, channels: int | None, name: str = ""
) -> Catalogue:
    """The images of the splits "train", "validation" and "test". One that is None is held out of the training images,
    one that is not named is empty.

    size, channels: what the images will be; None: what they are. UserError if they do not go together.
    """
    import PIL.Image

    there = {part: images for part, images in splits.items() if images is not None}
    train = there["train"]
    for part, images in there.items():
        if images.images.shape[1:] != train.images.shape[1:] or (images.labels is None) != (train.labels is None):
            raise UserError(f"images of {part} and train differ in their shape, or only one of them has labels")
    own_channels, height, width = train.images.shape[1:]
    if own_channels not in (1, 3):
        raise UserError(f"images have {own_channels} channels; 1 (grey) or 3 (RGB) are wanted, (N, C, H, W)")
    if size is None and height != width:
        raise UserError(f"images are {height} x {width}: model.image_size (--size) brings them to one square")
    whole = torch.cat([images.images for images in there.values()])
    pixels = (whole[:, 0] if own_channels == 1 else whole.permute(0, 2, 3, 1)).numpy()  # (N, H, W) or (N, H, W, 3)

    def picture(i: int) -> Image:
        return PIL.Image.fromarray(np.ascontiguousarray(pixels[i]))

    ends = dict(zip(there, np.cumsum([len(images) for images in there.values()]).tolist(), strict=True))
    indices = {part: None if part in splits else torch.arange(0) for part in PARTS}
    indices |= {part: torch.arange(ends[part] - len(images), ends[part]) for part, images in there.items()}
    return Catalogue(
        name=name or train.name,
        size=size or height,
        channels=channels or own_channels,
        parts=partition(**indices),
        picture=picture,
        labels=None if train.labels is None else torch.cat([images.labels for images in there.values()]),
        classes=train.classes,
        pixels=pixels,
    )
