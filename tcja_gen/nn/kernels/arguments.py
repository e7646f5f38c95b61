"""Checks and conversions of the kernels' arguments. Kernels get bare addresses and trust the length, dtype and strides,
so everything must be checked here."""

import torch
from torch import Tensor


def float32_arrays(count: int, *tensors: Tensor | None) -> list[Tensor | None]:
    """The tensors as contiguous float32; None stays None. ValueError unless each has `count` numbers."""
    if wrong := [tuple(t.shape) for t in tensors if t is not None and t.numel() != count]:
        raise ValueError(f"neurons: a tensor has shape {wrong[0]} where {count} numbers are wanted")
    return [None if t is None else t.detach().to(torch.float32).contiguous() for t in tensors]


def array_like(x: Tensor, shape: tuple[int, ...], given: Tensor) -> Tensor:
    """`given` as contiguous, in the dtype of x. ValueError unless it has this shape."""
    if given.shape != shape:
        raise ValueError(f"neurons: a tensor has shape {tuple(given.shape)}, wanted {tuple(shape)}")
    return given.detach().to(x.dtype).contiguous()


def pixels_of(rows: int, width: int, planes: Tensor) -> int:
    """How many of the rows belong to an image, for values (T, N, C) of each image. ValueError for other shapes."""
    images = planes.shape[1] if planes.dim() == 3 else 0
    if not images or rows % images or planes.shape[2] != width:
        raise ValueError(f"neurons: values of shape {tuple(planes.shape)} do not fit {rows} rows of {width} channels")
    return rows // images


def check_frames(frames: int, steps: int) -> None:
    """ValueError unless there is one frame for all time steps, or one for each."""
    if frames not in (1, steps):
        raise ValueError(f"neurons: {frames} frames for {steps} time steps; wanted one for all, or one for each")
