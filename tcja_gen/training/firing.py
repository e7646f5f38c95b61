"""A cost of spikes, by which a network learns to fire less, and an image takes less energy.

    loss + weight * rate        rate: spikes per neuron and time step, the mean over the layers of neurons

as in Sorbaro et al., "Optimizing the energy consumption of spiking neural networks for neuromorphic applications"
(Frontiers in Neuroscience 2020), who count a spike by the weights that it meets. Layers that are not trained are free.

The gradient of the rate is the same number for every spike of a layer. The neurons' backward pass adds it, in float32:
spikes may stay bits or be computed again, and half precision does not round away what is small beside the loss's
gradient.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ..errors import UserError
from ..nn import LIF, SPIKING, NormLIF
from ..nn.kernels import sparse
from ..nn.packed import Packed
from ..ranges import check_ranges, setting


@dataclass(frozen=True)
class Firing:
    """Settings of `FiringCost`."""

    weight: float = setting(0.01, above=0)
    """Weight of the mean firing rate in the loss."""

    def __post_init__(self):
        check_ranges(self, "objective.firing.")


class FiringCost:
    """Attached to a model, it adds the cost of its spikes to the gradients of each training pass. UserError if no layer
    that is trained fires."""

    def __init__(self, settings: Firing, model: nn.Module):
        self.weight = settings.weight
        self.rates: dict[str, Tensor] = {}  # of each layer in the last pass
        frozen = [part for part in model.modules() if _is_frozen(part)]
        free = {layer for part in frozen for layer in part.modules()}
        charged = {n: layer for n, layer in model.named_modules() if isinstance(layer, SPIKING) and layer not in free}
        if not charged:
            raise UserError("objective.firing has no meaning here: no neurons are trained that could fire less")
        for name, layer in charged.items():
            charge = _Charge(self, name)
            if isinstance(layer, (NormLIF, LIF)):
                layer.charge = charge
            else:
                layer.register_forward_pre_hook(_in_float32)
                layer.register_forward_hook(charge.after)

    def added(self, losses: dict[str, Tensor]) -> dict[str, Tensor]:
        """The losses of a pass with its cost, which is part of "loss" and has the name "firing"."""
        cost = self.weight * torch.stack([*self.rates.values()]).mean()
        return {**losses, "loss": losses["loss"] + cost, "firing": cost}


@dataclass
class _Charge:
    """The cost of the spikes of one layer, a `nn.neurons.Charge`."""

    cost: FiringCost
    name: str

    def note(self, spikes: Tensor | Packed) -> None:
        self.cost.rates[self.name] = _rate(spikes)

    def __call__(self, n: int) -> float:
        return self.cost.weight / (len(self.cost.rates) * n)

    def after(self, layer: nn.Module, _: tuple, spikes: Tensor) -> Tensor:
        """Forward hook of a layer whose backward pass is PyTorch's own. Its spikes have the dtype of a stream again."""
        if not layer.training:
            return spikes
        self.note(spikes)
        spikes, kind = _Charged.apply(spikes, self), spikes.device.type
        return spikes.to(torch.get_autocast_dtype(kind)) if torch.is_autocast_enabled(kind) else spikes


class _Charged(torch.autograd.Function):
    """The identity, whose backward pass adds the cost."""

    @staticmethod
    def forward(ctx, spikes: Tensor, charge: _Charge) -> Tensor:
        ctx.charge = charge
        return spikes.view_as(spikes)

    @staticmethod
    def backward(ctx, grad: Tensor) -> tuple[Tensor, None]:
        return grad + ctx.charge(grad.numel()), None


def _in_float32(layer: nn.Module, args: tuple) -> tuple:
    return (args[0].float(), *args[1:]) if layer.training else args


def _rate(spikes: Tensor | Packed) -> Tensor:
    """Spikes per neuron and time step of a stream (T, N, C, ...), without gradient."""
    if not isinstance(spikes, Packed):
        return spikes.detach().float().mean()
    return sparse.sums_over_pixels(spikes.bits, spikes.shape[2]).sum() / spikes.x.numel()


def _is_frozen(part: nn.Module) -> bool:
    parameters = [*part.parameters()]
    return bool(parameters) and not any(p.requires_grad for p in parameters)
