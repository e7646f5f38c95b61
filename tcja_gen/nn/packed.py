"""Spikes as bits, between neurons and layers that skip silent ones: a 32nd of the memory of numbers.

Neurons write bits where the coder knows that nothing else looks at their spikes (`layers.hands_on_bits`). Everywhere
else a stream of spikes is a tensor of numbers.
"""

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Packed:
    """Spikes of a stream (T, N, C, H, W) or (T, N, F), or of frames (T * N, ...), as bits.

    x: stands in for them in autograd's graph. It has their shape and takes no memory; its numbers mean nothing. bits:
    the channels of each pixel, as whole words, frame after frame.
    """

    x: Tensor
    bits: Tensor

    @property
    def shape(self) -> torch.Size:
        return self.x.shape

    def __len__(self) -> int:
        return len(self.x)

    def flatten(self, first: int, last: int) -> "Packed":
        """Time and images as one dimension."""
        return Packed(self.x.flatten(first, last), self.bits)


def graph_tensor(x: Tensor | Packed) -> Tensor:
    """A stream, or what stands in for it: what autograd sees."""
    return x.x if isinstance(x, Packed) else x


def without_gradient(ctx, x: Tensor, bits: Tensor) -> tuple[Tensor, Tensor]:
    """A stand-in and bits as the outputs of an autograd function: only the former has a gradient."""
    ctx.mark_non_differentiable(bits)
    ctx.set_materialize_grads(False)
    return x, bits


def stand_in(like: Tensor, *shape: int) -> Tensor:
    """A tensor of this shape that takes no memory."""
    return like.new_zeros(()).expand(shape)
