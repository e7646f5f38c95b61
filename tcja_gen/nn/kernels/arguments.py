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


def planes(rows: int, width: int, values: Tensor | None) -> tuple[Tensor | None, int]:
    """Values (T, N, C), or None, as contiguous float32, and how many of the rows each image has. ValueError if the rows
    are not those of N images with C = `width` channels."""
    if values is None:
        return None, 1
    images = values.shape[1] if values.dim() == 3 else 0
    if not images or rows % images or values.shape[2] != width:
        raise ValueError(f"neurons: values of shape {tuple(values.shape)} do not fit {rows} rows of {width} channels")
    return *float32_arrays(values.numel(), values), rows // images


def check_frames(frames: int, steps: int) -> None:
    """ValueError unless there is one frame for all time steps, or one for each."""
    if frames not in (1, steps):
        raise ValueError(f"neurons: {frames} frames for {steps} time steps; wanted one for all, or one for each")
