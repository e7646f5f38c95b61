"""Images as an extractor takes them: uint8 images of any size, grey or RGB, brought to one size and channels.

They are resized by PIL's bilinear filter on bytes, as in torchvision's `Resize` of PIL images and so in the published
statistics of FSVAE. PIL itself is used: torch's kernel for bytes differs by up to 2 grey levels when it shrinks. Zero
padding instead of resizing would change FAD by 86 on MNIST.
"""

import numpy as np
import torch
from torch import Tensor

from ..errors import UserError

RESIZE = "PIL bilinear on uint8"
SMALL = 32  # side to which small images are resized for networks of our own, as for FSVAE's autoencoders
OWN_SIDE = 48  # from this side on, networks of our own take images at their own size: 32 would lose detail


def check(images: Tensor) -> None:
    """UserError for anything but uint8 `(N, 1 or 3, H, W)`."""
    if images.dtype != torch.uint8 or images.dim() != 4 or images.shape[1] not in (1, 3):
        found = f"{images.dtype} {tuple(images.shape)}"
        raise UserError(f"scores take grey or RGB images, uint8 (N, 1 or 3, H, W); found {found}")


def resize(images: Tensor, channels: int, size: int, by: str = "BILINEAR") -> Tensor:
    """uint8 `(N, 1 or 3, H, W)` to `(N, channels, size, size)`; RGB becomes grey by ITU-R 601, as in PIL.

    by: name of a filter of PIL's
    """
    check(images)
    if images.shape[1:] == (channels, size, size):
        return images
    from PIL import Image

    def one(array: np.ndarray) -> np.ndarray:  # (H, W, C)
        image = Image.fromarray(array[..., 0] if array.shape[2] == 1 else array)
        mode = {1: "L", 3: "RGB"}[channels]
        return np.asarray(image.convert(mode).resize((size, size), Image.Resampling[by]))

    arrays = images.permute(0, 2, 3, 1).contiguous().numpy()
    resized = torch.from_numpy(np.stack([one(x) for x in arrays]))
    return resized.view(len(images), size, size, channels).permute(0, 3, 1, 2)


def side(images: Tensor) -> int:
    """Side to which images `(N, C, S, S)` are resized for networks of our own."""
    return images.shape[-1] if images.shape[-1] >= OWN_SIDE else SMALL


def named(name: str, size: int) -> str:
    """Name of an extractor for images of this side; above 32 the side is part of it, as scores are not comparable."""
    return name if size <= SMALL else f"{name}-{size}"


def to_network(images: Tensor) -> Tensor:
    """uint8 `(N, C, H, W)` to float32 in [-1, 1], in memory with channels first.

    With one channel the images' strides can look like channels last, and torch's batch statistics are then a thousand
    times less exact: 4e-4 in the covariance of MNIST's features.
    """
    return images.to(torch.float32, memory_format=torch.contiguous_format).div(255).mul(2).sub(1)
