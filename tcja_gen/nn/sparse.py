"""Convolutions and linear layers whose input is spikes: a neuron that does not fire costs nothing.

On a CPU with kernels (`kernels/sparse.py`), in float32, such a layer adds up the weights of the neurons that fired; a
gated spike counts by its factor. The gradient of the weights is made in the same way, that of the spikes is a dense
product. Spikes are kept as bits, and may come as such (`packed.py`). Everywhere else the layers here are those of
PyTorch.

A gate right in front of such a layer is part of it (`gate`, an `attention.Gate`): the output for spikes S, the gate's F
and weights W is W (F S), and F S is never written. With the gradient G of F S, that of F is the sum over pixels of G S,
and that of S is F G + dL/dZ / P for the squeezed Z and P pixels.

Without gradient, the neurons behind such a layer are part of it, too (`fire`): what it adds up goes through all time
steps in the nearest cache, and only spikes are written.

The choice depends on the layer alone and never on how much has fired, because the result of an image must not depend on
the others of its batch. The kernels are ahead of dense products up to a firing rate of about one half.
"""

from collections.abc import Callable, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import replace
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .gradients import differentiable_once, gate_graph, graph_gradients
from .kernels import OnPath, sparse
from .neurons import Neuron
from .packed import Packed, graph_tensor

if TYPE_CHECKING:
    from .attention import Gate

# Pixels (H', W') of the output that a layer computes, bool; every pixel without an entry. Each thread has its own.
wanted: ContextVar[dict[nn.Module, Tensor]] = ContextVar("wanted", default={})  # noqa: B039  never changed in place

OUTPUTS = 16  # output channels from which on adding up rows of weights is worth it


class SpikeWeights(OnPath):
    """Mixed into a layer of weights, with what it needs to know to skip zeros."""

    takes_spikes = False  # whether the input is spikes, gated or not; set by those who build the network

    def skips_zeros(self, x: Tensor | Packed) -> bool:
        """Whether the layer runs on the kernels for spikes."""
        x = graph_tensor(x)
        fits = x.is_cpu and x.dtype == torch.float32 and x.dim() == (2 if isinstance(self, nn.Linear) else 4)
        return self.takes_bits and fits and x.numel() > 0

    @property
    def takes_bits(self) -> bool:
        """Whether it would do so for spikes on a CPU."""
        if not self.takes_spikes or self.path != "native" or torch.is_autocast_enabled("cpu"):
            return False
        return self.outputs >= OUTPUTS and sparse.suits(self)

    @property
    def outputs(self) -> int:
        """Output channels or features."""
        return self.out_features if isinstance(self, nn.Linear) else self.out_channels

    def forward(self, x: Tensor | Packed, gate: "Gate | None" = None) -> Tensor:
        return self._sparse(x, self.bias, gate)[0] if self.skips_zeros(x) else super().forward(x)

    def without_bias(self, x: Tensor | Packed, gate: "Gate | None" = None) -> Tensor:
        """The output minus the bias. oneDNN takes long for the gradient of the bias of a transposed convolution.

        gate: scales the spikes first, where the layer skips zeros.
        """
        if self.skips_zeros(x):
            return self._sparse(x, None, gate)[0]
        if isinstance(self, nn.Linear):
            return F.linear(x, self.weight)
        where = {name: getattr(self, name) for name in ("stride", "padding", "dilation", "groups")}
        if isinstance(self, nn.ConvTranspose2d):
            return F.conv_transpose2d(x, self.weight, output_padding=self.output_padding, **where)
        return F.conv2d(x, self.weight, **where)

    def recomputable(
        self, x: Tensor | Packed, gate: "Gate | None" = None
    ) -> tuple[Tensor, Callable[[int, int], Tensor] | None]:
        """`without_bias(x, gate)`, and a function (first, last) that computes it again for frames first to last - 1,
        without gradient and with the same bits. None in its place where the layer does not skip zeros."""
        if not self.skips_zeros(x):
            return self.without_bias(x), None
        y, spikes = self._sparse(x, None, gate)
        return y, lambda first, last: sparse.forward(self, spikes.frames(first, last), None)

    def _sparse(
        self, x: Tensor | Packed, bias: Tensor | None, gate: "Gate | None" = None
    ) -> tuple[Tensor, sparse.Spikes]:
        """The output, and the spikes as the kernels see them."""
        x, spikes, *graph = _packed(x, gate)
        return _SpikeWeights.apply(x, self.weight, bias, self, spikes, *graph), spikes

    def fire(
        self,
        x: Tensor | Packed,
        a: Tensor,
        b: Tensor,
        neuron: Neuron,
        w: Tensor | None,
        steps: int,
        gate: "Gate | None",
        as_bits: bool,
    ) -> Tensor:
        """Spikes of the neurons behind the layer for frames x (T * N, ...), without gradient, where it skips zeros: see
        `kernels.sparse.fire`."""
        y = sparse.fire(self, _packed(x, gate)[1], a, b, neuron, steps, w, as_bits)
        return y if as_bits or not isinstance(self, nn.Linear) else y.flatten(1)

    def then(self, x: Tensor | Packed, a: Tensor, b: Tensor, current: Tensor) -> Tensor:
        """a y + b + current of the output y, without gradient, where the layer skips zeros. a, b: (C',). current: of
        fewer frames, it is used in turn."""
        return sparse.forward(self, _spikes(x), self.bias, wanted.get().get(self), (a, b, current))


def _spikes(x: Tensor | Packed) -> sparse.Spikes:
    """Frames x (N, C, H, W) or (N, F) as the kernels see them."""
    if not isinstance(x, Packed):
        return sparse.pack(x)
    n, channels, *sides = x.shape
    return sparse.Spikes(x.bits.view(n, *(sides or (1, 1)), -1), None, channels)


def _packed(x: Tensor | Packed, gate: "Gate | None") -> tuple:
    """x for autograd, and its spikes as the kernels see them; behind a gate with its factors, and then the squeezed
    stream and the gate, (T, N, C), for autograd, and the gate's parameters."""
    spikes, x = _spikes(x), graph_tensor(x)
    if gate is None:
        return x, spikes
    if spikes.values is not None:  # gated already, or no spikes
        return _packed(gate(x.unflatten(0, (gate.time_steps, -1))).flatten(0, 1), None)
    counts = sparse.sums_over_pixels(spikes.bits.flatten(1, 2), spikes.channels)
    z, f = gate_graph(gate, (counts / x[0, 0].numel()).unflatten(0, (gate.time_steps, -1)))
    return x, replace(spikes, values=f.detach().reshape(len(x), 1, 1, -1)), (z, f), *gate.parameters()


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
    """A layer's output for spikes x, (N, C, H, W) or (N, F). With a gate, `spikes` have its factors, and `graph` is the
    squeezed stream and the gate, for autograd."""

    @staticmethod
    def forward(
        ctx,
        x: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        layer: SpikeWeights,
        spikes: sparse.Spikes,
        graph: tuple[Tensor, Tensor] | None = None,
        *parameters: Tensor,
    ) -> Tensor:
        ctx.save_for_backward(weight, spikes.bits, spikes.values)
        ctx.layer, ctx.shape, ctx.graph, ctx.parameters = layer, x.shape, graph, parameters
        y = sparse.forward(layer, spikes, bias, wanted.get().get(layer))
        return y if x.dim() == 4 else y.flatten(1)

    @staticmethod
    @differentiable_once
    def backward(ctx, grad: Tensor):
        weight, bits, values = ctx.saved_tensors
        planes = grad if grad.dim() == 4 else grad[:, :, None, None]
        needs_x, needs_weight, needs_bias, *_ = ctx.needs_input_grad
        gx = gw = gb = None
        gp = [None] * len(ctx.parameters)
        if needs_x or any(ctx.needs_input_grad[6:]):
            gx = _input_gradient(ctx.layer, weight, grad, ctx.shape)
        if gx is not None and ctx.graph is not None:
            gx, *gp = _gate_gradients(gx, bits, *ctx.graph, ctx.parameters, ctx.needs_input_grad[6:])
        if needs_weight:
            gw = sparse.weight_gradient(ctx.layer, sparse.Spikes(bits, values, ctx.shape[1]), planes)
        if needs_bias:
            gb = planes.sum((0, 2, 3))
        return gx, gw, gb, None, None, None, *gp


def _gate_gradients(
    g: Tensor, bits: Tensor, z: Tensor, f: Tensor, parameters: Sequence[Tensor], needed: Sequence[bool]
) -> list[Tensor | None]:
    """Gradients of spikes, in the place of g, and of the gate's parameters. g: the gradient of the gated spikes, (N, C,
    H, W) or (N, F)."""
    rows = g.flatten(2).mT if g.dim() == 4 else g[:, None]  # (N, P, C)
    gf = sparse.sums_over_pixels(bits.flatten(1, 2), rows.shape[2], rows).view_as(f)
    gz, *gp = graph_gradients(f, z, parameters, needed, gf)
    shift, factors = (part.detach().flatten(0, 1)[:, None] for part in (gz / rows.shape[1], f))
    torch.addcmul(shift, rows, factors, out=rows)
    return [g, *gp]


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
