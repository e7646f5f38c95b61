"""Images that Python hands over instead of a data set's name, as the splits that a training run needs."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..data import ImageSet
from ..data.catalogue import partition
from ..data.pictures import fit
from ..errors import UserError

NAME = "images"  # of a data set that has no other


def split(data: Any) -> Mapping[str, ImageSet]:
    """Splits "train" and "validation" of images.

    data: an `ImageSet`; an array or tensor (N, C, H, W) or (N, H, W), uint8 or floats in [0, 1]; a pair of such and
    labels (N,), integers from 0; a torch `Dataset` of images or pairs of image and label; or a mapping that has both
    splits already. One in twelve images is held out for validation (`data.catalogue`). UserError for anything else.
    """
    if isinstance(data, Mapping):
        if not {"train", "validation"} <= {*data}:
            raise UserError(f"data has the splits {', '.join(map(str, data))}; train and validation are wanted")
        return {name: image_set(data[name], name) for name in ("train", "validation")}
    whole = image_set(data, "train")
    if len(whole) < 2:
        raise UserError("the data are 1 image; at least 2 are wanted, to train and to validate")
    parts = partition(torch.arange(len(whole)), test=torch.arange(0))
    return {name: _part(whole, parts[name], name) for name in ("train", "validation")}


def image_set(data: Any, split: str) -> ImageSet:
    """One split of images, as `split` takes them."""
    if isinstance(data, ImageSet):
        return data
    if isinstance(data, Tensor | np.ndarray):
        data = (data, None)
    if isinstance(data, tuple | list) and len(data) == 2:
        images, labels = data
        return ImageSet(_pixels(torch.as_tensor(images)), _labels(labels), NAME, split)
    if hasattr(data, "__getitem__") and hasattr(data, "__len__"):
        return image_set(_read(data), split)
    found = type(data).__name__
    raise UserError(f"data is a {found}; an ImageSet, an array (N, C, H, W), (images, labels) or a Dataset is wanted")


def resized(data: ImageSet, size: int, channels: int) -> ImageSet:
    """Images of other sizes or channels by the rules of `data.pictures`; 0: the data's own."""
    _, found, *sides = data.images.shape
    size, channels = size or min(sides), channels or found
    if (size, channels) == (min(sides), found):
        return data
    from PIL import Image

    pixels = (data.images[:, 0] if found == 1 else data.images.permute(0, 2, 3, 1)).contiguous().numpy()
    pixels = np.stack([fit(Image.fromarray(picture), size, channels) for picture in pixels])
    return ImageSet(torch.from_numpy(pixels), data.labels, data.name, data.split, data.classes)


def _part(whole: ImageSet, indices: Tensor, split: str) -> ImageSet:
    labels = None if whole.labels is None else whole.labels[indices]
    return ImageSet(whole.images[indices], labels, whole.name, split, whole.classes)


def _pixels(images: Tensor) -> Tensor:
    """uint8 (N, C, H, W) of images, uint8 or floats in [0, 1]."""
    if images.dim() == 3:
        images = images[:, None]
    if images.dim() != 4 or not len(images):
        raise UserError(f"images have the shape {tuple(images.shape)}; (N, C, H, W) is wanted, N at least 1")
    if images.shape[1] not in (1, 3):
        raise UserError(f"images have {images.shape[1]} channels; 1 or 3 are wanted, (N, C, H, W)")
    if images.dtype == torch.uint8:
        return images.cpu().contiguous()
    if not images.is_floating_point() or not (images.min() >= 0 and images.max() <= 1):
        raise UserError(f"images are {images.dtype}; uint8, or floats in [0, 1], are wanted")
    return (images.cpu() * 255).round().to(torch.uint8).contiguous()


def _labels(labels: Any) -> Tensor | None:
    if labels is None:
        return None
    labels = torch.as_tensor(labels)
    if labels.is_floating_point() or labels.dim() != 1 or (len(labels) and labels.min() < 0):
        raise UserError(f"labels are {labels.dtype} {tuple(labels.shape)}; integers from 0, (N,), are wanted")
    return labels.cpu().long()


def _read(dataset: Any) -> tuple[Tensor, Tensor | None]:
    """All images of a Dataset, and their labels if it has some."""
    images, labels = [], []
    for i in range(len(dataset)):
        item = dataset[i]
        image, *label = item if isinstance(item, tuple | list) else (item,)
        images.append(_image(image))
        labels += [int(each) for each in label[:1]]
    if not images:
        raise UserError("the data are empty; at least 1 image is wanted")
    return torch.stack(images), torch.tensor(labels) if labels else None


def _image(image: Any) -> Tensor:
    """(C, H, W) of a tensor, an array, or a picture of PIL's."""
    if isinstance(image, Tensor):
        return image
    array = torch.as_tensor(np.array(image))
    return array[None] if array.dim() == 2 else array.permute(2, 0, 1)
