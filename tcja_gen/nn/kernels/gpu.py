"""Triton kernels for GPUs. The functions here replace those of the same names in `neurons` and `normalisation`.

One program runs all time steps of a block of neurons. It reads every current once, writes every spike once, and holds
the float32 membranes in registers. The scale and shift of the normalisation are part of it. The backward kernel runs
the steps again, stores the membranes, and goes back through time. A program has one store, which it reuses for each of
its blocks, so that all stores fit into the GPU's cache. Sums over neurons are kept for each program and added up
afterwards, always in the same order. T is a run-time argument, so another T compiles nothing.
"""

import math

import torch
import triton
import triton.language as tl
from torch import Tensor

from ..neurons import Neuron
from .arguments import array_like, check_frames, float32_arrays, planes

# IEEE 754 arithmetic without fused multiply-add, so that spikes are exactly those of the plain loop
EXACT = {"enable_fp_fusion": False}
BLOCK = 512  # neurons of a block
PROGRAMS = 1024  # at most, of a backward pass or a sum over rows; their membranes for 16 steps take 32 MB


@triton.jit
def _charge(h, x, tau, leak, v_reset, DECAY_INPUT: tl.constexpr):
    if DECAY_INPUT:
        return h + tl.div_rn(x - (h - v_reset), tau)
    else:
        return h * leak + (x + tl.div_rn(v_reset, tau))


@triton.jit
def _fires(v, v_threshold, STRICT: tl.constexpr):
    if STRICT:
        return v > v_threshold
    else:
        return v >= v_threshold


@triton.jit
def _surrogate(v, v_threshold, alpha, SURROGATE: tl.constexpr):
    x = v - v_threshold
    if SURROGATE == "atan":
        scaled = 1.5707963267948966 * alpha * x
        return alpha / 2 / (1 + scaled * scaled)
    elif SURROGATE == "triangle":
        return tl.maximum(alpha - alpha * alpha * tl.abs(x), 0.0)
    elif SURROGATE == "box":
        return tl.where(tl.abs(x) < 0.5 / alpha, alpha, 0.0)
    else:
        return tl.where(tl.abs(v) < 0.5 / alpha, alpha, 0.0)


@triton.jit
def _current(x, at, mask, a, b, AFFINE: tl.constexpr):
    current = tl.load(x + at, mask, 0.0).to(tl.float32)
    return a * current + b if AFFINE else current


@triton.jit
def _factor(f, t, row, column, mask, rows, width, pixels):
    """Factors (T, N, C) of the currents of images that have so many rows."""
    plane = t * (rows // pixels) + row // pixels
    return tl.load(f + plane[:, None] * width + column[None, :], mask, 0.0)


@triton.jit
def _columns(values, columns, inside, USED: tl.constexpr):
    return tl.load(values + columns, inside, 0.0)[None, :] if USED else 0.0


@triton.jit(do_not_specialize=["rows", "pixels", "steps"])
def _forward(
    x, a, b, f, v0, spikes, v_end,
    rows, width, pixels, steps, tau, leak, v_threshold, v_reset,
    STATIC: tl.constexpr, AFFINE: tl.constexpr, GATED: tl.constexpr, AT_REST: tl.constexpr, DECAY_INPUT: tl.constexpr,
    STRICT: tl.constexpr, END: tl.constexpr, ROWS: tl.constexpr, COLUMNS: tl.constexpr,
):  # fmt: skip
    row = (tl.program_id(0) * ROWS + tl.arange(0, ROWS)).to(tl.int64)
    column = tl.program_id(1) * COLUMNS + tl.arange(0, COLUMNS)
    at = row[:, None] * width + column[None, :]
    mask = (row < rows)[:, None] & (column < width)[None, :]
    a, b = _columns(a, column, column < width, AFFINE), _columns(b, column, column < width, AFFINE)
    h = tl.zeros((ROWS, COLUMNS), tl.float32) + v_reset
    if not AT_REST:
        h = tl.load(v0 + at, mask, 0.0)
    frame = rows.to(tl.int64) * width
    for t in range(steps):
        current = _current(x, at + (0 if STATIC else t * frame), mask, a, b, AFFINE)
        if GATED:
            current *= _factor(f, t, row, column, mask, rows, width, pixels)
        v = _charge(h, current, tau, leak, v_reset, DECAY_INPUT)
        fired = _fires(v, v_threshold, STRICT)
        h = tl.where(fired, v_reset, v)
        tl.store(spikes + at + t * frame, tl.where(fired, 1.0, 0.0).to(spikes.dtype.element_ty), mask)
    if END:
        tl.store(v_end + at, h, mask)


@triton.jit(do_not_specialize=["rows", "pixels", "steps"])
def _backward(
    x, a, b, f, v0, grad, mean, rstd, membranes, gx, gv, sums, products,
    rows, width, pixels, steps, cost, tau, leak, v_threshold, v_reset, alpha,
    STATIC: tl.constexpr, AFFINE: tl.constexpr, GATED: tl.constexpr, AT_REST: tl.constexpr, DECAY_INPUT: tl.constexpr,
    STRICT: tl.constexpr, DETACH: tl.constexpr, SURROGATE: tl.constexpr, ROWS: tl.constexpr, COLUMNS: tl.constexpr,
):  # fmt: skip
    first, programs = tl.program_id(0), tl.num_programs(0)
    column = tl.program_id(1) * COLUMNS + tl.arange(0, COLUMNS)
    inside = column < width
    a, b = _columns(a, column, inside, AFFINE), _columns(b, column, inside, AFFINE)
    mean, rstd = _columns(mean, column, inside, AFFINE), _columns(rstd, column, inside, AFFINE and not GATED)
    frame = rows.to(tl.int64) * width
    own = (tl.program_id(1).to(tl.int64) * programs + first) * steps * ROWS * COLUMNS
    cell = membranes + own + tl.arange(0, ROWS)[:, None] * COLUMNS + tl.arange(0, COLUMNS)[None, :]
    total = tl.zeros((ROWS, COLUMNS), tl.float32)  # of dL/dI
    product = tl.zeros((ROWS, COLUMNS), tl.float32)  # of dL/dI and the normalised input
    for block in range(first, tl.cdiv(rows, ROWS), programs):
        row = (block * ROWS + tl.arange(0, ROWS)).to(tl.int64)
        at = row[:, None] * width + column[None, :]
        mask = (row < rows)[:, None] & inside[None, :]
        h = tl.zeros((ROWS, COLUMNS), tl.float32) + v_reset
        if not AT_REST:
            h = tl.load(v0 + at, mask, 0.0)
        for t in range(steps):
            current = _current(x, at + (0 if STATIC else t * frame), mask, a, b, AFFINE)
            if GATED:
                current *= _factor(f, t, row, column, mask, rows, width, pixels)
            v = _charge(h, current, tau, leak, v_reset, DECAY_INPUT)
            tl.store(cell + t * ROWS * COLUMNS, v)
            h = tl.where(_fires(v, v_threshold, STRICT), v_reset, v)
        tl.debug_barrier()  # one thread may read what another one has stored
        carry = tl.zeros((ROWS, COLUMNS), tl.float32)  # dL/dH_t
        still = tl.zeros((ROWS, COLUMNS), tl.float32)  # of a static frame: dL/dI over all steps
        for back in range(steps):
            t = steps - 1 - back
            v = tl.load(cell + t * ROWS * COLUMNS)
            ds = _surrogate(v, v_threshold, alpha, SURROGATE)
            later = tl.where(_fires(v, v_threshold, STRICT), 0.0, carry)  # by way of the later steps
            if not DETACH:
                later += carry * (v_reset - v) * ds
            dv = (tl.load(grad + at + t * frame, mask, 0.0).to(tl.float32) + cost) * ds + later
            dv = tl.where(mask, dv, 0.0)
            carry = dv * leak
            g = tl.div_rn(dv, tau) if DECAY_INPUT else dv
            if GATED:  # all rows of a block belong to one image
                product_of_row = g * (tl.load(x + at + (0 if STATIC else t * frame), mask, 0.0).to(tl.float32) - mean)
                at_sum = (block * steps + t) * width + column
                tl.store(sums + at_sum, tl.sum(g, 0), inside)
                tl.store(products + at_sum, tl.sum(product_of_row, 0), inside)
                g *= _factor(f, t, row, column, mask, rows, width, pixels)
            if STATIC:
                still += g
            else:
                tl.store(gx + at + t * frame, g.to(gx.dtype.element_ty), mask)
                if AFFINE and not GATED:
                    total += g
                    product += g * (tl.load(x + at + t * frame, mask, 0.0).to(tl.float32) - mean) * rstd
        if STATIC:
            tl.store(gx + at, still.to(gx.dtype.element_ty), mask)
            if AFFINE and not GATED:
                total += still
                product += still * (tl.load(x + at, mask, 0.0).to(tl.float32) - mean) * rstd
        if not AT_REST:
            tl.store(gv + at, carry, mask)
        tl.debug_barrier()
    if AFFINE and not GATED:
        tl.store(sums + first * width + column, tl.sum(total, 0), inside)
        tl.store(products + first * width + column, tl.sum(product, 0), inside)


@triton.jit(do_not_specialize=["rows"])
def _squared_deviations(x, mean, out, rows, width, ROWS: tl.constexpr, COLUMNS: tl.constexpr):
    first, programs = tl.program_id(0), tl.num_programs(0)
    column = tl.program_id(1) * COLUMNS + tl.arange(0, COLUMNS)
    inside = column < width
    middle = tl.load(mean + column, inside, 0.0)[None, :]
    total = tl.zeros((ROWS, COLUMNS), tl.float32)
    for block in range(first, tl.cdiv(rows, ROWS), programs):
        row = (block * ROWS + tl.arange(0, ROWS)).to(tl.int64)
        mask = (row < rows)[:, None] & inside[None, :]
        d = tl.load(x + row[:, None] * width + column[None, :], mask, 0.0).to(tl.float32) - middle
        total += tl.where(mask, d * d, 0.0)
    tl.store(out + first * width + column, tl.sum(total, 0), inside)


@triton.jit(do_not_specialize=["rows", "pixels"])
def _batch_norm_backward(
    g, x, a, mean, rstd, mean_g, mean_gx, shift, rows, width, pixels,
    SHIFTED: tl.constexpr, ROWS: tl.constexpr, COLUMNS: tl.constexpr,
):  # fmt: skip
    row = (tl.program_id(0) * ROWS + tl.arange(0, ROWS)).to(tl.int64)
    column = tl.program_id(1) * COLUMNS + tl.arange(0, COLUMNS)
    inside = column < width
    at = row[:, None] * width + column[None, :]
    mask = (row < rows)[:, None] & inside[None, :]
    y = tl.load(x + at, mask, 0.0).to(tl.float32) - _columns(mean, column, inside, True)
    y *= _columns(rstd, column, inside, True)
    rest = tl.load(g + at, mask, 0.0).to(tl.float32)
    if SHIFTED:
        rest += _factor(shift, 0, row, column, mask, rows, width, pixels)
    rest -= _columns(mean_g, column, inside, True)
    gx = _columns(a, column, inside, True) * (rest - y * _columns(mean_gx, column, inside, True))
    tl.store(g + at, gx.to(g.dtype.element_ty), mask)


def _settings(neuron: Neuron) -> dict:
    return {
        "tau": float(neuron.tau),  # Triton may compile an int into the kernel
        "leak": 1 - 1 / neuron.tau,
        "v_threshold": float(neuron.v_threshold),
        "v_reset": float(neuron.v_reset),
        "DECAY_INPUT": neuron.decay_input,
        "STRICT": neuron.strict,
    }


def _tile(rows: int, width: int, pixels: int | None = None) -> dict:
    """Shape of a block over neurons (rows, width). pixels: rows of an image; a block then has rows of one image."""
    columns = min(triton.next_power_of_2(width), BLOCK if rows == 1 else 128)
    return {"ROWS": math.gcd(BLOCK // columns, pixels or BLOCK), "COLUMNS": columns}


def _grid(rows: int, width: int, tile: dict) -> tuple[int, int]:
    return triton.cdiv(rows, tile["ROWS"]), triton.cdiv(width, tile["COLUMNS"])


def _rounds(rows: int, width: int, tile: dict) -> tuple[int, int]:
    """The grid of a kernel whose programs loop over blocks: at most `PROGRAMS` of them."""
    blocks, across = _grid(rows, width, tile)
    return min(blocks, max(PROGRAMS // across, 1)), across


def spikes(x: Tensor, a: Tensor | None, b: Tensor | None, neuron: Neuron, steps: int, v: Tensor | None = None):
    """As `neurons.spikes`."""
    return _spikes(x, a, b, neuron, steps, v, None)


def gated_spikes(x: Tensor, a: Tensor, b: Tensor, f: Tensor, neuron: Neuron) -> Tensor:
    """As `neurons.gated_spikes`."""
    return _spikes(x, a, b, neuron, len(f), None, None, f)


def summed_spikes(x: Tensor, a: Tensor, b: Tensor, neuron: Neuron, w: Tensor) -> Tensor:
    """As `neurons.summed_spikes`."""
    return torch.tensordot(w.to(x.dtype), spikes(x, a, b, neuron, len(w)), dims=1)


def summed_spikes_backward(
    x: Tensor, a: Tensor, b: Tensor, grad: Tensor, mean: Tensor, rstd: Tensor, neuron: Neuron, w: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """As `neurons.summed_spikes_backward`; the sums have shape (programs, C)."""
    return spikes_backward(x, a, b, w.view(-1, 1, 1).to(grad.dtype) * grad, mean, rstd, neuron, len(w))[:3]


def gated_spikes_backward(
    x: Tensor, a: Tensor, b: Tensor, f: Tensor, grad: Tensor, mean: Tensor, neuron: Neuron, cost: float = 0.0
) -> tuple[Tensor, Tensor, Tensor]:
    """As `neurons.gated_spikes_backward`."""
    gx, *parts, _ = _neurons_backward(x, a, b, grad, mean, None, neuron, len(f), None, f, cost)
    blocks = f.shape[1], -1  # of each image
    return gx, *(part.unflatten(0, blocks).sum(1).transpose(0, 1) for part in parts)


def _spikes(x: Tensor, a, b, neuron: Neuron, steps: int, v, end: Tensor | None, f: Tensor | None = None) -> Tensor:
    x = x.contiguous()
    frames, rows, width = x.shape
    check_frames(frames, steps)
    (a, b), (v,), (f, pixels) = float32_arrays(width, a, b), float32_arrays(rows * width, v), planes(rows, width, f)
    out, tile = x.new_empty(steps, rows, width), _tile(rows, width)
    known = {"STATIC": frames != steps, "AFFINE": a is not None, "AT_REST": v is None, "END": end is not None}
    with torch.cuda.device_of(x):
        _forward[_grid(rows, width, tile)](
            x, a, b, f, v, out, end, rows, width, pixels, steps,
            **_settings(neuron), **known, GATED=f is not None, **tile, **EXACT,
        )  # fmt: skip
    return out


def spikes_backward(
    x: Tensor,
    a: Tensor | None,
    b: Tensor | None,
    grad: Tensor,
    mean: Tensor | None,
    rstd: Tensor | None,
    neuron: Neuron,
    steps: int,
    v: Tensor | None = None,
    cost: float = 0.0,
) -> tuple[Tensor, Tensor | None, Tensor | None, Tensor | None]:
    """As `neurons.spikes_backward`; the sums have shape (programs, C)."""
    return _neurons_backward(x, a, b, grad, mean, rstd, neuron, steps, v, cost=cost)


def _neurons_backward(
    x: Tensor, a, b, grad: Tensor, mean, rstd, neuron: Neuron, steps: int, v, f: Tensor | None = None, cost: float = 0.0
):
    """Gradients of `_spikes`: of x, the two sums, in parts (programs, C) or (blocks, T, C) if gated, and of v."""
    x = x.contiguous()
    frames, rows, width = x.shape
    check_frames(frames, steps)
    grad = array_like(x, (steps, rows, width), grad)
    (a, b, mean, rstd), (v,) = float32_arrays(width, a, b, mean, rstd), float32_arrays(rows * width, v)
    f, pixels = planes(rows, width, f)
    tile = _tile(rows, width, None if f is None else pixels)
    programs, across = _rounds(rows, width, tile)
    membranes = x.new_empty(programs * across, steps, BLOCK, dtype=torch.float32)
    gx, gv = torch.empty_like(x), None if v is None else torch.empty_like(v)
    parts = (programs,) if f is None else (rows // tile["ROWS"], steps)
    sums, products = x.new_empty(2, *parts, width, dtype=torch.float32) if a is not None else (None, None)
    static = {"STATIC": frames != steps, "AFFINE": a is not None, "AT_REST": v is None}
    static |= {"DETACH": neuron.detach_reset, "SURROGATE": neuron.surrogate, "alpha": float(neuron.alpha)}
    with torch.cuda.device_of(x):
        _backward[programs, across](
            x, a, b, f, v, grad, mean, rstd, membranes, gx, gv, sums, products,
            rows, width, pixels, steps, float(cost),
            **_settings(neuron), **static, GATED=f is not None, **tile, **EXACT,
        )  # fmt: skip
    return gx, sums, products, gv


def spike_step(x: Tensor, v: Tensor, a: Tensor, b: Tensor, neuron: Neuron) -> tuple[Tensor, Tensor]:
    """As `fused.spike_step`."""
    end = v.new_empty(v.shape, dtype=torch.float32)  # contiguous, whatever the strides of v are
    return _spikes(x[None], a, b, neuron, 1, v, end)[0], end


def squared_deviations(x: Tensor, mean: Tensor) -> Tensor:
    """As `fused.squared_deviations`, x (T, M, C) -> (programs, C)."""
    rows, width = x.shape[0] * x.shape[1], x.shape[2]
    tile = _tile(rows, width)
    programs, across = _rounds(rows, width, tile)
    out = x.new_empty(programs, width, dtype=torch.float32)
    (mean,) = float32_arrays(width, mean)
    with torch.cuda.device_of(x):
        _squared_deviations[programs, across](x.contiguous(), mean, out, rows, width, **tile, **EXACT)
    return out


def batch_norm_backward(
    g: Tensor, x: Tensor, a: Tensor, mean: Tensor, rstd: Tensor, mean_g: Tensor, mean_gx: Tensor, shift=None
) -> Tensor:
    """As `fused.batch_norm_backward`. Overwrites g if it is contiguous and has x's dtype."""
    rows, width = x.numel() // x.shape[-1], x.shape[-1]
    g, tile = array_like(x, x.shape, g), _tile(rows, width)
    shift, pixels = planes(x.shape[-2], width, shift)
    columns = float32_arrays(width, a, mean, rstd, mean_g, mean_gx)
    with torch.cuda.device_of(x):
        _batch_norm_backward[_grid(rows, width, tile)](
            g, x.contiguous(), *columns, shift, rows, width, pixels, SHIFTED=shift is not None, **tile, **EXACT
        )
    return g
