"""Spikes and membranes of single neurons while a model looks at one image, drawn by `spikingjelly.visualizing`.

The kernels keep no membranes. They are computed again from a layer's input, by the plain loop of `nn.neurons`: V_t,
after charging and before the reset.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ..errors import UserError
from ..nn import LIF, SPIKING, Neuron, NormLIF
from ..nn.neurons import charge, fires

LAYERS = 4  # that are drawn, spread over the network
NEURONS = 16  # of a layer, spread over those that fired


@dataclass
class Trace:
    """One layer of neurons and one image. membranes: None for neurons that are not this package's own."""

    layer: str
    spikes: Tensor  # (T, M)
    membranes: Tensor | None  # (T, M)
    neuron: Neuron | None


@torch.no_grad()
def traces(model: nn.Module, use: Callable[[Tensor], object], samples: Tensor) -> list[Trace]:
    """The traces of the first sample in all layers that `use(samples)` calls once, in their order."""
    seen: dict[str, list[Trace]] = {}
    hooks = []
    for name, layer in model.named_modules():
        if isinstance(layer, SPIKING):

            def note(layer, args, kwargs, spikes, name=name):
                trace = _trace(name.removesuffix(".neurons"), layer, args, kwargs, spikes)
                seen.setdefault(name, []).append(trace)

            hooks.append(layer.register_forward_hook(note, with_kwargs=True))
    try:
        use(samples)
    finally:
        for hook in hooks:
            hook.remove()
    return [found[0] for found in seen.values() if len(found) == 1]


def _trace(name: str, layer: nn.Module, args: tuple, kwargs: dict, spikes: Tensor) -> Trace:
    fired = spikes[:, 0].flatten(1).float().cpu()
    if not isinstance(layer, (LIF, NormLIF)):
        return Trace(name, fired, None, None)
    steps = kwargs.get("steps", args[1] if len(args) > 1 else None)
    currents = args[0][:1] if steps else args[0][:, :1]  # of the first sample: (1, C, ...) or (T, 1, C, ...)
    if isinstance(layer, NormLIF):
        a, b = layer.affine(layer.running_mean, layer.running_var)
        shape = (-1, *[1] * (currents.dim() - (2 if steps else 3)))
        currents, steps = layer.gated(a.view(shape) * currents.float() + b.view(shape), steps)
    currents = currents.expand(steps, *currents.shape[1:]) if steps else currents[:, 0]  # (T, C, ...)
    return Trace(name, fired, membranes(currents.float(), layer.neuron).flatten(1).cpu(), layer.neuron)


def membranes(currents: Tensor, neuron: Neuron) -> Tensor:
    """V_t before the reset, for currents (T, ...), from rest."""
    h, seen = torch.full_like(currents[0], neuron.v_reset), []
    for current in currents:
        seen.append(charge(h, current, neuron))
        h = torch.where(fires(seen[-1], neuron), neuron.v_reset, seen[-1])
    return torch.stack(seen)


def chosen(found: list[Trace], most: int = LAYERS) -> list[Trace]:
    """Layers spread evenly from the first to the last, of those with spikes."""
    firing = [trace for trace in found if trace.spikes.any()]
    places = torch.linspace(0, len(firing) - 1, min(most, len(firing))).round().int().tolist()
    return [firing[i] for i in places]


def draw(trace: Trace) -> list:
    """Figures of a trace: the raster, and where membranes are known a map of them and one neuron by itself.

    UserError if SpikingJelly is not installed.
    """
    try:
        from spikingjelly import visualizing
    except ImportError:
        raise UserError('spikingjelly draws them: pip install "tcja_gen[spikingjelly]"') from None

    fired = trace.spikes.any(0).nonzero()[:, 0]
    neurons = fired[torch.linspace(0, len(fired) - 1, min(NEURONS, len(fired))).long()]
    spikes, axes = trace.spikes[:, neurons].numpy(), {"xlabel": "time step", "ylabel": "neuron"}
    size = {"figsize": (4.4, 4.0), "dpi": 100}
    figures = [visualizing.plot_1d_spikes(spikes, f"spikes of {trace.layer}", **axes, **size)[0]]
    if trace.membranes is None:
        return figures
    v, one = trace.membranes[:, neurons].numpy(), len(neurons) // 2
    title, name = f"membranes of {trace.layer}", f"neuron {one} of {trace.layer}"
    figures.append(visualizing.plot_2d_heatmap(v, title, **axes, colorbar_y_label="V", **size)[0])
    levels = {"v_threshold": trace.neuron.v_threshold, "v_reset": trace.neuron.v_reset}
    drawn = visualizing.plot_one_neuron_v_s(v[:, one], spikes[:, one], **levels, title=name, **size)
    figure, above, below = drawn
    above.tick_params(labelbottom=False)  # its ticks are those below
    below.set_xlabel("time step")
    return [*figures, figure]
