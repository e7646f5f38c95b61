"""Gates on currents: attention between normalisation and neurons. Spikes stay 0 or 1, and the next layer adds.

    I = tdBN(x)      Z[t, c] = mean over (h, w) of I[t, c]      I'[t, c] = F[t, c] I[t, c]      spikes = neurons(I')

A word stands behind the convolution or linear layer whose currents it gates: "32C3s2-TCJAC". A and B are TCJA's
branches (`attention.py`), here of the mean currents. Each form of F has an identity path:

    TCJAC          1 + tanh(A B)                    TCJACproduct   1 + A B
    TCJACsigmoid   2 sigmoid(A B)                   TCJACfactors   2 sigmoid((1 + A) (1 + B) - 1)
    TCJACadd       2 sigmoid(A + B)                 TCJACscaled    1 + s tanh(A B), s = 0 at the start
    TLAC           1 + tanh(A)                      TCJACnormed    1 + s tanh(A' B'), each branch divided by its
    CLAC           1 + tanh(B)                                     root mean square over the steps and channels

Where a gate was reported to help, it stands here: FSTA (AAAI 2025), SpikeSR (NeurIPS 2025). Two more words learn a gain
and see no current. What they achieve is no work of attention:

    TSM            F[t], a number for each time step, 1 at the start (SDM's temporal-wise spiking mechanism)
    CSM            F[c], a number for each channel, 1 at the start (tdBN's weight and bias together can do the same)

The gate of a normalised current needs the mean of x alone: the mean of a x + b is a mean(x) + b.

Where F > 0 and V_reset = 0, hardware need not multiply the currents either: U[t] = V[t] / F[t] integrates I[t] itself,
with the leak lambda F[t-1] / F[t] and the threshold theta / F[t], two numbers for each channel and step. The package
multiplies, and counts the energy of both (`evaluation/operations.py`).
"""

import torch
from torch import Tensor, nn

from ..errors import UserError
from ..registry import register_attention
from .attention import CLA, TLA, _along_channels, _along_time


class CurrentGate(nn.Module):
    """From the mean currents Z (T, N, C) to the factors F (T, N, C) of the currents.

    A subclass defines `factors(z)`. A layer of neurons with such a gate applies it, see `normalisation.NormLIF`.
    """

    shuffled = False  # a control: every image is gated by the factors of the image before it in the batch
    is_positive = False  # whether F > 0 for all currents, up to rounding

    def __init__(self, time_steps: int, channels: int):
        super().__init__()
        self.time_steps, self.channels = time_steps, channels

    def factors(self, z: Tensor) -> Tensor:
        raise NotImplementedError

    def forward(self, z: Tensor) -> Tensor:
        """F for mean currents z, both (T, N, C). UserError if T or C is not the gate's."""
        if z.dim() != 3 or (len(z), z.shape[2]) != (self.time_steps, self.channels):
            wanted = f"mean currents ({self.time_steps}, N, {self.channels})"
            raise UserError(f"{type(self).__name__} was built for {wanted}, got {tuple(z.shape)}")
        f = self.factors(z)
        if f.shape != z.shape:
            found, wanted = tuple(f.shape), tuple(z.shape)
            raise UserError(
                f"attention {type(self).__name__} gives factors {found} for {wanted}; wanted the same shape"
            )
        return f.roll(1, 1) if self.shuffled else f

    def gate(self, x: Tensor) -> Tensor:
        """F (T, N, C) for currents x (T, N, C, H, W) or (T, N, C)."""
        return self(x.mean((3, 4)) if x.dim() == 5 else x)

    def extra_repr(self) -> str:
        return f"T={self.time_steps}, C={self.channels}"


@register_attention("TLAC")
class CurrentTLA(CurrentGate):
    """1 + tanh(A). Its parameter is `tla.weight` (C, C, k_time)."""

    is_positive = True

    def __init__(self, time_steps: int, channels: int, k_time: int = 2):
        super().__init__(time_steps, channels)
        self.tla = _along_time(time_steps, channels, k_time)

    def factors(self, z: Tensor) -> Tensor:
        return 1 + torch.tanh(TLA.scores(self, z))


@register_attention("CLAC")
class CurrentCLA(CurrentGate):
    """1 + tanh(B). Its parameter is `cla.weight` (T, T, k_channel)."""

    is_positive = True

    def __init__(self, time_steps: int, channels: int, k_channel: int = 2):
        super().__init__(time_steps, channels)
        self.cla = _along_channels(time_steps, channels, k_channel)

    def factors(self, z: Tensor) -> Tensor:
        return 1 + torch.tanh(CLA.scores(self, z))


@register_attention("TCJAC")
class CurrentTCJA(CurrentGate):
    """1 + tanh(A B). Its parameters are `tla.weight` (C, C, k_time) and `cla.weight` (T, T, k_channel), as TCJA's.

    >>> gate = CurrentTCJA(time_steps=4, channels=8)
    >>> gate.gate(torch.randn(4, 2, 8, 5, 5)).shape
    torch.Size([4, 2, 8])
    """

    is_positive = True

    def __init__(self, time_steps: int, channels: int, k_time: int = 2, k_channel: int = 2):
        super().__init__(time_steps, channels)
        self.tla = _along_time(time_steps, channels, k_time)
        self.cla = _along_channels(time_steps, channels, k_channel)

    def factors(self, z: Tensor) -> Tensor:
        return self.fused(TLA.scores(self, z), CLA.scores(self, z))

    def fused(self, a: Tensor, b: Tensor) -> Tensor:
        """F from the branches A and B, each (T, N, C)."""
        return 1 + torch.tanh(a * b)


@register_attention("TCJACproduct")
class CurrentTCJAProduct(CurrentTCJA):
    """1 + A B, which has no bounds."""

    is_positive = False

    def fused(self, a: Tensor, b: Tensor) -> Tensor:
        return 1 + a * b


@register_attention("TCJACsigmoid")
class CurrentTCJASigmoid(CurrentTCJA):
    """2 sigmoid(A B): the paper's gate, scaled to 1 where its branches are 0."""

    def fused(self, a: Tensor, b: Tensor) -> Tensor:
        return 2 * torch.sigmoid(a * b)


@register_attention("TCJACfactors")
class CurrentTCJAFactors(CurrentTCJA):
    """2 sigmoid((1 + A) (1 + B) - 1): a branch learns although the other one is 0."""

    def fused(self, a: Tensor, b: Tensor) -> Tensor:
        return 2 * torch.sigmoid(a + b + a * b)


@register_attention("TCJACadd")
class CurrentTCJAAdd(CurrentTCJA):
    """2 sigmoid(A + B)."""

    def fused(self, a: Tensor, b: Tensor) -> Tensor:
        return 2 * torch.sigmoid(a + b)


@register_attention("TCJACscaled")
class CurrentTCJAScaled(CurrentTCJA):
    """1 + s tanh(A B) with one learnt s, 0 at the start, so that training begins without a gate (as in ReZero)."""

    def __init__(self, time_steps: int, channels: int, k_time: int = 2, k_channel: int = 2):
        super().__init__(time_steps, channels, k_time, k_channel)
        self.amplitude = nn.Parameter(torch.zeros(()))

    @property
    def is_positive(self) -> bool:
        return self.amplitude.abs().item() <= 1

    def fused(self, a: Tensor, b: Tensor) -> Tensor:
        return 1 + self.amplitude * torch.tanh(a * b)


@register_attention("TCJACnormed")
class CurrentTCJANormed(CurrentTCJAScaled):
    """1 + s tanh(A' B') with branches of root mean square 1 over the steps and channels of an image."""

    def fused(self, a: Tensor, b: Tensor) -> Tensor:
        return super().fused(_normed(a), _normed(b))


def _normed(branch: Tensor) -> Tensor:
    return branch * torch.rsqrt(branch.square().mean((0, 2), keepdim=True) + 1e-5)


@register_attention("TSM")
class TimeGain(CurrentGate):
    """A learnt number for each time step, `gain` (T,): the control of a gain without attention."""

    def __init__(self, time_steps: int, channels: int):
        super().__init__(time_steps, channels)
        self.gain = nn.Parameter(torch.ones(time_steps))

    @property
    def is_positive(self) -> bool:
        return bool((self.gain > 0).all())

    def factors(self, z: Tensor) -> Tensor:
        return self.gain[:, None, None].expand_as(z)


@register_attention("CSM")
class ChannelGain(CurrentGate):
    """A learnt number for each channel, `gain` (C,)."""

    def __init__(self, time_steps: int, channels: int):
        super().__init__(time_steps, channels)
        self.gain = nn.Parameter(torch.ones(channels))

    def factors(self, z: Tensor) -> Tensor:
        return self.gain.expand_as(z)
