"""Weights whose input is spikes, on a CPU: calls the kernels of `sparse.cpp`.

A layer is a linear one or a convolution, transposed or not, of float32 weights in one group; a linear layer is a
convolution of one pixel. The kernels take weights as rows, one for each tap and input channel, cut into blocks of
outputs.
"""

import ctypes
import math
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.weak import WeakIdKeyDictionary

from ..neurons import Neuron
from .arguments import float32_arrays
from .cpu import Constants, constants, library, words

FIELDS = "frames height width in_ out_height out_width out row kernel stride padding transposed values".split()


class Shape(ctypes.Structure):
    """The struct `Shape` of sparse.cpp."""

    _fields_ = [(name, ctypes.c_int64) for name in FIELDS]


class Finish(ctypes.Structure):
    """The struct `Finish` of sparse.cpp."""

    _fields_ = [(name, ctypes.c_void_p) for name in ("scale", "shift", "current")] + [("numbers", ctypes.c_int64)]


class Neurons(ctypes.Structure):
    """The struct `Neurons` of sparse.cpp."""

    _fields_ = [
        *((name, ctypes.c_void_p) for name in ("scale", "shift", "w")),
        ("kind", ctypes.POINTER(Constants)),
        ("steps", ctypes.c_int64),
    ]


@dataclass(frozen=True)
class Spikes:
    """Spikes of frames (N, C, H, W) as bits (N, H, W, words). values: what the spikes are where gates have changed
    them, (N, H, W, C), or (N, 1, 1, C) the factors of a gate; None: all are 1."""

    bits: Tensor
    values: Tensor | None
    channels: int

    def frames(self, first: int, last: int) -> "Spikes":
        values = None if self.values is None else self.values[first:last]
        return Spikes(self.bits[first:last], values, self.channels)


def suits(layer: nn.Module) -> bool:
    """Whether the kernels can run this layer."""
    if layer.weight.device.type != "cpu" or layer.weight.dtype != torch.float32:
        return False
    if isinstance(layer, nn.Linear):
        return True
    square = all(len(set(pair)) == 1 for pair in (layer.kernel_size, layer.stride, layer.padding))
    return square and layer.groups == 1 and set(layer.dilation) == {1} and layer.padding_mode == "zeros"


def pack(x: Tensor) -> Spikes:
    """Spikes of x, (N, C, H, W) or (N, F)."""
    planes = x if x.dim() == 4 else x[:, :, None, None]
    pixels = _channels_last(planes)
    channels = pixels.shape[3]
    bits = torch.empty(*pixels.shape[:3], words(channels), dtype=torch.int64)
    ones = library().pack(*_pointers(pixels, bits), *_sizes(bits[..., 0].numel(), channels, torch.get_num_threads()))
    return Spikes(bits, None if ones else pixels, channels)


def sums_over_pixels(bits: Tensor, channels: int, g: Tensor | None = None) -> Tensor:
    """Sums over the pixels of g where a neuron fired, (N, C); without g, how many fired.

    bits: (N, P, words). g: (N, P, C), or of a divisor of N frames, which are used in turn.
    """
    frames, pixels, _ = bits.shape
    g = None if g is None else g.detach().float().contiguous()
    out = torch.empty(frames, channels)
    sizes = frames, pixels, channels, 1 if g is None else len(g), torch.get_num_threads()
    library().sums_over_pixels(*_pointers(bits, g, out), *_sizes(*sizes))
    return out


def sums_over_time(bits: Tensor, f: Tensor) -> Tensor:
    """Sums over time of the factors f (T, N, C) of those neurons that fired, (N * P, C). bits: (T, N * P, words)."""
    (steps, rows, _), (_, images, channels) = bits.shape, f.shape
    f, out = f.detach().float().contiguous(), torch.empty(rows, channels)
    sizes = steps, images, rows // images, channels, torch.get_num_threads()
    library().sums_over_time(*_pointers(bits, f, out), *_sizes(*sizes))
    return out


def forward(
    layer: nn.Module,
    spikes: Spikes,
    bias: Tensor | None,
    wanted: Tensor | None = None,
    finish: tuple[Tensor, Tensor, Tensor] | None = None,
) -> Tensor:
    """Output (N, C', H', W') of a layer with another bias (C',), or with none. The result at a pixel is the same
    whatever other frames and pixels there are.

    wanted: pixels (H', W') of the output, bool; the others are 0. finish: a, b (C',) and currents (N', C', H', W'), N'
    a divisor of N; the layer's y becomes a y + b + currents, for frame i the i mod N'-th ones.
    """
    shape = _shape(layer, spikes)
    weights, start = _rows(layer, shape.row), _padded(torch.zeros(shape.out) if bias is None else bias, shape.row)
    y = torch.empty(shape.frames, shape.out_height, shape.out_width, shape.out)
    if wanted is not None:
        wanted = wanted.expand(shape.out_height, shape.out_width).to(torch.uint8).contiguous()
    kept = None if finish is None else (*(_padded(f, shape.row) for f in finish[:2]), _channels_last(finish[2]))
    after = None if kept is None else ctypes.byref(Finish(*(f.data_ptr() for f in kept), kept[2].numel()))
    tensors = _pointers(spikes.bits, spikes.values, weights, start)
    library().sparse_forward(
        *tensors, after, *_pointers(wanted, y), ctypes.byref(shape), *_sizes(torch.get_num_threads())
    )
    return y.permute(0, 3, 1, 2)


def fire(
    layer: nn.Module,
    spikes: Spikes,
    a: Tensor,
    b: Tensor,
    neuron: Neuron,
    steps: int,
    w: Tensor | None = None,
    as_bits: bool = False,
) -> Tensor:
    """Spikes (T * N, C', H', W') of the neurons behind a layer of T * N frames, at rest at first, for currents a y + b,
    which are not written; or these as bits (T * N, H', W', words). a, b: (C',). With w (T,) the sum over time of w_t
    times the spikes, (N, C', H', W').
    """
    shape = _shape(layer, spikes)
    if shape.frames % steps:
        raise ValueError(f"{shape.frames} frames are no {steps} time steps of some images")
    weights, start = _rows(layer, shape.row), torch.zeros(shape.out) if layer.bias is None else layer.bias
    start, frames = _padded(start, shape.row), shape.frames if w is None else shape.frames // steps
    kept = *float32_arrays(shape.out, a, b), *float32_arrays(steps, w)
    behind = Neurons(*_pointers(*kept), ctypes.pointer(constants(neuron)), steps)
    width, kind = (words(shape.out), torch.int64) if as_bits else (shape.out, torch.float32)
    made = torch.empty(frames, shape.out_height, shape.out_width, width, dtype=kind)
    tensors = _pointers(spikes.bits, spikes.values, weights, start)
    places = _pointers(*(None, made) if as_bits else (made, None))
    library().sparse_fire(
        *tensors, ctypes.byref(behind), *places, ctypes.byref(shape), *_sizes(torch.get_num_threads())
    )
    return made if as_bits else made.permute(0, 3, 1, 2)


def _padded(x: Tensor, row: int) -> Tensor:
    """x (C',) with zeros up to `row` numbers."""
    return F.pad(x.detach(), (0, row - len(x)))


def _channels_last(x: Tensor) -> Tensor:
    """x (N, C, H, W) as contiguous (N, H, W, C)."""
    return x.detach().permute(0, 2, 3, 1).contiguous()


def weight_gradient(layer: nn.Module, spikes: Spikes, grad: Tensor) -> Tensor:
    """Gradient of the layer's weights, in their shape, from that of its output (N, C', H', W')."""
    shape = _shape(layer, spikes)
    rows = shape.kernel**2 * shape.in_
    parts = library().gradient_parts(*_sizes(rows * shape.row))
    sums = torch.zeros(parts, rows * shape.row)
    pixels = _channels_last(grad)
    tensors = _pointers(spikes.bits, spikes.values, pixels, sums)
    library().sparse_gradient(*tensors, ctypes.byref(shape), *_sizes(torch.get_num_threads()))
    gradient = torch.empty_like(layer.weight)
    for block, weights in _blocks(layer, sums[0] if parts == 1 else sums.sum(0), gradient):
        weights.copy_(block)
    return gradient


def _pointers(*tensors: Tensor | None) -> list[ctypes.c_void_p]:
    return [ctypes.c_void_p(None if t is None else t.data_ptr()) for t in tensors]


def _sizes(*numbers: int) -> list[ctypes.c_int64]:
    return [ctypes.c_int64(number) for number in numbers]


def _shape(layer: nn.Module, spikes: Spikes) -> Shape:
    frames, height, width, _ = spikes.bits.shape
    out, channels, *_ = layer.weight.shape
    kernel, stride, padding, transposed = 1, 1, 0, isinstance(layer, nn.ConvTranspose2d)
    if not isinstance(layer, nn.Linear):
        kernel, stride, padding = layer.kernel_size[0], layer.stride[0], layer.padding[0]
    if transposed:
        out, channels = channels, out
        sides = [(s - 1) * stride - 2 * padding + kernel + layer.output_padding[0] for s in (height, width)]
    else:
        sides = [(s + 2 * padding - kernel) // stride + 1 for s in (height, width)]
    if spikes.channels != channels:
        raise ValueError(f"{spikes.channels} channels for weights of {channels}")
    row = -(-out // library().narrow()) * library().narrow()
    values = 0 if spikes.values is None else spikes.values[0, ..., 0].numel()
    return Shape(frames, height, width, channels, *sides, out, row, kernel, stride, padding, transposed, values)


_kept = WeakIdKeyDictionary()  # rows of weights outside training, until these change
_seen: ContextVar[set[int] | None] = ContextVar("seen", default=None)  # inside `steady`, layers whose rows are made


@contextmanager
def steady():
    """Inside, no weights change, so that it is asked once for each layer whether they did."""
    token = _seen.set(set())
    try:
        yield
    finally:
        _seen.reset(token)


def _rows(layer: nn.Module, row: int) -> Tensor:
    """The layer's weights as the kernels take them, of `row` outputs."""
    if layer.training or layer.weight.is_inference():  # they change at every step, or nobody knows whether they do
        return _made_rows(layer, row)
    seen, kept = _seen.get(), _kept.get(layer.weight)
    if kept and seen is not None and id(layer) in seen:
        return kept[1]
    weight = layer.weight.detach()
    state = weight.data_ptr(), weight._version, weight.sum().item()  # a change through `.data` has no other trace
    if kept is None or kept[0] != state:
        kept = _kept[layer.weight] = state, _made_rows(layer, row)
    if seen is not None:
        seen.add(id(layer))
    return kept[1]


@torch.no_grad()
def _made_rows(layer: nn.Module, row: int) -> Tensor:
    rows = layer.weight.new_zeros(layer.weight.numel() // layer.outputs * row)
    for block, weights in _blocks(layer, rows, layer.weight):
        block.copy_(weights)
    return rows


def _blocks(layer: nn.Module, rows: Tensor, weight: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
    """Views of the same weights in `rows`, block by block of outputs as the kernels have them, and in `weight`, which
    has the shape of the layer's: both (tap row, tap column, input, outputs), or of a linear layer (input, outputs)."""
    if isinstance(layer, nn.Linear):
        weight = weight.mT
    else:
        weight = weight.permute((2, 3, 0, 1) if isinstance(layer, nn.ConvTranspose2d) else (2, 3, 1, 0))
    *taps, _ = weight.shape
    for first, width in _widths(rows.numel() // math.prod(taps)):
        block = rows[first * math.prod(taps) :][: width * math.prod(taps)].view(*taps, width)
        piece = weight[..., first : first + width]
        yield block[..., : piece.shape[-1]], piece


def _widths(row: int) -> Iterator[tuple[int, int]]:
    """First output and width of each block, as the kernels cut `row` outputs."""
    first = 0
    for width in (library().wide(), library().wide() // 2, library().narrow()):
        while first + width <= row:
            yield first, width
            first += width
