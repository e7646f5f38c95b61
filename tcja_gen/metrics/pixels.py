"""Pixels as an extractor wants them: uint8 images of any size, grey or RGB, made alike before measuring.

The resize is PIL's bilinear on bytes, as torchvision's `Resize` on PIL images does it and hence the published
statistics of FSVAE have it. PIL itself does the work: torch's byte kernel differs by up to 2 grey levels when
it shrinks. Zero padding is no substitute for the resize: it alone costs a FAD of 86 on MNIST.
"""

import numpy as np
import torch
from torch import Tensor

from ..errors import UserError

RESIZE = "PIL bilinear on uint8"
SMALL = 32  # side at which networks of our own judge small images, as FSVAE's autoencoders do
OWN_SIDE = 48  # from which on they would be blind to detail at that one, and judge images at their own


def check(images: Tensor) -> None:
    """ValueError for anything but uint8 `(N, 1 or 3, H, W)`."""
    if images.dtype != torch.uint8 or images.dim() != 4 or images.shape[1] not in (1, 3):
        found = f"{images.dtype} {tuple(images.shape)}"
        raise UserError(f"scores take grey or RGB images, uint8 (N, 1 or 3, H, W); found {found}")


def resize(images: Tensor, channels: int, size: int) -> Tensor:
    """uint8 `(N, 1 or 3, H, W)` to `(N, channels, size, size)`; grey from RGB is PIL's ITU-R 601."""
    check(images)
    if images.shape[1:] == (channels, size, size):
        return images
    from PIL import Image

    def one(array: np.ndarray) -> np.ndarray:  # (H, W, C)
        image = Image.fromarray(array[..., 0] if array.shape[2] == 1 else array)
        mode = {1: "L", 3: "RGB"}[channels]
        return np.asarray(image.convert(mode).resize((size, size), Image.Resampling.BILINEAR))

    arrays = images.permute(0, 2, 3, 1).contiguous().numpy()
    resized = torch.from_numpy(np.stack([one(x) for x in arrays]))
    return resized.view(len(images), size, size, channels).permute(0, 3, 1, 2)


def side(images: Tensor) -> int:
    """Side at which networks of our own judge images `(N, C, S, S)`."""
    return images.shape[-1] if images.shape[-1] >= OWN_SIDE else SMALL


def named(name: str, size: int) -> str:
    """Name of an extractor that judges images at this side: another protocol above the small one."""
    return name if size <= SMALL else f"{name}-{size}"


def to_network(images: Tensor) -> Tensor:
    """uint8 `(N, C, H, W)` to float32 in [-1, 1], laid out channels first whatever the images' strides.

    With one channel the strides can pass for channels last, where torch's batch statistics are a thousand
    times less exact: 4e-4 in the covariance of MNIST's features.
    """
    return images.to(torch.float32, memory_format=torch.contiguous_format).div(255).mul(2).sub(1)
