"""The operations of a pass, counted layer by layer.

Forward hooks count every call of every layer: the first convolution runs once on a static image, the decoder's last one
once on the sum over time, the prior's layers once in each step.

weights     One operation for each pair of a non-zero input and a weight that it is multiplied with, counted exactly: a
            tap outside of the output is not counted. An addition (AC) if all inputs of the call are 0 or 1, else a
            multiplication with addition (MAC): gated spikes, images, averages and sums over time are not spikes.
            "dense" is the same count with every input non-zero; it has no padding either.
attention   Dense, on a stream (T, C, H, W): T C H W products and the MACs of its own layers (TCJA: T C (k_time C +
            k_channel T), zero padding included), T C for sigmoids and T C for the fusion of TCJA's two branches,
            all as MACs; T C H W additions of the squeeze as ACs. A gate of currents costs the same before the neurons,
            and what follows them still adds: its input is spikes. Gains (TSM, CSM) have neither squeeze nor scores,
            and one for each channel is part of the normalisation.
neurons     One MAC for each neuron and step, the leak, whatever the neuron is. Batch norm is an affine map
            that folds into weights and bias.
readout     The decoder's weighted sum over time: one operation for each non-zero input, AC for spikes, MAC for gated
            ones. A readout with a gate has such a sum for each channel of the image, another for the channel's mean
            current at each step, and its gate, counted as attention. The last layer runs on each sum for its channel.

"folded" is another count of the same pass, on hardware that does not multiply the stream. A gate on spikes multiplies
the weights behind it: one MAC for each weight in each step, where that is cheaper. That layer then adds again, and the
product of a spike and a gate is the gate itself; a readout takes one product for each step and channel. A positive gate
of currents is part of the leak and the threshold of its neurons (`nn/currents.py`): two MACs for each channel and step.
Any other one multiplies the weights of its own layer. A gain for each time step is known beforehand.

Not counted: biases, pooling, additions of residual paths, random draws, and memory traffic, which on real hardware
costs more than arithmetic.
"""

from collections.abc import Callable
from contextlib import contextmanager
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..errors import UserError
from ..nn import (
    ATTENTION,
    SE,
    SPIKING,
    TCJA,
    ChannelGain,
    CurrentGate,
    CurrentTCJA,
    CurrentTCJANormed,
    FrameReadout,
    Gate,
    GatedReadout,
    NormLIF,
    Readout,
    SpikingBlock,
    TimeGain,
)
from ..nn.sparse import dense

MAC_PJ, AC_PJ = 4.6, 0.9  # of one operation
WEIGHTS = {nn.Conv2d: "convolution", nn.ConvTranspose2d: "transposed", nn.Linear: "linear"}


@dataclass
class Row:
    """Operations of one layer, per sample. For neurons, `inputs` is neurons times steps and `nonzero` their spikes."""

    layer: str
    kind: str  # convolution, transposed, linear, attention, neurons or readout
    frames: float = 0  # that it ran on, per sample: T, or 1 for a static image
    inputs: float = 0
    nonzero: float = 0
    binary: bool = True  # whether all inputs of all calls were 0 or 1
    dense: float = 0  # MACs if every input were non-zero
    mac: float = 0
    ac: float = 0
    passes: float = 1  # that its ANN twin makes, which has no time steps
    folded_mac: float = 0  # MACs and ACs that are more where gates are folded; negative: fewer
    folded_ac: float = 0

    @property
    def rate(self) -> float:
        """Share of the inputs that are not zero; the firing rate of neurons."""
        return self.nonzero / max(self.inputs, 1)

    @property
    def energy(self) -> float:
        """In pJ."""
        return MAC_PJ * self.mac + AC_PJ * self.ac

    @property
    def folded(self) -> float:
        """In pJ, with gates folded."""
        return self.energy + MAC_PJ * self.folded_mac + AC_PJ * self.folded_ac

    def add_inputs(self, x: Tensor, frames: int) -> bool:
        """Count the inputs x of one call; returns whether they are binary."""
        binary = is_binary(x)
        self.frames += frames
        self.inputs += x.numel()
        self.nonzero += int(x.count_nonzero())
        self.binary &= binary
        return binary

    def add_operations(self, operations: int, binary: bool) -> None:
        """Count operations as ACs if the inputs are binary, else as MACs."""
        self.mac += 0 if binary else operations
        self.ac += operations if binary else 0

    def fold(self, mac: int, ac: int = 0) -> None:
        """Count MACs and ACs that folding a gate would add, if that saves energy."""
        if MAC_PJ * mac + AC_PJ * ac < 0:
            self.folded_mac += mac
            self.folded_ac += ac

    def per_sample(self, n: int) -> "Row":
        """The row of a pass of n samples as a mean."""
        counts = ("frames", "inputs", "nonzero", "dense", "mac", "ac", "folded_mac", "folded_ac")
        return replace(self, **{name: getattr(self, name) / n for name in counts})


@contextmanager
def watched(model: nn.Module):
    """Inside, passes fill the dict of rows that is yielded, by layer and kind."""
    foreign = tuple(ATTENTION[word] for word in ATTENTION.from_plugins())
    if unknown := [type(layer).__name__ for layer in model.modules() if isinstance(layer, foreign)]:
        raise UserError(f"energy: the operations of {unknown[0]}, the attention of a plugin, are not known")
    rows: dict[tuple[str, str], Row] = {}
    hooks, stepped = [], []
    gated = {part for gate in model.modules() if isinstance(gate, (Gate, CurrentGate)) for part in gate.modules()}
    for name, layer in model.named_modules():
        if hook := _hook(rows, name, layer, layer in gated):
            hooks.append(layer.register_forward_hook(hook))
        if hasattr(layer, "step") and isinstance(layer, SPIKING):  # the latent's nets call `step`, which no hook sees
            layer.step = _stepping(layer.step, hook)
            stepped.append(layer)
    try:
        with dense(model):
            yield rows
    finally:
        for hook in hooks:
            hook.remove()
        for layer in stepped:
            del layer.step


def _hook(rows: dict, name: str, layer: nn.Module, gated: bool) -> Callable | None:
    """Forward hook that counts the calls of a layer; None for one that costs nothing or is part of a gate."""
    if isinstance(layer, SpikingBlock) and layer.gate is not None:
        return _counting(rows, _current_gate, "attention", name)
    if isinstance(layer, Gate):
        return _counting(rows, _attention, "attention", name)
    if not gated and (kinds := [kind for made, kind in WEIGHTS.items() if isinstance(layer, made)]):
        return _counting(rows, _weights, kinds[0], name.removesuffix(".weights"))
    if isinstance(layer, SPIKING):
        return _counting(rows, _neurons, "neurons", name.removesuffix(".neurons"))
    if isinstance(layer, GatedReadout):
        return _gated_readout(rows, name)
    if isinstance(layer, FrameReadout):
        return _counting(rows, _frame_readout, "readout", name)
    return _counting(rows, _readout, "readout", name) if isinstance(layer, Readout) else None


def _counting(rows: dict, add: Callable, kind: str, name: str) -> Callable:
    """Hook that calls `add(row, layer, input, output)` with the row of a layer, which is made on its first call."""

    def hook(layer: nn.Module | None, args: tuple, output: Tensor) -> None:
        add(rows.setdefault((name, kind), Row(name, kind)), layer, args[0], output)

    return hook


def _stepping(step: Callable, hook: Callable) -> Callable:
    """`NormLIF.step` that also calls the hook with its spikes, as a stream of one step."""

    def stepping(x: Tensor, v: Tensor | None) -> tuple[Tensor, Tensor]:
        spikes, v = step(x, v)
        hook(None, (x,), spikes[None])
        return spikes, v

    return stepping


def _weights(row: Row, layer: nn.Module, x: Tensor, _: Tensor) -> None:
    """x (..., C, H, W), or (..., F) of a linear layer."""
    x = x.reshape(-1, *x.shape[-1 if isinstance(layer, nn.Linear) else -3 :])
    operations, binary = products(layer, x), row.add_inputs(x, len(x))
    row.add_operations(operations, binary)
    if not binary and x.dim() == 4 and are_gated_spikes(x):
        row.fold(layer.weight.numel() * len(x) - operations, operations)
    row.dense += products(layer, torch.ones_like(x[:1])) * len(x)


def _attention(row: Row, gate: Gate, x: Tensor, _: Tensor) -> None:
    """x (T, N, C, H, W) or (T, N, C), which has no squeeze."""
    t, n = x.shape[:2]
    if row.add_inputs(x, t * n):
        row.fold(-x.numel())
    macs = x.numel() + n * _scores(gate)
    row.mac += macs
    row.dense += macs
    row.ac += x.numel() if x.dim() == 5 else 0


def _current_gate(row: Row, block: SpikingBlock, x: Tensor, spikes: Tensor) -> None:
    """x (T, N, ...) or a static frame (N, ...); spikes (T, N, C, ...), as many as there are currents."""
    gate, (t, n), stream = block.gate, spikes.shape[:2], spikes.numel()
    row.frames, row.inputs, row.nonzero, row.binary = (
        row.frames + t * n,
        row.inputs + stream,
        row.nonzero + stream,
        False,
    )
    if isinstance(gate, ChannelGain):
        return  # part of the normalisation
    known = isinstance(gate, TimeGain)
    macs = stream + (0 if known else n * _scores(gate))
    row.mac += macs
    row.dense += macs
    if not known and spikes.dim() == 5:
        row.ac += stream // t if x.dim() == 4 else stream  # the squeeze, once of a static frame
    if known:
        row.fold(-stream)
    elif gate.is_positive and isinstance(block.neurons, NormLIF) and block.neurons.neuron.v_reset == 0:
        row.fold(2 * t * n * gate.channels - stream)
    else:
        row.fold(block.weights.weight.numel() * t * n - stream)


def _scores(gate: Gate | CurrentGate) -> int:
    """MACs per sample from the means of the planes to the gate: every weight of its layers as often as it is used, also
    on padding, the sigmoids, and the fusion of two branches."""
    t, c = gate.time_steps, gate.channels
    often = {"tla": t, "cla": c, "conv": t * c, "fc": 1, "mlp": t if isinstance(gate, SE) else 1, "amplitude": t * c}
    layers = sum(weight.numel() * often[name.split(".")[0]] for name, weight in gate.state_dict().items())
    norms = 4 * t * c if isinstance(gate, CurrentTCJANormed) else 0  # squares and products of both branches
    return layers + norms + t * c * (2 if isinstance(gate, (TCJA, CurrentTCJA)) else 1)


def _neurons(row: Row, _, __, spikes: Tensor) -> None:
    """spikes (T, N, ...)."""
    row.add_inputs(spikes, spikes.shape[0] * spikes.shape[1])
    row.mac += spikes.numel()


def _readout(row: Row, _, x: Tensor, __) -> None:
    """x (T, N, C, H, W)."""
    operations, binary = int(x.count_nonzero()), row.add_inputs(x, x.shape[0] * x.shape[1])
    row.add_operations(operations, binary)
    if not binary and are_gated_spikes(x):
        row.fold(x.shape[:3].numel() - operations, operations)
    row.dense += x.numel()


def _frame_readout(row: Row, _, __, frames: Tensor) -> None:
    """frames (T, N, C, H, W), each a sum of T currents of its size."""
    row.mac += len(frames) * frames.numel()
    row.dense += len(frames) * frames.numel()


def _gated_readout(rows: dict, name: str) -> Callable:
    """Hook that counts a readout with a gate, and the decoder's last layer, which it runs without calling it."""
    last = name.removesuffix("readout") + "last"

    def hook(readout: GatedReadout, args: tuple, _) -> None:
        x, layer = args  # x (T, N, C, H, W)
        read = rows.setdefault((name, "readout"), Row(name, "readout"))
        sums = 2 * layer.out_channels  # for each channel its mean currents, and its image
        read.add_operations(sums * int(x.count_nonzero()), read.add_inputs(x, x.shape[0] * x.shape[1]))
        read.mac += x.shape[1] * _scores(readout.gate)
        read.dense += sums * x.numel() + x.shape[1] * _scores(readout.gate)
        row = rows.setdefault((last, WEIGHTS[type(layer)]), Row(last, WEIGHTS[type(layer)]))
        total = (x != 0).any(0)  # where a sum over time is not zero
        row.add_inputs(total, len(total))
        row.binary = False
        row.mac += products(layer, total)
        row.dense += products(layer, torch.ones_like(total[:1])) * len(total)

    return hook


def products(layer: nn.Module, mask: Tensor) -> int:
    """Pairs of a non-zero input and a weight that it is multiplied with.

    mask: the inputs `(N, C, H, W)`, or `(N, F)` of a linear layer
    """
    if isinstance(layer, nn.Linear):
        return int(mask.count_nonzero()) * layer.out_features
    if layer.padding_mode != "zeros":
        raise UserError(f"operations of a convolution padded by {layer.padding_mode!r} are not counted, only zeros")
    counts = (mask != 0).sum((0, 1), dtype=torch.float64)[None, None]  # all channels have the same fan-out
    ones = torch.ones(1, 1, *layer.kernel_size, dtype=torch.float64, device=mask.device)
    where = {"stride": layer.stride, "padding": layer.padding, "dilation": layer.dilation}
    if isinstance(layer, nn.ConvTranspose2d):
        met = F.conv_transpose2d(counts, ones, output_padding=layer.output_padding, **where)
    else:
        met = F.conv2d(counts, ones, **where)
    return round(met.sum().item()) * layer.out_channels // layer.groups


def is_binary(x: Tensor) -> bool:
    return bool(((x == 0) | (x == 1)).all())


def are_gated_spikes(x: Tensor) -> bool:
    """Whether each plane of x (..., H, W) with pixels is 0 and one other number: spikes times a gate."""
    return x.shape[-1] * x.shape[-2] > 1 and bool(((x == 0) | (x == x.amax((-2, -1), keepdim=True))).all())
