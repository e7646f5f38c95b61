"""Convolutions and linear layers that skip the zeros of their input.

A spike that is not there need not be multiplied. On a CPU with kernels (`kernels/sparse.py`), in float32, a layer whose
input is spikes adds up the weights of those neurons that fired; a gated spike counts by its factor. At the usual rates,
0.1 to 0.3, this is two to four times as fast as dense products; from about 0.4 on it is slower. Everywhere else the
layers here are those of PyTorch.

The choice depends on the layer alone and never on how much has fired: the result of an image must not depend on the
others of its batch.
"""

import torch
from torch import Tensor, nn

from .kernels.sparse import sparse_forward, suits

ROW = 32  # output channels from which on adding up rows of weights is worth it


class SparseInput:
    """Mixed into a layer of weights, with what it needs to know to skip zeros."""

    takes_spikes = False  # whether the input is spikes, gated or not; set by those who build the network
    path = "plain"  # set by `fuse`
    wanted: Tensor | None = None  # pixels (H', W') of the output that `forward` must compute, set by `computing`

    def skips_zeros(self, x: Tensor) -> bool:
        """Whether `forward` runs on the kernels for sparse input."""
        if not self.takes_spikes or self.path != "native" or torch.is_grad_enabled():
            return False
        return self.rows >= ROW and not torch.is_autocast_enabled("cpu") and suits(self, x)

    @property
    def rows(self) -> int:
        """Output channels or features."""
        return self.out_features if isinstance(self, nn.Linear) else self.out_channels

    def forward(self, x: Tensor) -> Tensor:
        return sparse_forward(self, x, self.wanted) if self.skips_zeros(x) else super().forward(x)


class Conv2d(SparseInput, nn.Conv2d):
    """Convolution, see the module's text."""


class ConvTranspose2d(SparseInput, nn.ConvTranspose2d):
    """Transposed convolution, see the module's text."""


class Linear(SparseInput, nn.Linear):
    """Linear layer, see the module's text."""
