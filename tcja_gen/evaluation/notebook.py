"""A grid of images for a notebook, which shows what a cell returns."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from ..data import ImageSet
from ..errors import UserError
from ..models.inputs import check_range
from . import pictures
from .request import whole

if TYPE_CHECKING:
    from PIL.Image import Image


def grid(images: Any, columns: int | None = None) -> Image:
    """A picture of all images, `columns` in a row (default: as many as rows).

    images: a tensor or array (N, C, H, W) or (C, H, W), uint8 or floats in [0, 1], as of `model.sample`; or an
    `ImageSet`. UserError for anything else.
    """
    try:
        values = torch.as_tensor(images.images if isinstance(images, ImageSet) else images)
    except (TypeError, ValueError, RuntimeError):
        raise UserError(f"images are a {type(images).__name__}; a tensor or array (N, C, H, W) is wanted") from None
    values = values[None] if values.dim() == 3 else values
    if values.dim() != 4 or values.shape[1] not in (1, 3) or not len(values):
        raise UserError(f"images have the shape {tuple(values.shape)}; (N, C, H, W) with 1 or 3 channels is wanted")
    if columns is not None and whole("columns", columns) < 1:
        raise UserError(f"columns is {columns}, it must be at least 1")
    if values.dtype == torch.uint8:
        values = values / 255
    if not values.is_floating_point():
        raise UserError(f"images are {values.dtype}; uint8, or floats in [0, 1], are wanted")
    check_range(values)
    return pictures.to_picture(pictures.grid(values, columns))
