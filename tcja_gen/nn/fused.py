"""Normalisation, gates and neurons as one operation each, forward and backward: what `normalisation`'s layers do.

Each keeps its input alone for the backward pass, and passes of the whole stream are functions that `kernels` have, too.
Names tell the order: `NormGateFire` normalises, gates the currents, and lets the neurons fire. x are currents (T, M, C)
of M = images * pixels rows, or (1, M, C) for T equal frames; `layer` is the `TDBatchNorm` that they belong to.
"""

from collections.abc import Callable, Sequence

import torch
import torch.distributed as dist
from torch import Tensor, nn

from .gradients import differentiable_once, gate_graph, graph_gradients
from .kernels import cpu, kernel_for, sparse
from .neurons import (
    Charge,
    Neuron,
    cost_of,
    gated_spikes,
    gated_spikes_backward,
    lif_step,
    spikes,
    spikes_backward,
    summed_spikes,
    summed_spikes_backward,
)
from .packed import stand_in, without_gradient


class Norm(torch.autograd.Function):
    """Normalisation without neurons."""

    @staticmethod
    def forward(ctx, x: Tensor, weight: Tensor, bias: Tensor, offset: Tensor | None, layer: nn.Module) -> Tensor:
        mean, var = layer.moments(x, offset)
        ctx.save_for_backward(x, weight, mean, var)
        ctx.settings = layer.scale, layer.eps, layer.training, offset
        a, b = layer.affine(mean, var)
        return (a * x.float() + b).to(x.dtype)

    @staticmethod
    @differentiable_once
    def backward(ctx, grad: Tensor):
        x, weight, mean, var = ctx.saved_tensors
        scale, eps, training, offset = ctx.settings
        rstd = torch.rsqrt(var + eps)
        y, g = (x.float() - mean) * rstd, grad.float()
        sums, products = g.sum((0, 1)), (g * y).sum((0, 1))
        mean_g, mean_gx = _mean_gradients(sums, products, x, training)
        gx = batch_norm_backward(grad, x, weight * scale * rstd, mean, rstd, mean_g, mean_gx)
        return gx, products * scale, sums, _zero_gradient(offset), None


class NormFire(torch.autograd.Function):
    """Spikes, or with weights w their sum over time, or on the native path a stand-in and bits. With `step` the
    gradient is written over the currents x, and where it needs them after that, step(t) computes those of a time step
    once more, (1, M, C)."""

    @staticmethod
    def forward(
        ctx,
        x: Tensor,
        weight: Tensor,
        bias: Tensor,
        offset: Tensor | None,
        layer: nn.Module,
        steps: int,
        w: Tensor | None = None,
        step: Callable[[int], Tensor] | None = None,
        as_bits: bool = False,
    ) -> Tensor | tuple[Tensor, Tensor]:
        mean, var = layer.moments(x, offset)
        ctx.save_for_backward(x, weight, bias, mean, var)
        ctx.settings = layer.neuron, steps, layer.scale, layer.eps, layer.training, layer.path, offset, w, step
        ctx.x_is_used_up, ctx.charge = False, layer.charge_in_training
        a, b = layer.affine(mean, var)
        if as_bits:
            return without_gradient(ctx, *_beside_stand_in(x, cpu.spike_bits(x, a, b, layer.neuron, steps)))
        if w is not None:
            return kernel_for(layer.path, summed_spikes)(x, a, b, layer.neuron, w)
        return kernel_for(layer.path, spikes)(x, a, b, layer.neuron, steps)

    @staticmethod
    @differentiable_once
    def backward(ctx, grad: Tensor, *_):
        x, weight, bias, mean, var = ctx.saved_tensors
        neuron, steps, scale, eps, training, path, offset, w, step = ctx.settings
        rstd = torch.rsqrt(var + eps)
        a, b = affine(weight, bias, scale, mean, rstd)
        if step is not None and ctx.x_is_used_up:  # by an earlier pass over a retained graph
            x = torch.cat([step(t) for t in range(steps)])
        if w is not None:
            options = {"overwrite": True} if step else {}
            g, *parts = kernel_for(path, summed_spikes_backward)(x, a, b, grad, mean, rstd, neuron, w, **options)
            ctx.x_is_used_up = step is not None
        else:
            cost = cost_of(ctx.charge, grad)
            g, *parts, _ = kernel_for(path, spikes_backward)(x, a, b, grad, mean, rstd, neuron, steps, cost=cost)
        g, gw, gb = _norm_gradients(g, x, parts, (a, mean, rstd), scale, training, path, step)
        return g, gw, gb, _zero_gradient(offset), *[None] * 5


class Fire(torch.autograd.Function):
    """Neurons alone, on the native path: a stand-in and bits for currents x."""

    @staticmethod
    def forward(ctx, x: Tensor, neuron: Neuron, steps: int, charge: Charge | None) -> tuple[Tensor, Tensor]:
        ctx.save_for_backward(x)
        ctx.settings = neuron, steps, charge
        return without_gradient(ctx, *_beside_stand_in(x, cpu.spike_bits(x, None, None, neuron, steps)))

    @staticmethod
    @differentiable_once
    def backward(ctx, grad: Tensor, *_):
        (x,), (neuron, steps, charge) = ctx.saved_tensors, ctx.settings
        cost = cost_of(charge, grad)
        return cpu.spikes_backward(x, None, None, grad, None, None, neuron, steps, cost=cost)[0], *[None] * 3


class NormFireGate(torch.autograd.Function):
    """Sum over time of w_t F_t S_t for spikes S and a gate F of them: neurons, gate and sum as one operation of the
    native path. It keeps its input and the spikes as bits.

    With the gradient G of the sum, that of F_t is w_t times the sum over an image's pixels of G S_t, and that of S_t is
    w_t F_t G + dL/dZ_t / P, for the squeezed Z of P pixels. `step` as in `NormFire`.
    """

    @staticmethod
    def forward(
        ctx,
        x: Tensor,
        weight: Tensor,
        bias: Tensor,
        offset: Tensor | None,
        layer: nn.Module,
        w: Tensor,
        step: Callable[[int], Tensor] | None,
        gate: nn.Module,
        images: int,
        *parameters: Tensor,
    ) -> Tensor:
        mean, var = layer.moments(x, offset)
        bits = cpu.spike_bits(x, *layer.affine(mean, var), layer.neuron, len(x))
        rows = bits.unflatten(1, (images, -1)).flatten(0, 1)  # (T * N, P, words)
        z = (sparse.sums_over_pixels(rows, x.shape[2]) / rows.shape[1]).unflatten(0, (-1, images))
        with torch.enable_grad():
            z, f = gate_graph(gate, z)
        ctx.save_for_backward(x, weight, bias, mean, var, rows)
        ctx.settings = layer.neuron, layer.scale, layer.eps, layer.training, layer.path, offset, w[:, None, None], step
        ctx.gate, ctx.parameters, ctx.x_is_used_up = (z, f), parameters, False
        return sparse.sums_over_time(bits, w[:, None, None] * f.detach()).to(x.dtype)

    @staticmethod
    @differentiable_once
    def backward(ctx, grad: Tensor):
        x, weight, bias, mean, var, rows = ctx.saved_tensors
        (neuron, scale, eps, training, path, offset, w, step), (z, f) = ctx.settings, ctx.gate
        gf = w * sparse.sums_over_pixels(rows, x.shape[2], grad.unflatten(0, (f.shape[1], -1))).view_as(f)
        gz, *gp = graph_gradients(f, z, ctx.parameters, ctx.needs_input_grad[9:], gf.to(f.dtype))
        rstd = torch.rsqrt(var + eps)
        a, b = affine(weight, bias, scale, mean, rstd)
        if ctx.x_is_used_up:
            x = torch.cat([step(t) for t in range(len(x))])
        u, shift = w * f.detach(), gz / rows.shape[1]
        g, *parts = cpu.scaled_sum_backward(x, a, b, grad, mean, rstd, neuron, u, shift, overwrite=step is not None)
        ctx.x_is_used_up = step is not None
        g, gw, gb = _norm_gradients(g, x, parts, (a, mean, rstd), scale, training, path, step)
        return g, gw, gb, _zero_gradient(offset), None, None, None, None, None, *gp


class NormGateFire(torch.autograd.Function):
    """Normalisation, a gate of the currents, and neurons, as one operation that keeps only its input.

    With I = a x + b, z = a m + b for the means m of x over the P pixels of an image, and f = gate(z): the neurons get
    f I. So dL/dI is f times the neurons' gradient, plus dL/dz / P for every pixel. Autograd differentiates the gate.
    """

    @staticmethod
    def forward(
        ctx,
        x: Tensor,
        weight: Tensor,
        bias: Tensor,
        offset: Tensor | None,
        layer: nn.Module,
        steps: int,
        images: int,
        as_bits: bool,
        *parameters: Tensor,
    ) -> Tensor | tuple[Tensor, Tensor]:
        m = _image_means(x, images)
        mean, var = layer.moments(x, offset, m)
        a, b = layer.affine(mean, var)
        with torch.enable_grad(), torch.autocast(x.device.type, enabled=False):
            z = (a * m + b).detach().requires_grad_()
            f = layer.gate(z.expand(steps, -1, -1))
        ctx.save_for_backward(x, weight, bias, mean, var, m)
        ctx.settings = layer.neuron, layer.scale, layer.eps, layer.training, layer.path, offset
        ctx.gate, ctx.parameters, ctx.charge = (z, f), parameters, layer.charge_in_training
        if as_bits:
            return without_gradient(ctx, *_beside_stand_in(x, cpu.spike_bits(x, a, b, layer.neuron, steps, f.detach())))
        return kernel_for(layer.path, gated_spikes)(x, a, b, f.detach(), layer.neuron)

    @staticmethod
    @differentiable_once
    def backward(ctx, grad: Tensor, *_):
        x, weight, bias, mean, var, m = ctx.saved_tensors
        (neuron, scale, eps, training, path, offset), (z, f) = ctx.settings, ctx.gate
        rstd = torch.rsqrt(var + eps)
        a, b = affine(weight, bias, scale, mean, rstd)
        factors = f.detach()
        cost = cost_of(ctx.charge, grad)
        g, s, sx = kernel_for(path, gated_spikes_backward)(x, a, b, factors, grad, mean, neuron, cost=cost)
        gf = a * sx + bias * s  # I = a (x - mean) + bias
        gz, *gp = graph_gradients(f, z, ctx.parameters, ctx.needs_input_grad[8:], gf)
        sums = (factors * s).sum((0, 1)) + gz.sum((0, 1))
        products = ((factors * sx).sum((0, 1)) + (gz * (m - mean)).sum((0, 1))) * rstd
        mean_g, mean_gx = _mean_gradients(sums, products, x, training)
        shift = gz * (m.shape[1] / x.shape[1])  # 1 / P
        gx = kernel_for(path, batch_norm_backward)(g, x, a, mean, rstd, mean_g, mean_gx, shift)
        return gx, products * scale, sums, _zero_gradient(offset), *[None] * 4, *gp


def norm_gate_fire(
    x: Tensor, offset: Tensor | None, layer: nn.Module, steps: int, images: int, as_bits: bool
) -> Tensor | tuple[Tensor, Tensor]:
    """The forward pass of `NormGateFire`, where no gradient is wanted."""
    m = _image_means(x, images)
    a, b = layer.affine(*layer.moments(x, offset, m))
    with torch.autocast(x.device.type, enabled=False):
        f = layer.gate((a * m + b).expand(steps, -1, -1))
    if as_bits:
        return _beside_stand_in(x, cpu.spike_bits(x, a, b, layer.neuron, steps, f))
    return kernel_for(layer.path, gated_spikes)(x, a, b, f, layer.neuron)


def _beside_stand_in(x: Tensor, bits: Tensor) -> tuple[Tensor, Tensor]:
    """A stand-in, and spikes as bits (T, M, words), for currents x (., M, C)."""
    return stand_in(x, *bits.shape[:2], x.shape[2]), bits


def _image_means(x: Tensor, images: int) -> Tensor:
    """Means of x (T or 1, M, C) over the pixels of each of N images, (T or 1, N, C)."""
    return x.unflatten(1, (images, -1)).mean(2, dtype=torch.promote_types(x.dtype, torch.float32))


def _norm_gradients(
    g: Tensor,
    x: Tensor,
    parts: Sequence[Tensor],
    columns: tuple[Tensor, Tensor, Tensor],
    scale: float,
    training: bool,
    path: str,
    step: Callable[[int], Tensor] | None,
) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients of the input, weight and bias of a normalisation, from g = dL/dI and the parts of its sums. columns: a,
    mean and rstd. step: see `NormFire`; the gradient then takes the place of g."""
    sums, products = (part.sum(0) for part in parts)
    columns = *columns, *_mean_gradients(sums, products, x, training)
    if step is None:
        g = kernel_for(path, batch_norm_backward)(g, x, *columns)
    else:
        for t in range(len(g)):
            kernel_for(path, batch_norm_backward)(g[t : t + 1], step(t), *columns)  # in place
    return g, products * scale, sums


def affine(weight: Tensor, bias: Tensor, scale: float, mean: Tensor, rstd: Tensor) -> tuple[Tensor, Tensor]:
    a = weight * scale * rstd
    return a, bias - mean * a


def spike_step(x: Tensor, v: Tensor, a: Tensor, b: Tensor, neuron: Neuron) -> tuple[Tensor, Tensor]:
    """One time step of neurons: x (N, C) for currents a x + b, membranes v (N, C) -> spikes and float32 membranes."""
    spike, v = lif_step(a * x.float() + b, v.float(), neuron)
    return spike.to(x.dtype), v


def squared_deviations(x: Tensor, mean: Tensor) -> Tensor:
    """Sum over time of (x - mean)^2, x (T, M, C) -> (M, C). The caller sums over M."""
    return sum((frame.float() - mean).square() for frame in x.unbind(0))


def batch_norm_backward(
    g: Tensor, x: Tensor, a: Tensor, mean: Tensor, rstd: Tensor, mean_g: Tensor, mean_gx: Tensor, shift=None
) -> Tensor:
    """dL/dx of batch normalisation, a (g - <g> - y <g y>), from g = dL/d(output) and the normalised input y, all
    (T, M, C). shift: (T, N, C), what is missing in g for every pixel of each of N images; None: nothing."""
    y = (x.float() - mean) * rstd
    if shift is not None:
        g = g.float() + shift.repeat_interleave(g.shape[1] // shift.shape[1], 1)
    return (a * (g.float() - mean_g - y * mean_gx)).to(x.dtype)


def _zero_gradient(offset: Tensor | None) -> Tensor | None:
    return None if offset is None else torch.zeros_like(offset)


def _mean_gradients(sums: Tensor, products: Tensor, x: Tensor, training: bool) -> tuple[Tensor, Tensor]:
    """<g> and <g y> over all processes; 0 in evaluation mode, where the statistics do not depend on x."""
    n = x[..., 0].numel()
    return (process_mean(sums) / n, process_mean(products) / n) if training else (sums * 0, products * 0)


def world_size() -> int:
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def process_mean(x: Tensor) -> Tensor:
    """Mean over all processes, without gradient."""
    if world_size() == 1:
        return x
    x = x.clone()
    dist.all_reduce(x)
    return x / world_size()
