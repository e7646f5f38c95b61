"""Weights that skip the zeros of their input, against the layers of PyTorch."""

import copy
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from dataclasses import replace
from functools import partial

import pytest
import torch
from torch import nn

from tcja_gen.models import build
from tcja_gen.nn import (
    TCJA,
    CodeLatent,
    CodeSettings,
    Context,
    Gate,
    ImageDraws,
    SpikingDecoder,
    SpikingEncoder,
    StepDraws,
    fuse,
    set_memory,
)
from tcja_gen.nn.kernels import cpu, sparse
from tcja_gen.nn.layers import SpikingBlock
from tcja_gen.nn.neurons import PRESETS
from tcja_gen.nn.normalisation import NormLIF
from tcja_gen.nn.sparse import Conv2d, ConvTranspose2d, Linear, SpikeWeights, dense, wanted

GATED = "32C3-TCJA-16T4s2-TCJA"  # a decoder
pytestmark = pytest.mark.skipif(not cpu.compiler(), reason="there is no C++ compiler")
LAYERS = {
    "3 x 3": (lambda i, o: Conv2d(i, o, 3, 1, 1), (5, 7)),
    "3 x 3, stride 2": (lambda i, o: Conv2d(i, o, 3, 2, 1), (5, 8)),
    "5 x 5, stride 3, no bias": (lambda i, o: Conv2d(i, o, 5, 3, 2, bias=False), (9, 4)),
    "1 x 1": (lambda i, o: Conv2d(i, o, 1), (3, 1)),
    "transposed 4 x 4": (lambda i, o: ConvTranspose2d(i, o, 4, 2, 1), (3, 5)),
    "transposed 3 x 3": (lambda i, o: ConvTranspose2d(i, o, 3, 2, 1, output_padding=1), (1, 4)),
    "linear": (Linear, ()),
}


def spikes(*shape: int, rate: float = 0.2, gated: bool = False) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    x = (torch.rand(shape, generator=generator) < rate).float()
    return x * torch.rand(shape, generator=generator) if gated else x


def skipping(layer: nn.Module) -> nn.Module:
    layer.takes_spikes, layer.path = True, "native"
    return layer


class Half(Gate):
    """A gate without weights."""

    def scores(self, z: torch.Tensor) -> torch.Tensor:
        return 0 * z


def gradients(layer: nn.Module, x: torch.Tensor, biased: bool) -> list[torch.Tensor]:
    """The layer's output, and the gradients of its input, weights and bias."""
    x = x.clone().requires_grad_()
    y = layer(x) if biased else layer.without_bias(x)
    wanted = [x, *(p for p in (layer.weight, layer.bias if biased else None) if p is not None)]
    grad = torch.rand(y.shape, generator=torch.Generator().manual_seed(1)) - 0.5
    return [y.detach(), *torch.autograd.grad(y, wanted, grad)]


@pytest.mark.parametrize("gated", [False, True], ids=["spikes", "gated spikes"])
@pytest.mark.parametrize("kind", LAYERS)
@pytest.mark.parametrize("frames, channels, out", [(1, 1, 16), (5, 67, 37), (70, 16, 160)])
def test_a_layer_and_its_gradients_are_those_of_the_dense_one(kind, frames, channels, out, gated):
    torch.manual_seed(0)
    make, sides = LAYERS[kind]
    layer = skipping(make(channels, out))
    for rate in (0.0, 0.2, 1.0):
        x = spikes(frames, channels, *sides, rate=rate, gated=gated)
        assert layer.skips_zeros(x)
        for biased in (True, False):
            exact = gradients(copy.deepcopy(layer).double(), x.double(), biased)  # dense
            for ours, theirs in zip(gradients(layer, x, biased), exact, strict=True):
                scale = max(float(theirs.abs().max()), 1.0)
                torch.testing.assert_close(ours.double(), theirs, rtol=0, atol=3e-6 * scale)


@pytest.mark.parametrize("kind", LAYERS)
@pytest.mark.parametrize("images, channels, out", [(1, 1, 16), (3, 67, 37), (23, 16, 48)])
def test_a_layer_with_a_gate_has_the_gradients_of_the_dense_one_behind_the_gate(kind, images, channels, out):
    torch.manual_seed(0)
    make, sides = LAYERS[kind]
    layer, gate = skipping(make(channels, out)), TCJA(3, channels, 2, min(channels, 2))
    for rate in (0.0, 0.2, 1.0):
        x, found = spikes(3, images, channels, *sides, rate=rate), []
        for joined in (True, False):
            block, scale = (layer, gate) if joined else (copy.deepcopy(part).double() for part in (layer, gate))
            frames = x.to(block.weight.dtype).requires_grad_()
            y = block(frames.flatten(0, 1), scale) if joined else block(scale(frames).flatten(0, 1))
            grad = torch.rand(y.shape, generator=torch.Generator().manual_seed(1)) - 0.5
            wanted = [frames, *block.parameters(), *scale.parameters()]
            found.append([y.detach(), *torch.autograd.grad(y, wanted, grad.to(y.dtype))])
        for ours, theirs in zip(*found, strict=True):
            limit = 3e-6 * max(float(theirs.abs().max()), 1.0)
            torch.testing.assert_close(ours.double(), theirs, rtol=0, atol=limit)
        twice = spikes(3, images, channels, *sides, rate=rate, gated=True)
        torch.testing.assert_close(layer(twice.flatten(0, 1), gate), layer(gate(twice).flatten(0, 1)))


@pytest.mark.parametrize("preset", PRESETS)
@pytest.mark.parametrize("kind", LAYERS)
@pytest.mark.parametrize("images, channels, out", [(1, 1, 16), (3, 67, 37), (40, 16, 160)])
def test_neurons_that_are_part_of_a_layer_fire_as_those_behind_it(kind, preset, images, channels, out):
    torch.manual_seed(0)
    make, sides = LAYERS[kind]
    block = fuse(SpikingBlock(skipping(make(channels, out)), NormLIF(out, PRESETS[preset]))).eval()
    for name, tensor in block.neurons.state_dict().items():
        tensor.uniform_(0.5, 2) if name in ("weight", "running_var") else tensor.normal_()
    gate, w, looked = TCJA(3, channels, 2, min(channels, 2)), torch.rand(3), []
    for rate, gated in [(0.0, False), (0.2, False), (0.2, True), (1.0, False)]:
        x = spikes(3, images, channels, *sides, rate=rate, gated=gated)
        with torch.no_grad():
            for how in ({}, {"gate": gate}):
                at_once = block(x, **how), block.weighted_sum(x, w, **how)
                assert not looked
                with block.neurons.register_forward_hook(lambda *_: looked.append(1)):
                    apart = block(x, **how), block.weighted_sum(x, w, **how)
                assert looked.pop() and not looked  # whoever looks in between gets to see it
                assert all(torch.equal(one, other) for one, other in zip(at_once, apart, strict=True))
    assert 0.02 < at_once[0].mean() < 0.98


def test_spikes_of_joined_neurons_do_not_depend_on_threads_or_on_other_images():
    block = fuse(SpikingBlock(skipping(Conv2d(24, 96, 3, 2, 1)), NormLIF(96))).eval()
    x, before, found = spikes(4, 30, 24, 9, 7, rate=0.5), torch.get_num_threads(), []
    with torch.no_grad():
        for threads in (1, 3):
            try:
                torch.set_num_threads(threads)
                found.append(block(x))
            finally:
                torch.set_num_threads(before)
        found.append(torch.cat([block(part) for part in x.split([1, 29], 1)], 1))
    assert found[0].any() and all(torch.equal(found[0], other) for other in found[1:])


def test_a_gate_of_another_t_is_refused_and_reads_no_memory_of_others():
    block, x = fuse(SpikingBlock(skipping(Conv2d(8, 32, 3)), NormLIF(32))).eval(), spikes(3, 4, 8, 5, 5)
    assert block.joins(TCJA(3, 8), x) and not block.joins(TCJA(2, 8, 2), x) and not block.joins(TCJA(3, 7), x)
    with torch.no_grad(), pytest.raises(ValueError, match="has shape"):
        block.weighted_sum(x, torch.ones(2))


def test_gradients_do_not_depend_on_the_number_of_threads():
    x, before = spikes(130, 24, 9, 7), torch.get_num_threads()
    for layer in (Conv2d(24, 96, 3, 2, 1), Conv2d(24, 2000, 5, 1, 2)):  # one with several partial sums, one with one
        wanted = gradients(skipping(layer), x, True)
        try:
            for threads in (1, 3):
                torch.set_num_threads(threads)
                found = gradients(layer, x, True)
                assert torch.equal(found[0], wanted[0]) and torch.equal(found[2], wanted[2])
        finally:
            torch.set_num_threads(before)


def test_sums_of_gated_spikes_do_not_depend_on_the_number_of_threads():
    layer, factors, found = skipping(Conv2d(24, 96, 3, 2, 1)), torch.rand(130, 1, 1, 24), []
    gated = replace(sparse.pack(spikes(130, 24, 9, 7)), values=factors)
    grad, bits, before = torch.rand(130, 96, 5, 4) - 0.5, gated.bits.flatten(1, 2), torch.get_num_threads()
    for threads in (1, 3):
        try:
            torch.set_num_threads(threads)
            products = sparse.forward(layer, gated, None), sparse.weight_gradient(layer, gated, grad)
            over_pixels = sparse.sums_over_pixels(bits, 24, factors.view(130, 1, 24).repeat(1, 63, 1))
            over_time = sparse.sums_over_time(gated.bits.view(2, -1, 1), factors.view(2, 65, 24))
            found.append([*products, over_pixels, over_time])
        finally:
            torch.set_num_threads(before)
    assert all(torch.equal(one, other) for one, other in zip(*found, strict=True))


def test_frozen_weights_and_images_get_no_gradient():
    layer, x = skipping(Conv2d(8, 32, 3)), spikes(2, 8, 4, 4).requires_grad_()
    layer.weight.requires_grad_(False)
    layer(x).sum().backward()
    assert layer.weight.grad is None and x.grad.shape == x.shape
    layer.weight.requires_grad_(True)
    layer(x.detach()).sum().backward()
    assert layer.weight.grad.shape == layer.weight.shape


def test_training_keeps_spikes_as_bits():
    kept, layer = [], skipping(Conv2d(64, 32, 3, 1, 1))
    with torch.autograd.graph.saved_tensors_hooks(kept.append, lambda t: t):
        layer(spikes(8, 64, 6, 6))
        assert sum(t.nbytes for t in kept if t is not None and t.shape != layer.weight.shape) == 8 * 6 * 6 * 8
        kept.clear()
        layer(spikes(8, 64, 6, 6, gated=True))  # these have values as well
        assert sum(t.nbytes for t in kept if t is not None and t.shape != layer.weight.shape) == 8 * 6 * 6 * (8 + 256)
        kept.clear()
        layer(spikes(8, 64, 6, 6), Half(4, 64))  # of a gate that is part of the layer: a few times its factors
        assert sum(t.nbytes for t in kept if t is not None and t.shape != layer.weight.shape) < 8 * (
            6 * 6 * 8 + 4 * 256
        )


def test_a_step_of_training_has_the_loss_and_the_gradients_of_the_dense_one():
    torch.manual_seed(0)
    found = []
    network = {"encoder": "32C3s2-TCJA-32C3s2", "image_size": 16, "time_steps": 4, "latent": {"channels": 32}}
    model = fuse(build(network), "native").train()
    for context in (nullcontext, partial(dense, model)):
        model.zero_grad()
        with context():
            losses = model(
                torch.rand(3, 1, 16, 16, generator=torch.Generator().manual_seed(2)) * 2 - 1, StepDraws(0, 0, 3)
            )
            losses["loss"].backward()
        found.append([losses["loss"].detach(), *(p.grad for p in model.parameters() if p.grad is not None)])
    torch.testing.assert_close(*found, rtol=1e-4, atol=1e-6)


@torch.no_grad()
def test_spikes_may_lie_in_memory_in_any_way():
    layer = skipping(Conv2d(12, 40, 3, 1, 1))
    x = spikes(4, 12, 6, 6)
    wanted = layer(x)
    for laid in (x.contiguous(memory_format=torch.channels_last), x.repeat_interleave(2, 3)[..., ::2]):
        assert torch.equal(layer(laid), wanted)
    assert torch.equal(layer(x.flip(0)), wanted.flip(0))


@torch.no_grad()
def test_a_frame_depends_neither_on_the_others_nor_on_the_number_of_threads():
    layer, x = skipping(Conv2d(24, 96, 3, 2, 1)), spikes(67, 24, 9, 7)
    x[40] *= 0.5  # a gated one among spikes
    wanted, before = layer(x), torch.get_num_threads()
    try:
        for threads in (1, 2, 3):
            torch.set_num_threads(threads)
            assert torch.equal(layer(x), wanted)
            assert all(torch.equal(layer(x[i : i + 1])[0], wanted[i]) for i in (0, 3, 40, 66))
    finally:
        torch.set_num_threads(before)


@torch.no_grad()
def test_weights_that_changed_are_used_as_they_are_now():
    layer, x = skipping(Conv2d(8, 32, 3, 1, 1)).eval(), spikes(2, 8, 4, 4)
    first = layer(x)
    layer.weight.mul_(2), layer.bias.mul_(2)
    torch.testing.assert_close(layer(x), 2 * first)
    layer.weight.data.mul_(2), layer.bias.data.mul_(2)
    torch.testing.assert_close(layer(x), 4 * first)
    layer.weight.data.div_(2), layer.bias.data.div_(2)
    twin = copy.deepcopy(layer)
    twin.weight.data = layer.weight / 2
    twin.bias.data = layer.bias / 2
    assert torch.equal(twin(x), first) and torch.equal(layer(x), 2 * first)


def test_weights_made_in_inference_mode_run_too():
    with torch.inference_mode():
        layer, x = skipping(Conv2d(8, 32, 3, 1, 1)).eval(), spikes(2, 8, 4, 4)
        found = layer(x)
        with dense(layer):
            torch.testing.assert_close(found, layer(x))
        layer.weight.zero_(), layer.bias.zero_()
        assert not layer(x).any()


@torch.no_grad()
def test_pixels_that_nobody_wants_are_left_out_and_the_others_stay_the_same():
    layer, x = skipping(Conv2d(8, 32, 3, 1, 1)), spikes(3, 8, 4, 5)
    whole, pixels = layer(x), torch.arange(20).view(4, 5) % 3 == 0
    token = wanted.set({layer: pixels})
    assert torch.equal(layer(x), whole * pixels)
    with ThreadPoolExecutor() as pool:  # another thread has pixels of its own
        assert torch.equal(pool.submit(layer, x).result(), whole)
    wanted.reset(token)


def test_half_precision_and_narrow_layers_run_dense():
    layer, x = skipping(Linear(8, 16)), spikes(2, 8)
    assert layer.skips_zeros(x) and not skipping(Linear(8, 15)).skips_zeros(x)
    assert not layer.skips_zeros(x.double()) and not copy.deepcopy(layer).bfloat16().skips_zeros(x)
    with torch.autocast("cpu", torch.bfloat16):
        assert not layer.skips_zeros(x) and layer(x).dtype == torch.bfloat16
    assert not skipping(Conv2d(8, 32, 3, groups=2)).skips_zeros(spikes(2, 8, 4, 4))


def test_layers_behind_neurons_know_that_they_see_spikes():
    encoder = SpikingEncoder("32C3-TCJA-32C3-32R3[TCJA]-AP2-32C3-MP2-32FC", 1, 2, image_size=8)
    told = {name: layer.takes_spikes for name, layer in encoder.named_modules() if isinstance(layer, SpikeWeights)}
    assert told == {
        "stages.0.weights": False,  # images
        "stages.2.weights": True,  # gated spikes
        "stages.3.first.weights": True,
        "stages.3.second.weights": True,
        "stages.6.weights": False,  # averages
        "stages.9.weights": True,
    }
    decoder = SpikingDecoder("32C3-16T4s2", 4, (8, 4, 4), 1, 2, image_size=8)
    assert decoder.stages[0].weights.takes_spikes and decoder.stages[1].weights.takes_spikes
    plain = SpikingEncoder("32C3-32R3-32C3", 1, 1, None, image_size=8)  # ReLU
    assert not any(layer.takes_spikes for layer in plain.modules() if isinstance(layer, SpikeWeights))


@pytest.mark.parametrize("path", ["native", "plain"])
@pytest.mark.parametrize("memory", ["speed", "recompute"])
def test_watching_the_last_spikes_changes_no_bit_of_an_image_or_a_gradient(path, memory):
    torch.manual_seed(0)
    decoder = fuse(set_memory(SpikingDecoder("32C3-16T4s2", 4, (8, 4, 4), 1, 3, image_size=8), memory), path)
    found, seen = [], []
    for watch in (False, True):
        if watch:
            decoder.stages[-1].neurons.register_forward_hook(lambda layer, x, y: seen.append(y))
        decoder.zero_grad()
        image = decoder(spikes(3, 5, 4))
        image.square().sum().backward()
        found.append([image.detach(), *(p.grad for p in decoder.parameters())])
    assert seen[0].shape == (3, 5, 16, 8, 8)
    assert all(a is b or torch.equal(a, b) for a, b in zip(*found, strict=True))
    with torch.no_grad():
        assert torch.equal(decoder.film(spikes(3, 5, 4))[-1], decoder(spikes(3, 5, 4)))


@pytest.mark.parametrize("memory", ["speed", "recompute"])
@pytest.mark.parametrize(
    "notation", [GATED, "32C3-TCJA-CLA-16T4s2-TCJA", "32C3-32R3[TCJA]-16T4s2-TCJA-SE", "32C3-32R3-TCJA-16T4s2-TCJA"]
)
def test_gates_that_something_watches_give_the_same_image_and_gradients(notation, memory):
    torch.manual_seed(0)
    decoder = fuse(set_memory(SpikingDecoder(notation, 4, (8, 4, 4), 1, 3, image_size=8), memory), "native")
    gates, found, seen = [part for part in decoder.modules() if isinstance(part, Gate)], [], []
    for watch in (False, True):
        for gate in gates if watch else []:
            gate.register_forward_hook(lambda gate, x, y: seen.append(y))
        decoder.zero_grad()
        image = decoder.train()(spikes(3, 5, 4))
        image.square().sum().backward()
        with torch.no_grad():
            found.append([decoder.eval()(spikes(3, 5, 4)), image.detach(), *(p.grad for p in decoder.parameters())])
    assert torch.equal(found[0][0], found[1][0]) and len(seen) >= 2 * len(gates)
    for ours, watched in zip(found[0][1:], found[1][1:], strict=True):
        torch.testing.assert_close(ours, watched, rtol=1e-4, atol=1e-5 * max(float(watched.abs().max()), 1.0))


@pytest.mark.parametrize("notation", ["32C3-16T4s2", GATED])
def test_a_second_pass_back_finds_the_currents_that_the_first_one_has_used_up(notation):
    decoder = fuse(SpikingDecoder(notation, 4, (8, 4, 4), 1, 3, image_size=8), "native")
    loss, found = decoder(spikes(3, 5, 4)).square().sum(), []
    for _ in range(3):
        decoder.zero_grad()
        loss.backward(retain_graph=True)
        found.append([p.grad for p in decoder.parameters()])
    assert all(torch.equal(one, other) for again in found[1:] for one, other in zip(found[0], again, strict=True))


@torch.no_grad()
@pytest.mark.parametrize("path", ["native", "plain"])
@pytest.mark.parametrize(
    "prior", ["32C3-32R3-32R3-48C1", "32C3-32R3[TCJA]-32R3", "32C3-32R3-32C3-TCJAC-32C1", "32C3-40R3-32C3"]
)
def test_rounds_that_compute_only_what_matters_name_tokens_as_whole_rounds_do(prior, path):
    torch.manual_seed(0)
    settings = CodeSettings(channels=2, prior=prior, rounds=16)
    latent = fuse(CodeLatent(settings, Context((3, 4, 4), 2)), path).eval()
    places, known = torch.tensor([6, 9]), (torch.arange(16) % 3 == 0).expand(5, -1)
    bits = (torch.rand(5, 4, 4, 4) < 0.5).float()
    few, every = latent.prior.rates_at(bits, known, places), latent.prior.rates(bits, known)
    few, every = (latent.prior.logits_of(0, rates, None) for rates in (few, every))
    assert torch.equal(few, every[:, places]) if path == "native" else torch.allclose(few, every[:, places], atol=1e-5)
    assert not wanted.get()
    assert 0.2 < latent.sample(ImageDraws(range(40))).mean() < 0.8
