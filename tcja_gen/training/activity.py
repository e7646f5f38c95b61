"""Firing rates and dead neurons of a model, measured in a forward pass."""

from contextlib import contextmanager
from functools import partial

from torch import Tensor, nn

from ..nn import SPIKING, NormLIF


@contextmanager
def watch(model: nn.Module):
    """Inside, forward passes fill the yielded dict: layer name -> (firing rate, dead share), tensors without gradient.
    It changes no bit of what the model computes.

    The firing rate is the number of spikes per neuron and time step. A neuron is dead if it fired at no time step for
    any image of the batch (of this process's share, where there are several).
    """
    measured: dict[str, tuple[Tensor, Tensor]] = {}
    hooks, seen = [], []
    for name, layer in model.named_modules():
        record = partial(_record, measured, name.removesuffix(".neurons"))
        if isinstance(layer, NormLIF):
            layer.seen_by = record
            seen.append(layer)
        elif isinstance(layer, SPIKING):
            hooks.append(layer.register_forward_hook(lambda _, __, spikes, record=record: record(spikes)))
    try:
        yield measured
    finally:
        for layer in seen:
            del layer.seen_by
        for hook in hooks:
            hook.remove()


def _record(measured: dict, name: str, spikes: Tensor) -> None:
    spikes = spikes.detach()
    measured[name] = spikes.float().mean(), (spikes.amax((0, 1)) == 0).float().mean()


def summary(measured: dict[str, tuple[Tensor, Tensor]]) -> dict:
    """{"rate": mean over layers, "dead": mean over layers, "layers": {name: [rate, dead]}} as Python numbers."""
    layers = {name: [round(rate.item(), 4), round(dead.item(), 4)] for name, (rate, dead) in measured.items()}
    n = max(len(layers), 1)
    return {
        "rate": sum(rate for rate, _ in layers.values()) / n,
        "dead": sum(dead for _, dead in layers.values()) / n,
        "layers": layers,
    }
