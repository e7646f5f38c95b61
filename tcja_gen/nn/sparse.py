"""Convolutions and linear layers whose input is spikes: a neuron that does not fire costs nothing.

On a CPU with kernels (`kernels/sparse.py`), in float32, such a layer adds up the weights of the neurons that fired; a
gated spike counts by its factor. The gradient of the weights is made in the same way, that of the spikes is a dense
product. For the backward pass spikes are kept as bits. Everywhere else the layers here are those of PyTorch.

The choice depends on the layer alone and never on how much has fired, because the result of an image must not depend on
the others of its batch. The kernels are ahead of dense products up to a firing rate of about one half.
"""

from collections.abc import Callable
from contextlib import contextmanager
from contextvars import ContextVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .gradients import differentiable_once
from .kernels import sparse

# Pixels (H', W') of the output that a layer computes, bool; every pixel without an entry. Each thread has its own.
wanted: ContextVar[dict[nn.Module, Tensor]] = ContextVar("wanted", default={})  # noqa: B039  never changed in place

OUTPUTS = 16  # output channels from which on adding up rows of weights is worth it


class SpikeWeights:
    """Mixed into a layer of weights, with what it needs to know to skip zeros."""

    takes_spikes = False  # whether the input is spikes, gated or not; set by those who build the network
    path = "plain"  # set by `fuse`

    def skips_zeros(self, x: Tensor) -> bool:
        """Whether the layer runs on the kernels for spikes."""
        if not self.takes_spikes or self.path != "native" or torch.is_autocast_enabled("cpu"):
            return False
        return self.outputs >= OUTPUTS and sparse.suits(self, x)

    @property
    def outputs(self) -> int:
        """Output channels or features."""
        return self.out_features if isinstance(self, nn.Linear) else self.out_channels

    def forward(self, x: Tensor) -> Tensor:
        return _SpikeWeights.apply(x, self.weight, self.bias, self) if self.skips_zeros(x) else super().forward(x)

    def without_bias(self, x: Tensor) -> Tensor:
        """The output minus the bias. oneDNN takes long for the gradient of the bias of a transposed convolution."""
        if self.skips_zeros(x):
            return _SpikeWeights.apply(x, self.weight, None, self)
        if isinstance(self, nn.Linear):
            return F.linear(x, self.weight)
        where = {name: getattr(self, name) for name in ("stride", "padding", "dilation", "groups")}
        if isinstance(self, nn.ConvTranspose2d):
            return F.conv_transpose2d(x, self.weight, output_padding=self.output_padding, **where)
        return F.conv2d(x, self.weight, **where)

    def recomputable(self, x: Tensor) -> tuple[Tensor, Callable[[int, int], Tensor] | None]:
        """`without_bias(x)`, and a function (first, last) that computes it again for frames first to last - 1, without
        gradient and with the same bits. None in its place where the layer does not skip zeros."""
        if not self.skips_zeros(x):
            return self.without_bias(x), None
        spikes = sparse.pack(x)
        y = _SpikeWeights.apply(x, self.weight, None, self, spikes)
        return y, lambda first, last: sparse.forward(self, spikes.frames(first, last), None)

    def then(self, x: Tensor, a: Tensor, b: Tensor, current: Tensor) -> Tensor:
        """a y + b + current of the output y, without gradient, where the layer skips zeros. a, b: (C',). current: of
        fewer frames, it is used in turn."""
        return sparse.forward(self, sparse.pack(x), self.bias, wanted.get().get(self), (a, b, current))


class Conv2d(SpikeWeights, nn.Conv2d):
    """Convolution, see the module's text."""


class ConvTranspose2d(SpikeWeights, nn.ConvTranspose2d):
    """Transposed convolution, see the module's text."""


class Linear(SpikeWeights, nn.Linear):
    """Linear layer, see the module's text."""


@contextmanager
def dense(module: nn.Module):
    """Inside, the layers of `module` are those of PyTorch, and compute every image, place and time step."""
    paths = {layer: layer.path for layer in module.modules() if isinstance(layer, SpikeWeights)}
    for layer in paths:
        layer.path = "plain"
    try:
        yield
    finally:
        for layer, path in paths.items():
            layer.path = path


class _SpikeWeights(torch.autograd.Function):
    """A layer's output for spikes x, (N, C, H, W) or (N, F)."""

    @staticmethod
    def forward(
        ctx,
        x: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        layer: SpikeWeights,
        spikes: sparse.Spikes | None = None,
    ) -> Tensor:
        spikes = spikes or sparse.pack(x)
        ctx.save_for_backward(weight, spikes.bits, spikes.values)
        ctx.layer, ctx.shape = layer, x.shape
        y = sparse.forward(layer, spikes, bias, wanted.get().get(layer))
        return y if x.dim() == 4 else y.flatten(1)

    @staticmethod
    @differentiable_once
    def backward(ctx, grad: Tensor):
        weight, bits, values = ctx.saved_tensors
        planes = grad if grad.dim() == 4 else grad[:, :, None, None]
        gx = gw = gb = None
        if ctx.needs_input_grad[0]:
            gx = _input_gradient(ctx.layer, weight, grad, ctx.shape)
        if ctx.needs_input_grad[1]:
            spikes = sparse.Spikes(bits, values, ctx.shape[1])
            gw = sparse.weight_gradient(ctx.layer, spikes, planes)
        if ctx.needs_input_grad[2]:
            gb = planes.sum((0, 2, 3))
        return gx, gw, gb, None, None


def _input_gradient(layer: SpikeWeights, weight: Tensor, grad: Tensor, shape: torch.Size) -> Tensor:
    """The gradient of a convolution's input is a transposed convolution of its output's, and the other way round."""
    if isinstance(layer, nn.Linear):
        return grad @ weight
    stride, padding, kernel = layer.stride, layer.padding, layer.kernel_size
    if isinstance(layer, nn.ConvTranspose2d):
        return F.conv2d(grad, weight, None, stride, padding)
    sides = zip(shape[2:], grad.shape[2:], stride, padding, kernel, strict=True)
    unseen = [size - ((made - 1) * s - 2 * p + k) for size, made, s, p, k in sides]  # pixels that no kernel reached
    return F.conv_transpose2d(grad, weight, None, stride, padding, unseen)
