"""A gradient of a gradient (a gradient penalty, say) is right or refused, never a wrong number."""

import importlib
import pkgutil

import pytest
import torch
from torch import nn
from torch.autograd import Function, gradgradcheck

import tcja_gen
from tcja_gen.nn import LIF, TCJA, CurrentTCJA, NormLIF, SpikingEncoder, TDBatchNorm, fuse, set_memory
from tcja_gen.nn.attention import _Gated, _GatedSum
from tcja_gen.nn.fused import Fire, Norm, NormFire, NormFireGate, NormGateFire
from tcja_gen.nn.gradients import _Refused
from tcja_gen.nn.kernels import sparse
from tcja_gen.nn.kernels.cpu import compiler
from tcja_gen.nn.latents.poisson import _Exceeds
from tcja_gen.nn.memory import _Recompute
from tcja_gen.nn.neurons import _LIF, PRESETS, _Fire
from tcja_gen.nn.pooling import _MaxPool, max_pool
from tcja_gen.nn.readouts import _WeightedSum
from tcja_gen.nn.sparse import Conv2d, _SpikeWeights
from tcja_gen.training.firing import Firing, FiringCost, _Charge, _Charged


def lean() -> nn.Module:
    return set_memory(SpikingEncoder("4C3", 4, 3, image_size=5), "recompute")


def for_spikes(x: torch.Tensor) -> torch.Tensor:
    layer, frames = Conv2d(4, 32, 3), x.flatten(0, 1)
    return _SpikeWeights.apply(frames, layer.weight, layer.bias, layer, sparse.pack(frames))


def behind_gate(x: torch.Tensor) -> torch.Tensor:
    layer = fuse(NormLIF(4))
    return layer.weighted_sum(x, torch.ones(3), gate=TCJA(3, 4))


def as_bits(x: torch.Tensor) -> torch.Tensor:
    return fuse(LIF())(x, as_bits=True).x


def charged(x: torch.Tensor) -> torch.Tensor:
    cost = FiringCost(Firing(), NormLIF(4))
    cost.rates["a layer"] = x.mean()
    return _Charged.apply(x, _Charge(cost, "a layer"))


def gated() -> nn.Module:
    layer = NormLIF(4)
    layer.gate = CurrentTCJA(3, 4)
    return layer


REFUSED = {
    Norm: lambda x: TDBatchNorm(4, 1.0)(x),
    NormFire: lambda x: NormLIF(4)(x),
    NormGateFire: lambda x: gated()(x),
    _LIF: lambda x: LIF()(x),
    _Gated: lambda x: TCJA(3, 4)(x),
    _GatedSum: lambda x: TCJA(3, 4).weighted_sum(x, torch.ones(3)),
    _Recompute: lambda x: lean()(x),
    _MaxPool: lambda x: max_pool(x.flatten(0, 1), 2),
    **({_SpikeWeights: for_spikes, NormFireGate: behind_gate, Fire: as_bits} if compiler() else {}),
}
RIGHT = {
    _Fire: lambda x: _Fire.apply(x, PRESETS["tcja"]),
    _Exceeds: _Exceeds.apply,
    _Charged: charged,
    _WeightedSum: lambda x: _WeightedSum.apply(x, torch.tensor([0.5, 0.3, 0.2], dtype=x.dtype)),
}


def spikes() -> torch.Tensor:
    return torch.rand(3, 2, 4, 5, 5, generator=torch.Generator().manual_seed(0)).requires_grad_()


@pytest.mark.parametrize("function", REFUSED)
def test_a_second_derivative_that_would_be_wrong_is_refused(function):
    torch.manual_seed(0)
    x = spikes()
    (first,) = torch.autograd.grad(REFUSED[function](x).square().sum(), x, create_graph=True)
    for penalty in (first.square().sum(), first.square().sum() + x.sum()):  # the last has a way past it
        with pytest.raises(RuntimeError, match="can be differentiated once"):
            torch.autograd.grad(penalty, x, retain_graph=True)


def test_a_penalty_of_a_gradient_reaches_no_weight_in_silence():
    torch.manual_seed(0)
    encoder, x = SpikingEncoder("4C3-TCJA-4C3", 1, 3, image_size=5), torch.rand(2, 1, 5, 5).requires_grad_()
    loss = encoder(x).mean()
    (first,) = torch.autograd.grad(loss, x, create_graph=True)
    with pytest.raises(RuntimeError, match="can be differentiated once"):
        torch.autograd.grad(loss + first.square().sum(), [*encoder.parameters()], allow_unused=True)


@pytest.mark.parametrize("function", RIGHT)
def test_a_second_derivative_that_is_given_is_right(function):
    assert gradgradcheck(RIGHT[function], (0.9 + 0.7 * spikes().detach()[:, :1, :2, 0, 0].double()).requires_grad_())


def test_every_gradient_that_is_written_by_hand_is_tested_here():
    for module in pkgutil.walk_packages(tcja_gen.nn.__path__, "tcja_gen.nn."):
        if module.name != "tcja_gen.nn.kernels.gpu":
            importlib.import_module(module.name)
    ours = {kind for kind in Function.__subclasses__() if kind.__module__.startswith("tcja_gen")}
    assert ours == {*REFUSED, *RIGHT, _Refused, _SpikeWeights}
