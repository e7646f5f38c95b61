"""Firing rates and dead neurons of a model, measured in a forward pass."""

from contextlib import contextmanager

from torch import Tensor, nn

from ..nn import SPIKING


@contextmanager
def watch(model: nn.Module):
    """Inside, forward passes fill the yielded dict: layer name -> (firing rate, dead share), tensors without gradient.

    The firing rate is the number of spikes per neuron and time step. A neuron is dead if it fired at no time step for
    any image of the batch.
    """
    measured: dict[str, tuple[Tensor, Tensor]] = {}
    hooks = []
    for name, layer in model.named_modules():
        if isinstance(layer, SPIKING):
            hooks.append(layer.register_forward_hook(_record(measured, name.removesuffix(".neurons"))))
    try:
        yield measured
    finally:
        for hook in hooks:
            hook.remove()


def _record(measured: dict, name: str):
    def hook(_, __, spikes: Tensor) -> None:
        spikes = spikes.detach()
        measured[name] = spikes.float().mean(), (spikes.amax((0, 1)) == 0).float().mean()

    return hook


def summary(measured: dict[str, tuple[Tensor, Tensor]]) -> dict:
    """{"rate": mean over layers, "dead": mean over layers, "layers": {name: [rate, dead]}} as Python numbers."""
    layers = {name: [round(rate.item(), 4), round(dead.item(), 4)] for name, (rate, dead) in measured.items()}
    n = max(len(layers), 1)
    return {
        "rate": sum(rate for rate, _ in layers.values()) / n,
        "dead": sum(dead for _, dead in layers.values()) / n,
        "layers": layers,
    }
