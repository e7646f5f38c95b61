"""The training images that are nearest to samples, by the pixels."""

import torch
from torch import Tensor

ROWS = 8192


def nearest(images: Tensor, training: Tensor) -> tuple[Tensor, Tensor]:
    """For images (N, C, H, W) in [0, 1] the index (N,) of the nearest of the training images, uint8, and the distance
    (N,): the root of the mean squared difference of pixels, in [0, 1]."""
    x = images.flatten(1).float()
    parts = [torch.cdist(x, part.flatten(1).float() / 255) for part in training.split(ROWS)]
    distance, index = torch.cat(parts, 1).min(1)
    return index, distance / x.shape[1] ** 0.5
