"""Threshold-dependent batch normalisation (tdBN; Zheng et al., AAAI 2021, as FSVAE uses it) and the neurons behind it.

    I = gamma * alpha * gain * (x - mean) / sqrt(var + eps) + beta        gamma = 1, beta = 0 at the start

Mean and variance are those of a channel over time, batch and space together. The gain follows from the neuron behind
(`Neuron.gain`): V_threshold, times tau where the neuron divides its input by tau. Without this factor tau the neuron of
the TCJA paper hardly fires, and a spiking VAE learns little more than the mean image.

Normalisation and neurons are one operation (`fused.py`), with a gate of the currents between them if there is one
(`currents.py`). The normalised current is never written to memory, and only x is kept for the backward pass. `fuse`
chooses the kernels.
T equal frames have the same mean and variance as one static frame; only the factor n / (n - 1) of the running variance
differs, since a static frame has n = N*H*W values and not T times more.
"""

from collections.abc import Callable
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from ..errors import UserError
from .fused import (
    Fire,
    Norm,
    NormFire,
    NormFireGate,
    NormGateFire,
    affine,
    norm_gate_fire,
    process_mean,
    spike_step,
    squared_deviations,
    world_size,
)
from .kernels import PATHS, OnPath, kernel_for
from .neurons import PRESETS, Charge, Neuron, lif
from .packed import Packed
from .sparse import SpikeWeights


class TDBatchNorm(OnPath, nn.Module):
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
        self.updates_statistics = True  # by a pass in training mode: a bool, or a tensor of one
        self.gate: nn.Module | None = None  # of the currents, a `currents.CurrentGate`
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))
        self.register_buffer("running_mean", torch.zeros(channels))
        self.register_buffer("running_var", torch.ones(channels))

    def forward(self, x: Tensor, steps: int | None = None, offset: Tensor | None = None) -> Tensor:
        planes, frame = self._planes(x, steps)
        currents = Norm.apply(planes, self.weight, self.bias, offset, self)
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
        return affine(self.weight, self.bias, self.scale, mean, torch.rsqrt(var + self.eps))

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


class Charged:
    """Mixed into neurons whose spikes can cost something in training, see `training.firing`."""

    charge: Charge | None = None

    @property
    def charge_in_training(self) -> Charge | None:
        return self.charge if self.training else None


class NormLIF(Charged, TDBatchNorm):
    """tdBN and the neurons behind it: currents (T, N, C, ...) -> spikes. Keeps no membrane.

    seen_by: gets the spikes of every pass, also of those that only sum them up. It changes no bit of anything, while a
    forward hook, which could, ends the joining of passes (`layers.is_watched`).
    With a charge in training, spikes are not summed up before they are handed on.
    """

    seen_by: Callable[[Tensor], None] | None = None

    def __init__(self, channels: int, neuron: Neuron = PRESETS["tcja"], alpha: float = 1.0, **options):
        super().__init__(channels, alpha * neuron.gain, **options)
        self.neuron = neuron

    def forward(
        self, x: Tensor, steps: int | None = None, offset: Tensor | None = None, as_bits: bool = False
    ) -> Tensor | Packed:
        """as_bits: see `layers.hands_on_bits`."""
        planes, frame = self._planes(x, steps)
        given = planes, self.weight, self.bias, offset, self, steps or len(planes)
        if self.gate is None:
            fired = NormFire.apply(*given, None, None, as_bits)
        elif torch.is_grad_enabled():
            fired = NormGateFire.apply(*given, frame[0], as_bits, *self.gate.parameters())
        else:
            fired = norm_gate_fire(planes, offset, self, steps or len(planes), frame[0], as_bits)
        spikes = _stream(fired, frame)
        if self.seen_by is not None:
            self.seen_by(spikes)
        if charge := self.charge_in_training:
            charge.note(spikes)
        return spikes

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
        if self.seen_by is not None:
            with torch.no_grad(), updating_statistics(self, False):
                self.seen_by(channels_third(NormFire.apply(*given, len(planes)), frame))
        if gate is None:
            total = NormFire.apply(*given, len(planes), w, step)
        else:
            total = NormFireGate.apply(*given, w, step, gate, frame[0], *gate.parameters())
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


class LIF(Charged, OnPath, nn.Module):
    """Neurons alone: currents (T, N, ...), or one static frame (N, ...) with `steps` = T, -> spikes (T, N, ...)."""

    def __init__(self, neuron: Neuron = PRESETS["tcja"]):
        super().__init__()
        self.neuron = neuron

    def forward(self, x: Tensor, steps: int | None = None, as_bits: bool = False) -> Tensor | Packed:
        """as_bits: see `layers.hands_on_bits`."""
        planes, frame = channels_last(x[None] if steps else x), x.shape if steps else x.shape[1:]
        charge = self.charge_in_training
        if as_bits:
            spikes = _stream(Fire.apply(planes.flatten(1, 2), self.neuron, steps or len(planes), charge), frame)
        else:
            currents, how = planes[0] if steps else planes, {"path": self.path, "charge": charge}
            spikes = channels_third(lif(currents, neuron=self.neuron, steps=steps, **how), frame)
        if charge:
            charge.note(spikes)
        return spikes

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


def _stream(fired: Tensor | tuple[Tensor, Tensor], frame: torch.Size) -> Tensor | Packed:
    """Spikes (T, M, C), or a stand-in and bits, as a stream (T, *frame)."""
    if isinstance(fired, Tensor):
        return channels_third(fired, frame)
    return Packed(channels_third(fired[0], frame), fired[1])


def channels_last(x: Tensor) -> Tensor:
    """(T, N, C, ...) -> (T, N, P, C) with P the number of pixels. A view if x is in channels-last memory format."""
    return x.movedim(2, -1).reshape(*x.shape[:2], -1, x.shape[2])


def channels_third(x: Tensor, frame: torch.Size) -> Tensor:
    """x (T, N, P, C) or (T, N * P, C) as a view (T, *frame), where frame is (N, C, ...)."""
    n, c, *pixels = frame
    return x.view(len(x), n, *pixels, c).movedim(-1, 2)


def fuse(module: nn.Module, path: str = "native") -> nn.Module:
    """Sets what runs normalisation, neurons and the weights of spikes inside `module`, one of `kernels.PATHS`;
    `process.neuron_path` finds the best one for a device. Returns the module."""
    if path not in PATHS:
        raise UserError(f"unknown path {path!r}; known: {', '.join(PATHS)}")
    for layer in module.modules():
        if isinstance(layer, (TDBatchNorm, LIF, SpikeWeights)):
            layer.path = path
    return module
