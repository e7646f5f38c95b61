"""What the neurons of a model are doing: firing rates and dead neurons, seen during one forward pass."""

from contextlib import contextmanager

from torch import Tensor, nn

from ..nn import SPIKING


@contextmanager
def watch(model: nn.Module):
    """Within, forward passes fill the yielded dict: layer name -> (firing rate, dead share), tensors without gradient.

    The rate is spikes per neuron and time step; dead are the neurons of a layer that fired for no image at no step.
    """
    seen: dict[str, tuple[Tensor, Tensor]] = {}
    hooks = []
    for name, layer in model.named_modules():
        if isinstance(layer, SPIKING):
            hooks.append(layer.register_forward_hook(_record(seen, name.removesuffix(".neurons"))))
    try:
        yield seen
    finally:
        for hook in hooks:
            hook.remove()


def _record(seen: dict, name: str):
    def hook(_, __, spikes: Tensor) -> None:
        spikes = spikes.detach()
        seen[name] = spikes.float().mean(), (spikes.amax((0, 1)) == 0).float().mean()

    return hook


def summary(seen: dict[str, tuple[Tensor, Tensor]]) -> dict:
    """{"rate": mean over layers, "dead": mean over layers, "layers": {name: [rate, dead]}} as plain numbers."""
    layers = {name: [round(rate.item(), 4), round(dead.item(), 4)] for name, (rate, dead) in seen.items()}
    n = max(len(layers), 1)
    return {
        "rate": sum(rate for rate, _ in layers.values()) / n,
        "dead": sum(dead for _, dead in layers.values()) / n,
        "layers": layers,
    }
