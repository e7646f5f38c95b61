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


def stand_in(like: Tensor, *shape: int) -> Tensor:
    """A tensor of this shape that takes no memory."""
    return like.new_zeros(()).expand(shape)
