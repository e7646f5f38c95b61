"""Weights whose input is mostly zeros, on a CPU: calls the kernels of `sparse.cpp`.

A layer is a linear one or a convolution, transposed or not, of float32 weights in one group. Its weights are laid out
as rows, (tap, in, out), the out channels padded to whole vectors; a linear layer is a convolution of one pixel.
"""

import ctypes
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.weak import WeakIdKeyDictionary

from .cpu import library

CHANNELS = 2**16  # channels are listed as 16-bit numbers
FIELDS = "frames height width in_ out_height out_width out row kernel stride padding transposed".split()


class Shape(ctypes.Structure):
    """The struct `Shape` of sparse.cpp."""

    _fields_ = [(name, ctypes.c_int64) for name in FIELDS]


@dataclass(frozen=True)
class Rows:
    """Weights (tap, in, row) and bias (row,) of a layer, and the weights' state from which they were made."""

    weights: Tensor
    bias: Tensor
    state: tuple


_rows = WeakIdKeyDictionary()  # of weights that were used, kept until these change


def suits(layer: nn.Module, x: Tensor) -> bool:
    """Whether the kernels can run this layer on x."""
    if x.device.type != "cpu" or not x.dtype == layer.weight.dtype == torch.float32 or not x.numel():
        return False
    if isinstance(layer, nn.Linear):
        return x.dim() == 2 and layer.in_features < CHANNELS
    square = all(len(set(pair)) == 1 for pair in (layer.kernel_size, layer.stride, layer.padding))
    plain = layer.groups == 1 and set(layer.dilation) == {1} and layer.padding_mode == "zeros"
    return x.dim() == 4 and layer.in_channels < CHANNELS and square and plain


def sparse_forward(layer: nn.Module, x: Tensor, wanted: Tensor | None = None) -> Tensor:
    """layer(x), of x (N, C, H, W) or (N, F) that is mostly zeros. Every pixel is the same whatever the other frames and
    pixels are. wanted: pixels (H', W') of the output as bool; the others are 0."""
    planes = x.detach() if x.dim() == 4 else x.detach()[:, :, None, None]
    rows, shape = _rows_of(layer), _shape(layer, planes)
    make = torch.empty if wanted is None else torch.zeros
    y = make(shape.frames, shape.out_height, shape.out_width, shape.out, dtype=torch.float32)
    if wanted is not None:
        wanted = wanted.expand(shape.out_height, shape.out_width).to(torch.uint8).contiguous()
    pixels = planes.permute(0, 2, 3, 1).contiguous()
    pointers = [
        None if t is None else ctypes.c_void_p(t.data_ptr()) for t in (pixels, rows.weights, rows.bias, wanted, y)
    ]
    library().sparse_forward(*pointers, ctypes.byref(shape), ctypes.c_int64(torch.get_num_threads()))
    return y.permute(0, 3, 1, 2) if x.dim() == 4 else y.flatten(1)


def _shape(layer: nn.Module, x: Tensor) -> Shape:
    frames, channels, height, width = x.shape
    out, wanted, *_ = layer.weight.shape
    kernel, stride, padding, transposed = 1, 1, 0, isinstance(layer, nn.ConvTranspose2d)
    if not isinstance(layer, nn.Linear):
        kernel, stride, padding = layer.kernel_size[0], layer.stride[0], layer.padding[0]
    if transposed:
        out, wanted = wanted, out
        sides = [(s - 1) * stride - 2 * padding + kernel + layer.output_padding[0] for s in (height, width)]
    else:
        sides = [(s + 2 * padding - kernel) // stride + 1 for s in (height, width)]
    if channels != wanted:
        raise ValueError(f"{channels} channels for weights of {wanted}")
    return Shape(frames, height, width, channels, *sides, out, _padded(out), kernel, stride, padding, transposed)


def _padded(out: int) -> int:
    lanes = library().lanes()
    return -(-out // lanes) * lanes


@torch.no_grad()
def _rows_of(layer: nn.Module) -> Rows:
    """The layer's weights as rows; made anew if the weights have changed since."""
    parameters = layer.weight, layer.bias
    state = tuple((p.data_ptr(), p._version) for p in parameters if p is not None)
    rows = _rows.get(layer.weight)
    if rows is None or rows.state != state:
        rows = _rows[layer.weight] = Rows(*_laid_out(layer), state)
    return rows


def _laid_out(layer: nn.Module) -> tuple[Tensor, Tensor]:
    weight = layer.weight if layer.weight.dim() == 4 else layer.weight[:, :, None, None]
    order = (2, 3, 0, 1) if isinstance(layer, nn.ConvTranspose2d) else (2, 3, 1, 0)
    taps = weight.permute(order)
    extra = _padded(taps.shape[3]) - taps.shape[3]
    bias = weight.new_zeros(taps.shape[3]) if layer.bias is None else layer.bias
    return F.pad(taps, (0, extra)).contiguous(), F.pad(bias, (0, extra)).contiguous()
