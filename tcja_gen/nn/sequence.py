"""Layers one after the other: groups of them that are recomputed, gates that join the next weights, spikes that stay
bits."""

from collections.abc import Sequence
from functools import partial

from torch import Tensor, nn

from .draws import Draws
from .layers import Pool, Residual, SpikingBlock, TemporalDropout, hands_on_bits
from .memory import recomputed
from .nodes import Node
from .normalisation import LIF, NormLIF, ReLU, TDBatchNorm
from .packed import Packed

FIRING = (SpikingBlock, Residual, LIF, Node, ReLU)  # layers behind which a static frame has a time axis


def run_stages(
    stages: Sequence[nn.Module],
    x: Tensor,
    recompute: bool,
    ends_network: bool,
    steps: int | None = None,
    binary: bool = False,
    draws: Draws | None = None,
    following: Sequence[nn.Module] = (),
) -> Tensor | Packed:
    """Output of all stages for a stream (T, N, ...), or for one static frame (N, ...) with `steps` = T.

    recompute: keep only the input of each group of layers for the backward pass. A group ends with neurons, so the next
    one's input is spikes (or an image, or the currents of residual blocks). Groups with dropout are left out, because
    they draw random numbers.
    ends_network: the last group is left out, too, because the backward pass starts there.
    binary: x is spikes, which `recompute` keeps as one byte each. draws: random numbers for dropout.
    following: layers that the output goes to, if it may be bits.
    """
    cut = group_stages(stages)
    for i, group in enumerate(cut):
        last = group[-1]
        drawing = any(isinstance(stage, TemporalDropout) for stage in group)
        behind = [layer for later in cut[i + 1 :] for layer in later] or following
        if not recompute or drawing or ends_network and i == len(cut) - 1:
            x = _run(group, x, steps, draws, behind)
        else:
            x = recomputed(partial(_run, group, steps=steps, following=behind), nn.ModuleList(group), x, binary)
        current = isinstance(last, SpikingBlock) and type(last.neurons) is TDBatchNorm
        steps = steps if current or not isinstance(last, FIRING) else None
        binary = gives_spikes(last)
    return x


def gives_spikes(layer: nn.Module) -> bool:
    """Whether the layer's output is known to be 0 or 1."""
    return isinstance(layer.neurons if isinstance(layer, SpikingBlock) else layer, (NormLIF, LIF))


def mark_dense(stages: Sequence[nn.Module], spikes: bool) -> None:
    """Tells those weights whose input is not spikes. spikes: whether the input of the first stage is."""
    for stage in stages:
        if isinstance(stage, SpikingBlock):
            stage.weights.takes_spikes &= spikes
        spikes = isinstance(stage, FIRING) or spikes and not (isinstance(stage, Pool) and stage.kind != "max")


def group_stages(stages: Sequence[nn.Module]) -> list[list[nn.Module]]:
    """The stages, cut after every layer of neurons and every dropout. Layers after the last cut join the last group."""
    made, rest = [], []
    for stage in stages:
        rest.append(stage)
        if isinstance(stage, (*FIRING, TemporalDropout)):
            made.append(rest)
            rest = []
    if not made:
        return [rest] if rest else []
    made[-1] += rest
    return made


def _run(
    group: list[nn.Module],
    x: Tensor | Packed,
    steps: int | None,
    draws: Draws | None = None,
    following: Sequence[nn.Module] = (),
) -> Tensor | Packed:
    gates = {}  # of the weights that they are part of
    for i, stage in enumerate(group, 1):
        after = group[i] if i < len(group) else None
        if isinstance(after, SpikingBlock) and after.joins(stage, x):
            gates = {"gate": stage}
        elif isinstance(stage, TemporalDropout):
            x = stage(x, steps, draws)
        else:
            options = {"steps": steps} if steps and isinstance(stage, FIRING) else gates
            if hands_on_bits(stage, x, steps or len(x), [*group[i:], *following]):
                options = options | {"as_bits": True}
            x, gates = stage(x, **options), {}
    return x
