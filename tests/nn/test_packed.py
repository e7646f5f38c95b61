"""Spikes that stay bits between layers."""

from contextlib import nullcontext

import pytest
import torch
from torch import nn

from tcja_gen.nn import LIF, TCJA, SpikingDecoder, SpikingEncoder, fuse, set_memory
from tcja_gen.nn.kernels import cpu, sparse
from tcja_gen.nn.layers import Build, Pool, Residual, conv_block, hands_on_bits, linear_block
from tcja_gen.nn.packed import Packed

pytestmark = pytest.mark.skipif(not cpu.compiler(), reason="there is no C++ compiler")
LAYERS = {
    "convolution": (lambda: conv_block(8, 70, 3, 2, Build()), (3, 5, 8, 7, 7)),
    "linear": (lambda: linear_block(40, 130, Build()), (3, 5, 40)),
    "neurons": (lambda: LIF(), (3, 5, 70, 3, 4)),
    "gated currents": (lambda: SpikingEncoder("70C3-TCJAC", 8, 3, image_size=7).stages[0], (3, 5, 8, 7, 7)),
}


def spikes(*shape: int) -> torch.Tensor:
    return (torch.rand(shape, generator=torch.Generator().manual_seed(0)) < 0.3).float()


def watch(module: nn.Module) -> list:
    """Looks at every layer's output, so that all of them must be numbers."""
    return [layer.register_forward_hook(lambda layer, x, y: None) for layer in module.modules()]


@pytest.mark.parametrize("training", [True, False], ids=["training", "in use"])
@pytest.mark.parametrize("static", [False, True], ids=["stream", "static frame"])
@pytest.mark.parametrize("kind", LAYERS)
def test_bits_of_a_layer_are_those_of_its_spikes_and_learn_as_these(kind, static, training):
    torch.manual_seed(0)
    make, shape = LAYERS[kind]
    layer, found = fuse(make()).train(training), []
    x = spikes(*shape[static:]) * (2 if kind == "neurons" else 1)
    for as_bits in (False, True):
        given = x.clone().requires_grad_()
        with nullcontext() if training else torch.no_grad():
            y = layer(given, 3 if static else None, as_bits=as_bits)
        numbers = y.x if as_bits else y
        if training:
            numbers.backward(torch.rand(y.shape, generator=torch.Generator().manual_seed(1)))
            gradients = [given.grad, *(p.grad for p in layer.parameters() if p.grad is not None)]
            layer.zero_grad()
        bits = y.bits.flatten() if as_bits else sparse.pack(y.flatten(0, 1)).bits.flatten()
        found.append([bits, *(gradients if training else [])])
        assert numbers.shape == (3, 5, *numbers.shape[2:]) and (not as_bits or numbers.untyped_storage().nbytes() == 4)
    assert found[0][0].any() and all(torch.equal(a, b) for a, b in zip(*found, strict=True))


@pytest.mark.parametrize("memory", ["speed", "recompute", ""], ids=["training", "training in little memory", "in use"])
@pytest.mark.parametrize(
    "notation",
    [
        "32C3-32C3-TCJA-40C3-40R3-40R3[TLA]",
        "32C3-TCJAC-32C3-MP2-32C3-32FC-32FC",
        "32C3-32R3-16C3-16C3",
        "32C3-32R3-TCJA-32C3",
    ],
)
def test_a_network_that_hands_on_bits_gives_what_one_does_whose_every_layer_is_watched(notation, memory):
    torch.manual_seed(0)
    training = memory != ""
    encoder = fuse(SpikingEncoder(notation, 2, 3, image_size=8)).train(training)
    features = encoder.shape[0] * 8 * 8 if len(encoder.shape) > 1 else encoder.shape[0]
    decoder = fuse(SpikingDecoder("32C3-TCJA-32T4s2-16T4s2", features, (8, 4, 4), 2, 3, image_size=16)).train(training)
    network, found = nn.ModuleList([encoder, decoder]), []
    set_memory(network, memory or "speed")
    for x in (torch.rand(5, 2, 8, 8), spikes(3, 5, 2, 8, 8)):
        for hooks in ([], watch(network)):
            network.zero_grad()
            with nullcontext() if training else torch.no_grad():
                image = decoder(encoder(x).flatten(2))
            if training:
                image.square().sum().backward()
            found.append([image.detach(), *(p.grad for p in network.parameters() if p.grad is not None)])
            for hook in hooks:
                hook.remove()
        watched, ours = found.pop(), found.pop()
        assert torch.equal(ours[0], watched[0])
        for one, other in zip(ours[1:], watched[1:], strict=True):  # gates are summed up in another way where they join
            torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5 * max(float(other.abs().max()), 1.0))


def test_spikes_stay_bits_only_where_the_next_layer_takes_them_and_nobody_looks():
    first, second = (fuse(conv_block(32, 32, 3, 1, Build())) for _ in range(2))
    gate, x = TCJA(3, 32), spikes(3, 5, 32, 6, 6)
    assert hands_on_bits(first, x, 3, [second]) and hands_on_bits(first, x, 3, [gate, second])
    assert not hands_on_bits(first, x, 3, []) and not hands_on_bits(first, x, 3, [gate])
    assert not hands_on_bits(first, x, 3, [Pool("max", 2), second])
    assert not hands_on_bits(first, x, 3, [TCJA(2, 32), second]) and not hands_on_bits(
        first, x, 3, [gate, gate, second]
    )
    assert not hands_on_bits(first, x.double(), 3, [second]) and not hands_on_bits(first, x[:, :0], 3, [second])
    assert not hands_on_bits(first, x, 3, [fuse(conv_block(32, 8, 3, 1, Build()))])  # narrow layers are dense
    assert not hands_on_bits(first, x, 3, [fuse(conv_block(32, 32, 3, 1, Build()), "plain")])
    assert not hands_on_bits(first, x, 3, [Residual(32, 32, 3, 1, None, Build())])
    with torch.autocast("cpu", torch.bfloat16):
        assert not hands_on_bits(first, x, 3, [second])
    for part in (first, first.neurons, gate, second, second.weights):
        hook = part.register_forward_hook(lambda *_: None)
        assert not hands_on_bits(first, x, 3, [gate, second])
        hook.remove()
    assert isinstance(first(x, as_bits=True), Packed) and isinstance(second(first(x, as_bits=True)), torch.Tensor)
