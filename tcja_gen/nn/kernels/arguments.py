"""Tensors as the kernels read them: they get addresses and look at no length, type or stride, so what does not fit must
be found before."""

import torch
from torch import Tensor


def float32_arrays(count: int, *tensors: Tensor | None) -> list[Tensor | None]:
    """The tensors, of `count` numbers each, in float32 and row by row; None stays. ValueError for another number."""
    if wrong := [tuple(t.shape) for t in tensors if t is not None and t.numel() != count]:
        raise ValueError(f"neurons: a tensor has shape {wrong[0]} where {count} numbers are wanted")
    return [None if t is None else t.detach().to(torch.float32).contiguous() for t in tensors]


def array_like(x: Tensor, shape: tuple[int, ...], given: Tensor) -> Tensor:
    """`given`, of this shape, in the dtype of x and row by row. ValueError for another shape."""
    if given.shape != shape:
        raise ValueError(f"neurons: a tensor has shape {tuple(given.shape)}, wanted {tuple(shape)}")
    return given.detach().to(x.dtype).contiguous()


def check_frames(frames: int, steps: int) -> None:
    """ValueError unless there is one frame for all time steps, or one a step."""
    if frames not in (1, steps):
        raise ValueError(f"neurons: {frames} frames for {steps} time steps; one, or one a step, is wanted")
