"""Threshold-dependent batch normalisation (tdBN; Zheng et al., AAAI 2021, as FSVAE uses it) and the neurons behind it.

    I = gamma * alpha * gain * (x - mean) / sqrt(var + eps) + beta        gamma = 1, beta = 0 at the start

Mean and variance are those of a channel over time, batch and space together. The gain follows from the neuron behind
(`Neuron.gain`): V_threshold, times tau where the neuron divides its input by tau. Without this factor tau the neuron of
the TCJA paper hardly fires, and a spiking VAE learns little more than the mean image.

Normalisation and neurons are one operation, with a gate of the currents between them if there is one (`currents.py`).
The normalised current is never written to memory, and only x is kept for the backward pass. `fuse` chooses the kernels.
T equal frames have the same mean and variance as one static frame; only the factor n / (n - 1) of the running variance
differs, since a static frame has n = N*H*W values and not T times more.
"""

from collections.abc import Callable, Sequence
from contextlib import contextmanager

import torch
import torch.distributed as dist
from torch import Tensor, nn

from ..errors import UserError
from .gradients import differentiable_once, gate_graph, graph_gradients
from .kernels import PATHS, cpu, kernel_for, sparse
from .neurons import (
    PRESETS,
    Neuron,
    gated_spikes,
    gated_spikes_backward,
    lif,
    lif_step,
    spikes,
    spikes_backward,
    summed_spikes,
    summed_spikes_backward,
)
from .sparse import SpikeWeights


class TDBatchNorm(nn.Module):
    """tdBN of a stream (T, N, C, ...), or of one static frame (N, C, ...) with `steps` = T. The currents have the shape
    of the input.

    scale: alpha times the neuron's gain, or 1 for plain batch normalisation. Under `torch.distributed`, training uses
    the statistics of the batch of all processes, which must hold equal shares of it.

    offset (C,): the bias of the layer before, where x was computed without it. The batch's mean would remove it again,
    so it changes only the running mean, and its gradient is zero.
    """

    def __init__(self, channels: int, scale: float, eps: float = 1e-5, momentum: float = 0.1):
        super().__init__()
        self.scale, self.eps, self.momentum = scale, eps, momentum
        self.path = "plain"  # set by `fuse`
        self.updates_statistics = True  # by a pass in training mode: a bool, or a tensor of one
        self.gate: nn.Module | None = None  # of the currents, a `currents.CurrentGate`
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))
        self.register_buffer("running_mean", torch.zeros(channels))
        self.register_buffer("running_var", torch.ones(channels))

    def forward(self, x: Tensor, steps: int | None = None, offset: Tensor | None = None) -> Tensor:
        planes, frame = self._planes(x, steps)
        currents = _Norm.apply(planes, self.weight, self.bias, offset, self)
        currents = channels_third(currents, frame)
        return currents[0] if steps else currents

    def gated(self, currents: Tensor, steps: int | None) -> tuple[Tensor, int | None]:
        """Currents (T, N, C, ...), or a static frame (N, C, ...) with `steps`, times their gate; unchanged without one.
        A static frame is a stream afterwards, for which `steps` is None."""
        if self.gate is None:
            return currents, steps
        currents = currents.expand(steps, *currents.shape) if steps else currents
        f = self.gate.gate(currents.float())
        return (currents * f.view(*f.shape, *[1] * (currents.dim() - 3))).to(currents.dtype), None

    def _planes(self, x: Tensor, steps: int | None) -> tuple[Tensor, torch.Size]:
        """x as (T or 1, M, C) with M = N * pixels, and the shape (N, C, ...) of its frames."""
        frame = x.shape if steps else x.shape[1:]
        if len(frame) < 2 or frame[1] != len(self.weight):
            raise UserError(f"tdBN was built for {len(self.weight)} channels, its input has shape {tuple(x.shape)}")
        return channels_last(x[None] if steps else x).flatten(1, 2), frame

    def affine(self, mean: Tensor, var: Tensor) -> tuple[Tensor, Tensor]:
        """(a, b), each (C,): the normalised current is a x + b."""
        return _affine(self.weight, self.bias, self.scale, mean, torch.rsqrt(var + self.eps))

    def statistics(self, x: Tensor, offset: Tensor | None = None, means: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Mean and biased variance (C,) of x (T, M, C) over all processes. Updates the running statistics.

        means: those of the images of each frame, (T, N, C), if they are known; they save a pass over x.
        """
        n = x[..., 0].numel()
        mean = (x if means is None else means).flatten(0, 1).mean(0, dtype=torch.float32)
        var = kernel_for(self.path, squared_deviations)(x, mean).sum(0) / n
        if world_size() > 1:
            local = mean
            mean = process_mean(local)
            var = process_mean(var + (local - mean).square())
            n *= world_size()
        if self.updates_statistics is not False:
            share = self.momentum * self.updates_statistics
            self.running_mean.lerp_(mean if offset is None else mean + offset, share)
            self.running_var.lerp_(var * (n / max(n - 1, 1)), share)
        return mean, var

    def moments(self, x: Tensor, offset: Tensor | None, means: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Mean and variance for the normalisation: in training those of the batch, else the running ones."""
        if self.training:
            return self.statistics(x, offset, means)
        return self.running_mean.clone(), self.running_var.clone()

    def extra_repr(self) -> str:
        return f"{len(self.weight)}, scale={self.scale:g}"


class NormLIF(TDBatchNorm):
    """tdBN and the neurons behind it: currents (T, N, C, ...) -> spikes. Keeps no membrane."""

    def __init__(self, channels: int, neuron: Neuron = PRESETS["tcja"], alpha: float = 1.0, **options):
        super().__init__(channels, alpha * neuron.gain, **options)
        self.neuron = neuron

    def forward(self, x: Tensor, steps: int | None = None, offset: Tensor | None = None) -> Tensor:
        planes, frame = self._planes(x, steps)
        given = planes, self.weight, self.bias, offset, self, steps or len(planes)
        if self.gate is None:
            return channels_third(_NormLIF.apply(*given), frame)
        if not torch.is_grad_enabled():
            return channels_third(_gated_without_gradient(planes, offset, self, steps or len(planes), frame[0]), frame)
        return channels_third(_GatedNormLIF.apply(*given, frame[0], *self.gate.parameters()), frame)

    def weighted_sum(
        self,
        x: Tensor,
        w: Tensor,
        offset: Tensor | None = None,
        again: Callable[[int, int], Tensor] | None = None,
        gate: nn.Module | None = None,
    ) -> Tensor:
        """Sum over time of w_t times the spikes, (N, C, ...), which are not written. x: (T, N, C, ...). w: (T,).

        again: computes x.flatten(0, 1)[first:last] once more. If given, the gradient may take the place of x in memory,
        so nothing else may use x. gate: an `attention.Gate` of the spikes, on the native path alone.
        """
        planes, frame = self._planes(x, None)

        def step(t: int) -> Tensor:
            return self._planes(again(t * frame[0], (t + 1) * frame[0]), 1)[0]

        step = step if again is not None and self.path == "native" else None
        given = planes, self.weight, self.bias, offset, self
        if gate is None:
            total = _NormLIF.apply(*given, len(planes), w, step)
        else:
            total = _NormLIFGate.apply(*given, w, step, gate, frame[0], *gate.parameters())
        return channels_third(total[None], frame)[0]

    def step(self, x: Tensor, v: Tensor | None) -> tuple[Tensor, Tensor]:
        """One time step, normalised by the running statistics: x (N, C) and membranes v (N, C), float32 (None: at rest)
        -> spikes and membranes. Bit for bit the spikes of the whole sequence in evaluation mode."""
        if x.dim() != 2 or x.shape[1] != len(self.weight):
            raise UserError(f"a time step wants currents (N, {len(self.weight)}), got {tuple(x.shape)}")
        if v is None:
            v = torch.full_like(x, self.neuron.v_reset, dtype=torch.float32)
        if v.shape != x.shape:
            raise UserError(f"a time step: the membrane has shape {tuple(v.shape)}, the currents {tuple(x.shape)}")
        path = "plain" if torch.is_grad_enabled() else self.path
        return kernel_for(path, spike_step)(x, v, *self.affine(self.running_mean, self.running_var), self.neuron)

    def extra_repr(self) -> str:
        return f"{super().extra_repr()}, {self.neuron}"


class LIF(nn.Module):
    """Neurons alone: currents (T, N, ...), or one static frame (N, ...) with `steps` = T, -> spikes (T, N, ...)."""

    def __init__(self, neuron: Neuron = PRESETS["tcja"]):
        super().__init__()
        self.neuron = neuron
        self.path = "plain"  # set by `fuse`

    def forward(self, x: Tensor, steps: int | None = None) -> Tensor:
        planes, frame = channels_last(x[None] if steps else x), x.shape if steps else x.shape[1:]
        spiking = lif(planes[0] if steps else planes, neuron=self.neuron, steps=steps, path=self.path)
        return channels_third(spiking, frame)

    def extra_repr(self) -> str:
        return str(self.neuron)


class NormReLU(TDBatchNorm):
    """Plain batch norm and ReLU, in an ANN what `NormLIF` is in a spiking network. Its output has T = 1."""

    def __init__(self, channels: int, **options):
        super().__init__(channels, 1.0, **options)

    def forward(self, x: Tensor, steps: int | None = None, offset: Tensor | None = None) -> Tensor:
        currents, steps = self.gated(super().forward(x, steps, offset), steps)
        return torch.relu(currents[None] if steps else currents)


class ReLU(nn.Module):
    """ReLU, in an ANN what `LIF` is in a spiking network."""

    def forward(self, x: Tensor, steps: int | None = None) -> Tensor:
        return torch.relu(x[None] if steps else x)


class _Norm(torch.autograd.Function):
    """Normalisation without neurons."""

    @staticmethod
    def forward(ctx, x: Tensor, weight: Tensor, bias: Tensor, offset: Tensor | None, layer: TDBatchNorm) -> Tensor:
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


class _NormLIF(torch.autograd.Function):
    """Spikes, or with weights w their sum over time. With `step` the gradient is written over the currents x, and
    where it needs them after that, step(t) computes those of a time step once more, (1, M, C)."""

    @staticmethod
    def forward(
        ctx,
        x: Tensor,
        weight: Tensor,
        bias: Tensor,
        offset: Tensor | None,
        layer: NormLIF,
        steps: int,
        w: Tensor | None = None,
        step: Callable[[int], Tensor] | None = None,
    ) -> Tensor:
        mean, var = layer.moments(x, offset)
        ctx.save_for_backward(x, weight, bias, mean, var)
        ctx.settings = layer.neuron, steps, layer.scale, layer.eps, layer.training, layer.path, offset, w, step
        ctx.x_is_used_up = False
        a, b = layer.affine(mean, var)
        if w is not None:
            return kernel_for(layer.path, summed_spikes)(x, a, b, layer.neuron, w)
        return kernel_for(layer.path, spikes)(x, a, b, layer.neuron, steps)

    @staticmethod
    @differentiable_once
    def backward(ctx, grad: Tensor):
        x, weight, bias, mean, var = ctx.saved_tensors
        neuron, steps, scale, eps, training, path, offset, w, step = ctx.settings
        rstd = torch.rsqrt(var + eps)
        a, b = _affine(weight, bias, scale, mean, rstd)
        if step is not None and ctx.x_is_used_up:  # by an earlier pass over a retained graph
            x = torch.cat([step(t) for t in range(steps)])
        if w is not None:
            options = {"overwrite": True} if step else {}
            g, *parts = kernel_for(path, summed_spikes_backward)(x, a, b, grad, mean, rstd, neuron, w, **options)
            ctx.x_is_used_up = step is not None
        else:
            g, *parts, _ = kernel_for(path, spikes_backward)(x, a, b, grad, mean, rstd, neuron, steps)
        g, gw, gb = _norm_gradients(g, x, parts, (a, mean, rstd), scale, training, path, step)
        return g, gw, gb, _zero_gradient(offset), None, None, None, None


class _NormLIFGate(torch.autograd.Function):
    """Sum over time of w_t F_t S_t for spikes S and a gate F of them: neurons, gate and sum as one operation of the
    native path. It keeps its input and the spikes as bits.

    With the gradient G of the sum, that of F_t is w_t times the sum over an image's pixels of G S_t, and that of S_t is
    w_t F_t G + dL/dZ_t / P, for the squeezed Z of P pixels. `step` as in `_NormLIF`.
    """

    @staticmethod
    def forward(
        ctx,
        x: Tensor,
        weight: Tensor,
        bias: Tensor,
        offset: Tensor | None,
        layer: NormLIF,
        w: Tensor,
        step: Callable[[int], Tensor] | None,
        gate: nn.Module,
        images: int,
        *parameters: Tensor,
    ) -> Tensor:
        mean, var = layer.moments(x, offset)
        bits = cpu.spike_bits(x, *layer.affine(mean, var), layer.neuron)
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
        a, b = _affine(weight, bias, scale, mean, rstd)
        if ctx.x_is_used_up:
            x = torch.cat([step(t) for t in range(len(x))])
        u, shift = w * f.detach(), gz / rows.shape[1]
        g, *parts = cpu.scaled_sum_backward(x, a, b, grad, mean, rstd, neuron, u, shift, overwrite=step is not None)
        ctx.x_is_used_up = step is not None
        g, gw, gb = _norm_gradients(g, x, parts, (a, mean, rstd), scale, training, path, step)
        return g, gw, gb, _zero_gradient(offset), None, None, None, None, None, *gp


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
    mean and rstd. step: see `_NormLIF`; the gradient then takes the place of g."""
    sums, products = (part.sum(0) for part in parts)
    columns = *columns, *_mean_gradients(sums, products, x, training)
    if step is None:
        g = kernel_for(path, batch_norm_backward)(g, x, *columns)
    else:
        for t in range(len(g)):
            kernel_for(path, batch_norm_backward)(g[t : t + 1], step(t), *columns)  # in place
    return g, products * scale, sums


class _GatedNormLIF(torch.autograd.Function):
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
        layer: NormLIF,
        steps: int,
        images: int,
        *parameters: Tensor,
    ) -> Tensor:
        m = _image_means(x, images)
        mean, var = layer.moments(x, offset, m)
        a, b = layer.affine(mean, var)
        with torch.enable_grad(), torch.autocast(x.device.type, enabled=False):
            z = (a * m + b).detach().requires_grad_()
            f = layer.gate(z.expand(steps, -1, -1))
        ctx.save_for_backward(x, weight, bias, mean, var, m)
        ctx.settings = layer.neuron, layer.scale, layer.eps, layer.training, layer.path, offset
        ctx.gate, ctx.parameters = (z, f), parameters
        return kernel_for(layer.path, gated_spikes)(x, a, b, f.detach(), layer.neuron)

    @staticmethod
    @differentiable_once
    def backward(ctx, grad: Tensor):
        x, weight, bias, mean, var, m = ctx.saved_tensors
        (neuron, scale, eps, training, path, offset), (z, f) = ctx.settings, ctx.gate
        rstd = torch.rsqrt(var + eps)
        a, b = _affine(weight, bias, scale, mean, rstd)
        factors = f.detach()
        g, s, sx = kernel_for(path, gated_spikes_backward)(x, a, b, factors, grad, mean, neuron)
        gf = a * sx + bias * s  # I = a (x - mean) + bias
        gz, *gp = graph_gradients(f, z, ctx.parameters, ctx.needs_input_grad[7:], gf)
        sums = (factors * s).sum((0, 1)) + gz.sum((0, 1))
        products = ((factors * sx).sum((0, 1)) + (gz * (m - mean)).sum((0, 1))) * rstd
        mean_g, mean_gx = _mean_gradients(sums, products, x, training)
        shift = gz * (m.shape[1] / x.shape[1])  # 1 / P
        gx = kernel_for(path, batch_norm_backward)(g, x, a, mean, rstd, mean_g, mean_gx, shift)
        return gx, products * scale, sums, _zero_gradient(offset), None, None, None, *gp


def _image_means(x: Tensor, images: int) -> Tensor:
    """Means of x (T or 1, M, C) over the pixels of each of N images, (T or 1, N, C)."""
    return x.unflatten(1, (images, -1)).mean(2, dtype=torch.promote_types(x.dtype, torch.float32))


def _gated_without_gradient(x: Tensor, offset: Tensor | None, layer: NormLIF, steps: int, images: int) -> Tensor:
    """As the forward pass of `_GatedNormLIF`."""
    m = _image_means(x, images)
    a, b = layer.affine(*layer.moments(x, offset, m))
    with torch.autocast(x.device.type, enabled=False):
        f = layer.gate((a * m + b).expand(steps, -1, -1))
    return kernel_for(layer.path, gated_spikes)(x, a, b, f, layer.neuron)


def _affine(weight: Tensor, bias: Tensor, scale: float, mean: Tensor, rstd: Tensor) -> tuple[Tensor, Tensor]:
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


@contextmanager
def updating_statistics(module: nn.Module, whether: bool | Tensor):
    """Sets whether passes in training mode update the running statistics of the layers in `module`. whether: a bool, or
    a tensor of one that is not read on the host."""
    before = {layer: layer.updates_statistics for layer in module.modules() if isinstance(layer, TDBatchNorm)}
    for layer in before:
        layer.updates_statistics = whether
    try:
        yield
    finally:
        for layer, updates in before.items():
            layer.updates_statistics = updates


def channels_last(x: Tensor) -> Tensor:
    """(T, N, C, ...) -> (T, N, P, C) with P the number of pixels. A view if x is in channels-last memory format."""
    return x.movedim(2, -1).reshape(*x.shape[:2], -1, x.shape[2])


def channels_third(x: Tensor, frame: torch.Size) -> Tensor:
    """x (T, N, P, C) or (T, N * P, C) as a view (T, *frame), where frame is (N, C, ...)."""
    n, c, *pixels = frame
    return x.view(len(x), n, *pixels, c).movedim(-1, 2)


def world_size() -> int:
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def process_mean(x: Tensor) -> Tensor:
    """Mean over all processes, without gradient."""
    if world_size() == 1:
        return x
    x = x.clone()
    dist.all_reduce(x)
    return x / world_size()


def fuse(module: nn.Module, path: str = "native") -> nn.Module:
    """Sets what runs normalisation, neurons and the weights of spikes inside `module`, one of `kernels.PATHS`;
    `process.neuron_path` finds the best one for a device. Returns the module."""
    if path not in PATHS:
        raise UserError(f"unknown path {path!r}; known: {', '.join(PATHS)}")
    for layer in module.modules():
        if isinstance(layer, (TDBatchNorm, LIF, SpikeWeights)):
            layer.path = path
    return module
