"""Spiking layers: weights, threshold-dependent batch norm and LIF neurons, one block each.

A block takes spikes (T, N, ...) and gives spikes (T, N, ...); the weights see time folded into the batch. A static
image (N, ...) meets the weights once, and gets its T at the neurons. Layers keep their bias although a normalisation
follows, as FSVAE does, so that parameter counts can be compared.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .neurons import Neuron
from .normalisation import NormLIF


class SpikingBlock(nn.Module):
    """`weights`, then tdBN and LIF. Input (T, N, ...), or one static frame (N, ...) with `steps` = T."""

    def __init__(self, weights: nn.Module, features: int, neuron: Neuron, alpha: float = 1.0):
        super().__init__()
        self.weights = weights
        self.neurons = NormLIF(features, neuron, alpha)

    def forward(self, x: Tensor, steps: int | None = None) -> Tensor:
        if steps:
            return self.neurons(self.weights(x), steps)
        y = self.weights(x.flatten(0, 1))  # (T*N, ...)
        return self.neurons(y.view(*x.shape[:2], *y.shape[1:]))

    def step(self, x: Tensor, v: Tensor | None) -> tuple[Tensor, Tensor]:
        """One time step with an explicit membrane: x (N, ...) -> spikes (N, ...), membrane."""
        return self.neurons.step(self.weights(x), v)


def conv_block(in_channels: int, channels: int, kernel: int, stride: int, neuron: Neuron) -> SpikingBlock:
    """Convolution padded by k // 2: size s becomes ceil(s / stride) for odd kernels."""
    conv = nn.Conv2d(in_channels, channels, kernel, stride, kernel // 2)
    return SpikingBlock(conv, channels, neuron)


def transposed_block(
    in_channels: int, channels: int, kernel: int, stride: int, in_size: int, out_size: int, neuron: Neuron
) -> SpikingBlock:
    """Transposed convolution from `in_size` to `out_size` pixels a side, which its stride must be able to reach."""
    padding = kernel // 2
    extra = out_size - ((in_size - 1) * stride - 2 * padding + kernel)  # output_padding
    if not 0 <= extra < max(stride, 2):
        raise ValueError(f"{channels}T{kernel}s{stride} cannot make {out_size} pixels a side of {in_size}")
    conv = nn.ConvTranspose2d(in_channels, channels, kernel, stride, padding, output_padding=extra)
    return SpikingBlock(conv, channels, neuron)


def linear_block(in_features: int, features: int, neuron: Neuron, alpha: float = 1.0) -> SpikingBlock:
    return SpikingBlock(nn.Linear(in_features, features), features, neuron, alpha)


class Flatten(nn.Module):
    """(T, N, C, H, W) -> (T, N, C*H*W), in that order."""

    def forward(self, x: Tensor) -> Tensor:
        return x.flatten(-3)


class Pool(nn.Module):
    """Max or average pooling of (T, N, C, H, W) or (N, C, H, W)."""

    def __init__(self, kind: str, size: int):
        super().__init__()
        self.kind, self.size = kind, size

    def forward(self, x: Tensor) -> Tensor:
        pool = F.max_pool2d if self.kind == "max" else F.avg_pool2d
        planes = x.flatten(0, -4)
        y = pool(planes, self.size)
        return y.view(*x.shape[:-3], *y.shape[-3:])


class TemporalDropout(nn.Module):
    """Dropout whose mask (N, ...) is the same at every time step, so that a spike train is kept or lost whole."""

    def __init__(self, p: float):
        super().__init__()
        self.p = p

    def forward(self, x: Tensor) -> Tensor:
        if not self.training:
            return x
        return x * F.dropout(torch.ones_like(x[:1]), self.p)
