"""Spiking layers: blocks of weights, threshold-dependent batch norm (tdBN) and neurons.

A block maps spikes (T, N, ...) to spikes (T, N, ...); its weights see time folded into the batch. A static image
(N, ...) passes the weights once and gets its time axis at the neurons. Weights have a bias although a normalisation
follows, as in FSVAE, so that parameter counts can be compared.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..errors import UserError
from ..registry import NEURONS
from .attention import Gate
from .currents import CurrentGate
from .draws import Draws
from .neurons import PRESETS, Neuron
from .nodes import PREFIX, Node, NodeNeuron, NormNode, spikingjelly_neuron
from .normalisation import LIF, NormLIF, NormReLU, ReLU, TDBatchNorm
from .packed import Packed, graph_tensor, stand_in
from .pooling import max_pool
from .sparse import Conv2d, ConvTranspose2d, Linear, SpikeWeights, wanted


class SpikingBlock(nn.Module):
    """`weights`, then `neurons`: tdBN and LIF, LIF alone, or ReLU in an ANN. The input is a stream (T, N, ...), or one
    static frame (N, ...) with `steps` = T."""

    def __init__(self, weights: nn.Module, neurons: nn.Module):
        super().__init__()
        self.weights, self.neurons = weights, neurons

    def forward(
        self, x: Tensor | Packed, steps: int | None = None, gate: Gate | None = None, as_bits: bool = False
    ) -> Tensor | Packed:
        """gate: of the spikes x, see `joins`. as_bits: whether the output stays bits, see `hands_on_bits`."""
        if not steps and self._fires_at_once(x):
            return self._fire(x, gate, as_bits=as_bits)
        y, options = self._currents(x if steps else x.flatten(0, 1), gate)  # (T*N, ...)
        options |= {"as_bits": True} if as_bits else {}
        return self.neurons(y if steps else y.view(*x.shape[:2], *y.shape[1:]), steps, **options)

    def weighted_sum(
        self, x: Tensor | Packed, w: Tensor, gate: Gate | None = None, behind: Gate | None = None
    ) -> Tensor:
        """Sum over time of w_t times the spikes, (N, ...), which are not written to memory. x: (T, N, ...).

        gate: of the spikes x, see `joins`. behind: a gate of the spikes that are summed up, see `NormLIF.weighted_sum`.
        """
        if behind is None and self._fires_at_once(x):
            return self._fire(x, gate, w)
        frames, options = x.flatten(0, 1), {}
        if self.training:
            y, again = self.weights.recomputable(frames, gate)
            options = {"offset": self.weights.bias, "again": again}
        else:
            y = self.weights(frames, gate)
        return self.neurons.weighted_sum(y.view(*x.shape[:2], *y.shape[1:]), w, gate=behind, **options)

    def _fires_at_once(self, x: Tensor | Packed) -> bool:
        """Whether weights and neurons are one pass over a stream x (T, N, ...), which writes no currents."""
        plain = type(self.neurons) is NormLIF and self.gate is None and self.weights not in wanted.get()
        return plain and self.neurons.seen_by is None and self._may_join(x)

    def _fire(
        self, x: Tensor | Packed, gate: Gate | None, w: Tensor | None = None, as_bits: bool = False
    ) -> Tensor | Packed:
        """The spikes (T, N, ...), or with w (T,) the sum over time of w_t times them, (N, ...)."""
        a, b = self.neurons.affine(self.neurons.running_mean, self.neurons.running_var)
        fired = self.weights.fire(x.flatten(0, 1), a, b, self.neurons.neuron, w, len(x), gate, as_bits)
        if w is not None:
            return fired
        if not as_bits:
            return fired.unflatten(0, x.shape[:2])
        sides = [] if isinstance(self.weights, nn.Linear) else fired.shape[1:3]
        return Packed(stand_in(a, *x.shape[:2], len(a), *sides), fired)

    def _may_join(self, x: Tensor | Packed) -> bool:
        """Whether weights and what follows may be one pass over a stream x (T, N, ...): no gradient is wanted, and
        nobody looks in between."""
        apart = self.training or torch.is_grad_enabled() or is_watched(self, self.weights, self.neurons)
        return not apart and self.weights.skips_zeros(x.flatten(0, 1))

    def joins(self, gate: nn.Module, x: Tensor | Packed) -> bool:
        """Whether the gate of spikes x (T, N, ...) can be part of the weights, which then take spikes that are not
        gated. Not if anything watches them, nor if the gate is of other streams, which it then tells."""
        return self.suits(gate, len(x), x.shape[2]) and self.weights.skips_zeros(x.flatten(0, 1))

    def suits(self, gate: nn.Module, steps: int, channels: int) -> bool:
        """`joins` for spikes of which only T and C are known, if the weights skip zeros."""
        if not isinstance(gate, Gate) or is_watched(gate, self, self.weights):
            return False
        return (gate.time_steps, gate.channels) == (steps, channels)

    def _currents(self, frames: Tensor | Packed, gate: Gate | None = None) -> tuple[Tensor, dict[str, Tensor]]:
        """Output of the weights, and what the neurons must know about it."""
        options = {} if gate is None else {"gate": gate}
        if self.training and isinstance(self.neurons, TDBatchNorm):
            return self.weights.without_bias(frames, **options), {"offset": self.weights.bias}
        return self.weights(frames, **options), {}

    def onto(self, current: Tensor, x: Tensor | Packed) -> Tensor:
        """forward(x) + current, for a convolution without neurons. current: (T, N, ...), or (N, ...) for every step."""
        if not self._may_join(x):
            return self(x) + current
        a, b = self.neurons.affine(self.neurons.running_mean, self.neurons.running_var)
        return self.weights.then(x.flatten(0, 1), a, b, current.flatten(0, -4)).unflatten(0, x.shape[:2])

    @property
    def gate(self) -> CurrentGate | None:
        """The gate between normalisation and neurons."""
        return getattr(self.neurons, "gate", None)

    def gate_currents(self, gate: CurrentGate) -> bool:
        """Puts a gate between normalisation and neurons. False if there is no such place, or one stands there."""
        if not isinstance(self.neurons, (NormLIF, NormNode, NormReLU)) or self.gate is not None:
            return False
        self.neurons.gate = gate
        return True

    def step(self, x: Tensor, v: Tensor | None) -> tuple[Tensor, Tensor]:
        """One time step: x (N, ...) and the membrane v (None: at rest) -> spikes (N, ...) and the new membrane."""
        return self.neurons.step(self.weights(x), v)


def hands_on_bits(layer: nn.Module, x: Tensor | Packed, steps: int, following: Sequence[nn.Module]) -> bool:
    """Whether spikes that a layer fires for x stay bits, because what follows takes them: a layer that skips silent
    ones, alone or behind a gate that it joins. Not if anything watches them."""
    neurons = layer.neurons if isinstance(layer, SpikingBlock) else layer
    x = graph_tensor(x)
    if not isinstance(neurons, (NormLIF, LIF)) or neurons.path != "native" or x.dtype != torch.float32:
        return False
    gate = following[0] if following and isinstance(following[0], Gate) else None
    block = next(iter(following[gate is not None :]), None)
    if not isinstance(block, SpikingBlock) or not block.weights.takes_bits or not x.numel():
        return False
    outputs = layer.weights.outputs if isinstance(layer, SpikingBlock) else x.shape[2]  # behind a residual block
    if gate is not None and not block.suits(gate, steps, outputs):
        return False
    return getattr(neurons, "seen_by", None) is None and not is_watched(layer, neurons, block, block.weights)


def is_watched(*modules: nn.Module) -> bool:
    """Whether a hook of one of these modules wants to see its passes, so that they may not be joined with others."""
    return any(module._forward_hooks or module._forward_pre_hooks for module in modules)


@dataclass(frozen=True)
class Build:
    """Settings that all layers of one network share.

    neuron: LIF settings, modules of neurons (`nodes`), or None for an ANN with ReLU. normalisation: "tdbn" scales by
    the neuron's gain; "bn" is plain batch normalisation behind convolutions and none behind linear layers, as in the
    classifiers of the TCJA paper; an ANN has no other. bias: of convolutions and linear layers.
    """

    neuron: Neuron | NodeNeuron | None = PRESETS["tcja"]
    normalisation: str = "tdbn"
    bias: bool = True

    def __post_init__(self):
        if self.normalisation not in ("tdbn", "bn"):
            raise UserError(f"unknown normalisation {self.normalisation!r}; known: tdbn, bn")

    @property
    def plain(self) -> bool:
        return self.normalisation == "bn" or self.neuron is None

    def neurons(self, features: int, alpha: float = 1.0) -> NormLIF | NormNode | NormReLU:
        if self.neuron is None:
            return NormReLU(features)
        layer = NormNode if isinstance(self.neuron, NodeNeuron) else NormLIF
        return layer(features, self.neuron, 1 / self.neuron.gain if self.plain else alpha)

    def norm(self, features: int) -> TDBatchNorm:
        return TDBatchNorm(features, 1.0 if self.plain else self.neuron.gain)

    def fire(self) -> LIF | Node | ReLU:
        if self.neuron is None:
            return ReLU()
        return Node(self.neuron) if isinstance(self.neuron, NodeNeuron) else LIF(self.neuron)


def neuron_named(name: str, surrogate: str | None = None) -> Neuron | NodeNeuron | None:
    """The neuron of a setting: None for "relu", SpikingJelly's for "spikingjelly:Class(...)", else a registered one.

    surrogate: replaces the neuron's own, with the sharpness of `SURROGATES`. UserError for modules, which keep theirs.
    """
    if name == "relu":
        neuron = None
    elif name.startswith(PREFIX):
        neuron = spikingjelly_neuron(name)
    elif name in NEURONS:
        neuron = NEURONS[name]()
    else:
        known = ", ".join(NEURONS)
        raise UserError(
            f"unknown neuron {name!r}; known: {known}, relu, {PREFIX}LIFNode; --plugin FILE adds those of a file"
        )
    if name != "relu" and not isinstance(neuron, (Neuron, NodeNeuron, nn.Module)):
        raise UserError(
            f"neuron {name!r}: its function gives a {type(neuron).__name__}; a Neuron or a module is wanted"
        )
    if isinstance(neuron, nn.Module):
        neuron = NodeNeuron(name, NEURONS[name])
    if surrogate and not isinstance(neuron, Neuron):
        raise UserError(f"surrogate {surrogate!r}: neuron {name!r} has no surrogate gradient that can be exchanged")
    return Neuron.preset(name, surrogate=surrogate) if surrogate else neuron


def conv_block(in_channels: int, channels: int, kernel: int, stride: int, build: Build) -> SpikingBlock:
    """Convolution padded by kernel // 2: an odd kernel makes ceil(size / stride) of a size."""
    return SpikingBlock(_conv(in_channels, channels, kernel, stride, build), build.neurons(channels))


def transposed_block(
    in_channels: int, channels: int, kernel: int, stride: int, in_size: int, out_size: int, build: Build
) -> SpikingBlock:
    """Transposed convolution from `in_size` to `out_size` pixels a side. UserError if its stride cannot reach that."""
    padding = (kernel - 1) // 2
    extra = out_size - ((in_size - 1) * stride - 2 * padding + kernel)  # output_padding
    if not 0 <= extra < stride:
        raise UserError(f"{channels}T{kernel}s{stride} cannot make {out_size} pixels a side of {in_size}")
    conv = ConvTranspose2d(in_channels, channels, kernel, stride, padding, output_padding=extra, bias=build.bias)
    return SpikingBlock(_for_spikes(conv, build), build.neurons(channels))


def linear_block(in_features: int, features: int, build: Build, alpha: float = 1.0) -> SpikingBlock:
    neurons = build.fire() if build.plain else build.neurons(features, alpha)
    return SpikingBlock(_for_spikes(Linear(in_features, features, bias=build.bias), build), neurons)


def _conv(in_channels: int, channels: int, kernel: int, stride: int, build: Build) -> Conv2d:
    return _for_spikes(Conv2d(in_channels, channels, kernel, stride, kernel // 2, bias=build.bias), build)


def _for_spikes(weights: SpikeWeights, build: Build) -> SpikeWeights:
    weights.takes_spikes = build.neuron is not None
    return weights


class Residual(nn.Module):
    """Block of a spiking residual network whose identity path carries currents (MS-ResNet, Hu et al., TNNLS 2024).

        y = shortcut(x) + norm(conv(attention(neurons(norm(conv(neurons(x)))))))

    Currents (T, N, C, H, W), or one static frame (N, C, H, W) with `steps` = T, -> currents (T, N, C', H', W'). The
    attention sees the spikes of the first convolution; a gate of currents stands before them, between the inner norm
    and neurons. Where size or channels change, the shortcut is a 1 x 1 convolution and tdBN.
    """

    def __init__(
        self, in_channels: int, channels: int, kernel: int, stride: int, attention: nn.Module | None, build: Build
    ):
        super().__init__()
        self.fire = build.fire()
        self.first = conv_block(in_channels, channels, kernel, stride, build)
        gates_currents = isinstance(attention, CurrentGate) and self.first.gate_currents(attention)
        self.attention = None if gates_currents else attention
        self.second = SpikingBlock(_conv(channels, channels, kernel, 1, build), build.norm(channels))
        same = stride == 1 and in_channels == channels
        shortcut = None if same else Conv2d(in_channels, channels, 1, stride, bias=build.bias)  # sees currents
        self.shortcut = shortcut and SpikingBlock(shortcut, build.norm(channels))

    def forward(self, x: Tensor, steps: int | None = None) -> Tensor:
        y = _handing_on(self.fire, x, steps, self.first)
        y = _handing_on(self.first, y, None, self.second if self.attention is None else None)
        if self.attention is not None:
            y = self.attention(y)
        identity = x if self.shortcut is None else self.shortcut(x, steps)  # a static frame is added at every step
        return self.second.onto(identity, y)


def _handing_on(layer: nn.Module, x: Tensor | Packed, steps: int | None, after: nn.Module | None) -> Tensor | Packed:
    """Output of a layer of neurons, as bits if the layer after it takes them."""
    as_bits = after is not None and hands_on_bits(layer, x, steps or len(x), [after])
    return layer(x, steps, as_bits=True) if as_bits else layer(x, steps)


class Flatten(nn.Module):
    """(T, N, C, H, W) -> (T, N, C*H*W)."""

    def forward(self, x: Tensor) -> Tensor:
        return x.flatten(-3)


class Pool(nn.Module):
    """Pooling of (T, N, C, H, W) or (N, C, H, W): "max" or "average" over size x size pixels, or an "adaptive" average
    to size x size pixels."""

    def __init__(self, kind: str, size: int):
        super().__init__()
        self.kind, self.size = kind, size

    def forward(self, x: Tensor) -> Tensor:
        pool = {"max": max_pool, "average": F.avg_pool2d, "adaptive": F.adaptive_avg_pool2d}[self.kind]
        planes = x.flatten(0, -4)
        y = pool(planes, self.size)
        return y.view(*x.shape[:-3], *y.shape[-3:])


class Upsample(nn.Module):
    """Repeats every pixel of (T, N, C, H, W) `factor` times in each direction, so that spikes stay spikes."""

    def __init__(self, factor: int):
        super().__init__()
        self.factor = factor

    def forward(self, x: Tensor) -> Tensor:
        y = F.interpolate(x.flatten(0, 1), scale_factor=self.factor)
        return y.view(*x.shape[:2], *y.shape[1:])


class TemporalDropout(nn.Module):
    """Dropout with the same mask (N, ...) at every time step: a neuron's spikes are kept or dropped for all steps.

    Input (T, N, ...), or one static frame (N, ...) with `steps` = T. The mask is drawn from the stream "dropout" of
    `draws`, or from torch's global generator if there are none.
    """

    def __init__(self, p: float):
        super().__init__()
        self.p = p

    def forward(self, x: Tensor, steps: int | None = None, draws: Draws | None = None) -> Tensor:
        if not self.training:
            return x
        n, *shape = x.shape if steps else x.shape[1:]
        u = draws.stream("dropout").uniform(*shape) if draws is not None else torch.rand(n, *shape, device=x.device)
        return x * ((u >= self.p) / (1 - self.p)).to(x.dtype)

    def extra_repr(self) -> str:
        return f"p={self.p:g}"


class Voting(nn.Module):
    """Mean over groups of `size` features, (T, N, size * K) -> (T, N, K): `size` voters for each class."""

    def __init__(self, size: int):
        super().__init__()
        self.size = size

    def forward(self, x: Tensor) -> Tensor:
        return x.unflatten(-1, (-1, self.size)).mean(-1)
