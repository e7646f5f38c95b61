"""Temporal-channel joint attention (TCJA) and the attention that its paper compares it with.

Zhu et al., TCJA-SNN, IEEE TNNLS 2024 (arXiv 2206.10177), section III. For a spike stream X (T, N, C, H, W):

    squeeze  Z[t, c] = mean over (h, w) of X[t, c]
    TLA      A[t, c] = sum over c', m of W_A[c, c', m] Z[t + m, c']       window of k_time steps along time
    CLA      B[t, c] = sum over t', m of W_B[t, t', m] Z[t', c + m]       window of k_channel channels
    CCF      F = sigmoid(A * B),  Y[t, c] = X[t, c] F[t, c]

There is no bias, no normalisation and no residual path. Both convolutions keep the length by zero padding; an even
kernel has its extra zero on the right. A kernel is named after the axis that it slides along (the authors' code names
them the other way round). The block sees all T steps at once, and its weights fix T and C. Its output is a spike times
a number in (0, 1), not a spike.

Every block here is a `Gate`: `gate(x)` returns F (T, N, C), and `forward` multiplies x by it. F is positive and
constant over space, so gating commutes with max and average pooling.
"""

import inspect

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..errors import UserError
from ..registry import ATTENTION, register_attention
from .gradients import differentiable_once, graph_gradients
from .normalisation import channels_last, channels_third


class Gate(nn.Module):
    """Scales each (t, n, c) plane of a spike stream by a number in (0, 1), computed from the means of the planes.

    A subclass defines `scores(z)`, from the squeezed stream z (T, N, C) to the scores before the sigmoid, (T, N, C).
    """

    shuffled = False  # a control: every image is gated as the image before it in the batch

    def __init__(self, time_steps: int, channels: int):
        super().__init__()
        self.time_steps, self.channels = time_steps, channels

    def scores(self, z: Tensor) -> Tensor:
        raise NotImplementedError

    def gate(self, x: Tensor) -> Tensor:
        """F (T, N, C) for spikes x (T, N, C, H, W) or (T, N, C). UserError if T or C is not the block's."""
        self._check(x)
        z = x.mean(dim=(3, 4)) if x.dim() == 5 else x  # (T, N, C)
        return _gate_of(self, z)

    def forward(self, x: Tensor) -> Tensor:
        self._check(x)
        if x.dim() == 3:
            return x * self.gate(x)
        stream = channels_last(x)
        gated = _Gated.apply(stream, self, *self.parameters()) if torch.is_grad_enabled() else _gated(stream, self)
        return channels_third(gated, x.shape[1:])

    def weighted_sum(self, x: Tensor, w: Tensor) -> Tensor:
        """sum over t of w_t F_t x_t for spikes x (T, N, C, H, W) and w (T,), as (N, P, C) with P the number of pixels.

        A readout needs only this sum of a decoder's last block, so the gated stream is never written to memory.
        """
        self._check(x)
        return _GatedSum.apply(channels_last(x), w, self, *self.parameters())

    def _check(self, x: Tensor) -> None:
        if not x.is_floating_point():
            raise UserError(f"{type(self).__name__} wants spikes as floating-point numbers, got {x.dtype}")
        if x.dim() not in (3, 5):
            raise UserError(f"{type(self).__name__} wants (T, N, C, H, W) or (T, N, C), got {tuple(x.shape)}")
        if x.shape[0] != self.time_steps:
            raise UserError(f"{type(self).__name__} was built for T = {self.time_steps}, the input has T = {len(x)}")
        if x.shape[2] != self.channels:
            raise UserError(
                f"{type(self).__name__} was built for C = {self.channels} channels, the input has C = {x.shape[2]}"
            )

    def extra_repr(self) -> str:
        return f"T={self.time_steps}, C={self.channels}"


def _gated(x: Tensor, block: Gate) -> Tensor:
    """The gated stream of x (T, N, P, C), without gradient."""
    f = _gate_of(block, x.sum(2) / x.shape[2])
    return x * f[:, :, None].to(x.dtype)


class _Gated(torch.autograd.Function):
    """Squeeze, scores and product for x (T, N, P, C) as one operation. Forward and backward each pass over the stream
    twice, half as often as autograd would, and only the stream is kept. Autograd differentiates the small scores."""

    @staticmethod
    def forward(ctx, x: Tensor, block: Gate, *parameters: Tensor) -> Tensor:
        z, f = _squeezed_and_gate(x, block)
        ctx.save_for_backward(x)
        ctx.gate, ctx.parameters = (z, f), parameters
        return x.data * f.data[:, :, None].to(x.dtype)

    @staticmethod
    @differentiable_once
    def backward(ctx, grad: Tensor):
        (x,), (z, f) = ctx.saved_tensors, ctx.gate
        gf = torch.stack([(g * frame).sum(1) for g, frame in zip(grad, x, strict=True)]).to(f.dtype)
        gz, *gp = graph_gradients(f, z, ctx.parameters, ctx.needs_input_grad[2:], gf)
        return torch.addcmul((gz / x.shape[2])[:, :, None], grad, f.data[:, :, None].to(grad.dtype)), None, *gp


class _GatedSum(torch.autograd.Function):
    """The gated stream summed over time with weights w (T,): one pass over x for the sum, one for each gradient."""

    @staticmethod
    def forward(ctx, x: Tensor, w: Tensor, block: Gate, *parameters: Tensor) -> Tensor:
        z, f = _squeezed_and_gate(x, block)
        ctx.save_for_backward(x, w)
        ctx.gate, ctx.parameters = (z, f), parameters
        total = torch.zeros_like(x[0], dtype=torch.float32)
        for frame, u in zip(x.data, w[:, None, None] * f.data, strict=True):
            total.addcmul_(frame, u[:, None])
        return total.to(x.dtype)

    @staticmethod
    @differentiable_once
    def backward(ctx, grad: Tensor):
        (x, w), (z, f) = ctx.saved_tensors, ctx.gate
        w, grad = w[:, None, None].to(f.dtype), grad.contiguous()  # laid out as the spikes are
        gf = w * torch.stack([(grad * frame).sum(1) for frame in x]).to(f.dtype)
        gz, *gp = graph_gradients(f, z, ctx.parameters, ctx.needs_input_grad[3:], gf)
        gx = torch.empty_like(x)
        for out, u, shift in zip(gx, w * f.data, gz / x.shape[2], strict=True):
            torch.addcmul(shift[:, None].to(x.dtype), grad, u[:, None].to(grad.dtype), out=out)
        return gx, None, None, *gp


def _squeezed_and_gate(x: Tensor, block: Gate) -> tuple[Tensor, Tensor]:
    """The squeezed stream (T, N, C) of x (T, N, P, C), as a leaf of autograd's graph, and its gate."""
    with torch.enable_grad():
        z = (x.data.sum(2) / x.shape[2]).requires_grad_()
        return z, _gate_of(block, z)


def _gate_of(block: Gate, z: Tensor) -> Tensor:
    """The gate (T, N, C) of a squeezed stream z (T, N, C). UserError if the block's scores have another shape."""
    scores = block.scores(z)
    if scores.shape != z.shape:
        found, wanted = tuple(scores.shape), tuple(z.shape)
        raise UserError(f"attention {type(block).__name__} gives scores {found} for {wanted}; wanted the same shape")
    f = torch.sigmoid(scores)
    return f.roll(1, 1) if block.shuffled else f


def _along_time(time_steps: int, channels: int, k: int) -> nn.Conv1d:
    if not 1 <= k <= time_steps:
        raise UserError(f"k_time = {k} does not fit T = {time_steps}: it must lie in 1..T")
    return nn.Conv1d(channels, channels, k, bias=False)


def _along_channels(time_steps: int, channels: int, k: int) -> nn.Conv1d:
    if not 1 <= k <= channels:
        raise UserError(f"k_channel = {k} does not fit C = {channels}: it must lie in 1..C")
    return nn.Conv1d(time_steps, time_steps, k, bias=False)


@register_attention("TLA")
class TLA(Gate):
    """Temporal-wise local attention alone: sigmoid(A). Its parameter is `tla.weight` (C, C, k_time)."""

    def __init__(self, time_steps: int, channels: int, k_time: int = 2):
        super().__init__(time_steps, channels)
        self.tla = _along_time(time_steps, channels, k_time)

    def scores(self, z: Tensor) -> Tensor:
        w = self.tla.weight
        k = w.shape[2]
        z = F.pad(z, (0, 0, 0, 0, (k - 1) // 2, k // 2))  # T + k - 1 steps
        taps = w.permute(2, 0, 1).contiguous()  # else every product would copy its own
        return sum(F.linear(z[m : m + self.time_steps], tap) for m, tap in enumerate(taps))


@register_attention("CLA")
class CLA(Gate):
    """Channel-wise local attention alone: sigmoid(B). Its parameter is `cla.weight` (T, T, k_channel)."""

    def __init__(self, time_steps: int, channels: int, k_channel: int = 2):
        super().__init__(time_steps, channels)
        self.cla = _along_channels(time_steps, channels, k_channel)

    def scores(self, z: Tensor) -> Tensor:
        w, c = self.cla.weight, self.channels
        k = w.shape[2]
        z = F.pad(z, ((k - 1) // 2, k // 2))  # C + k - 1 channels
        taps = w.permute(2, 0, 1).contiguous()
        return sum(tap @ z[..., m : m + c].flatten(1) for m, tap in enumerate(taps)).unflatten(1, (-1, c))


@register_attention("TCJA")
class TCJA(Gate):
    """The joint attention of the paper: sigmoid(A * B).

    Its parameters are `tla.weight` (C, C, k_time) and `cla.weight` (T, T, k_channel).

    >>> block = TCJA(time_steps=4, channels=8)
    >>> spikes = (torch.rand(4, 2, 8, 5, 5) < 0.1).float()
    >>> block(spikes).shape, block.gate(spikes).shape
    (torch.Size([4, 2, 8, 5, 5]), torch.Size([4, 2, 8]))
    """

    def __init__(self, time_steps: int, channels: int, k_time: int = 2, k_channel: int = 2):
        super().__init__(time_steps, channels)
        self.tla = _along_time(time_steps, channels, k_time)
        self.cla = _along_channels(time_steps, channels, k_channel)

    def branches(self, z: Tensor) -> tuple[Tensor, Tensor]:
        """A and B, each (T, N, C)."""
        return TLA.scores(self, z), CLA.scores(self, z)

    def scores(self, z: Tensor) -> Tensor:
        a, b = self.branches(z)
        return a * b


@register_attention("TCJAadd")
class TCJAAdd(TCJA):
    """TCJA with additive fusion: sigmoid(A + B)."""

    def scores(self, z: Tensor) -> Tensor:
        a, b = self.branches(z)
        return a + b


@register_attention("SE")
class SE(Gate):
    """Squeeze-and-excitation over the channels, with the same weights at every step (Hu et al., CVPR 2018)."""

    def __init__(self, time_steps: int, channels: int, reduction: int = 16):
        super().__init__(time_steps, channels)
        hidden = max(channels // reduction, 1)
        self.mlp = nn.Sequential(
            nn.Linear(channels, hidden, bias=False), nn.ReLU(), nn.Linear(hidden, channels, bias=False)
        )

    def scores(self, z: Tensor) -> Tensor:
        return self.mlp(z)


@register_attention("TA")
class TA(Gate):
    """Temporal-wise attention of TA-SNN (Yao et al., ICCV 2021): one score per step, from the mean over C, H, W.

    TA-SNN's threshold at inference is left out, so the scores stay soft. The hidden width is at least 1.
    """

    def __init__(self, time_steps: int, channels: int, reduction: int = 4):
        super().__init__(time_steps, channels)
        hidden = max(time_steps // reduction, 1)
        self.mlp = nn.Sequential(
            nn.Linear(time_steps, hidden, bias=False), nn.ReLU(), nn.Linear(hidden, time_steps, bias=False)
        )

    def scores(self, z: Tensor) -> Tensor:
        steps = self.mlp(z.mean(2).T)  # (N, T)
        return steps.T[..., None].expand_as(z)


@register_attention("FC")
class FC(Gate):
    """One dense layer over all (t, c), with T^2 C^2 weights: the cost that the TCJA paper argues against."""

    def __init__(self, time_steps: int, channels: int):
        super().__init__(time_steps, channels)
        self.fc = nn.Linear(time_steps * channels, time_steps * channels, bias=False)

    def scores(self, z: Tensor) -> Tensor:
        t, n, c = z.shape
        return self.fc(z.transpose(0, 1).reshape(n, t * c)).view(n, t, c).transpose(0, 1)


@register_attention("Conv2d")
class Conv2d(Gate):
    """One k_time x k_channel convolution over the (T, C) map. It sees a rectangle, where TCJA sees a whole cross."""

    def __init__(self, time_steps: int, channels: int, k_time: int = 2, k_channel: int = 2):
        super().__init__(time_steps, channels)
        _along_time(time_steps, 1, k_time), _along_channels(1, channels, k_channel)  # the same limits
        self.conv = nn.Conv2d(1, 1, (k_time, k_channel), bias=False)

    def scores(self, z: Tensor) -> Tensor:
        kt, kc = self.conv.kernel_size
        padded = F.pad(z.transpose(0, 1)[:, None], ((kc - 1) // 2, kc // 2, (kt - 1) // 2, kt // 2))
        return self.conv(padded)[:, 0].transpose(0, 1)


def kernel_names(word: str) -> list[str]:
    """Which of k_time and k_channel the attention of this name takes."""
    return [name for name in ("k_time", "k_channel") if name in inspect.signature(ATTENTION[word]).parameters]
