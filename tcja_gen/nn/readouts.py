"""From a decoder's spikes to an image: a weighted sum over time, a linear layer, then tanh.

membrane   w_t = 0.8^(T-1-t), the membrane of a neuron that never fires (FSVAE); the weights do not sum to 1
mean       w_t = 1 / T, the mean over time, as the TCJA paper describes its generator
"""

import torch
from torch import Tensor, nn

from ..errors import UserError
from ..registry import READOUTS, register_readout
from .attention import Gate
from .normalisation import channels_last, channels_third

DECAY = 0.8


@register_readout("membrane")
def membrane(time_steps: int) -> Tensor:
    return DECAY ** torch.arange(time_steps - 1, -1, -1).float()


@register_readout("mean")
def mean(time_steps: int) -> Tensor:
    return torch.full((time_steps,), 1 / time_steps)


def readout_weights(kind: str, time_steps: int) -> Tensor:
    """Time weights w (T,) of a registered readout. With t in place of T: those that read out the first t steps."""
    w = torch.as_tensor(READOUTS[kind](time_steps))
    if w.shape != (time_steps,):
        raise UserError(f"readout {kind!r} gives weights of shape {tuple(w.shape)}, wanted ({time_steps},)")
    return w.float()


class _WeightedSum(torch.autograd.Function):
    """sum over t of w_t x_t. Its gradient is a broadcast product, which is faster than autograd's matrix product."""

    @staticmethod
    def forward(ctx, x: Tensor, w: Tensor) -> Tensor:
        ctx.save_for_backward(w)
        return torch.tensordot(w, x, dims=1)

    @staticmethod
    def backward(ctx, grad: Tensor):
        (w,) = ctx.saved_tensors
        return w.view(-1, *[1] * grad.dim()) * grad.contiguous(), None  # laid out as the spikes are


class Readout(nn.Module):
    """tanh(sum over t of w_t layer(x_t)). The `layer` is linear, so it runs once, on the sum over t of w_t x_t."""

    def __init__(self, kind: str, time_steps: int):
        super().__init__()
        self.kind = kind
        self.register_buffer("weights", readout_weights(kind, time_steps), persistent=False)

    def forward(self, x: Tensor, layer: nn.ConvTranspose2d, gate: Gate | None = None) -> Tensor:
        """Spikes x (T, N, C, H, W) -> images (N, C', H, W) in (-1, 1), float32. With a gate, gate(x) is read out."""
        return self._read(x, self.weights, layer, gate)

    def prefixes(self, x: Tensor, layer: nn.ConvTranspose2d) -> Tensor:
        """Images read out after the first 1, 2, ... T steps: (T, N, C', H, W). The last one is that of `forward`."""
        times = range(1, len(x) + 1)
        return torch.stack([self._read(x[:t], readout_weights(self.kind, t).to(x.device), layer) for t in times])

    @staticmethod
    def _read(x: Tensor, w: Tensor, layer: nn.ConvTranspose2d, gate: Gate | None = None) -> Tensor:
        total = gate.weighted_sum(x, w) if gate else _WeightedSum.apply(channels_last(x), w.to(x.dtype))  # (N, P, C)
        y = layer(channels_third(total[None], x.shape[1:])[0])
        return torch.tanh(y.float() + (w.sum() - 1) * layer.bias.float().view(-1, 1, 1))
