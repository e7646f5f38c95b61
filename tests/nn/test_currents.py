"""Gates between normalisation and neurons: what they compute, where they stand, and that nothing else changes."""

import copy

import pytest
import torch
import torch.nn.functional as F

from tcja_gen.models import Generator, build, load, save
from tcja_gen.nn import (
    ATTENTION,
    TCJA,
    ChannelGain,
    CurrentGate,
    CurrentTCJA,
    NormLIF,
    SpikingDecoder,
    SpikingEncoder,
    StepDraws,
    TDBatchNorm,
    TimeGain,
    fuse,
    lif,
    neuron_named,
    set_memory,
)
from tcja_gen.nn.kernels.cpu import compiler
from tcja_gen.report.figures import mean_gates
from tcja_gen.settings import update

WORDS = [word for word in ATTENTION if issubclass(ATTENTION[word], CurrentGate)]
FORMS = {
    "TLAC": lambda a, b: 1 + a.tanh(),
    "CLAC": lambda a, b: 1 + b.tanh(),
    "TCJAC": lambda a, b: 1 + (a * b).tanh(),
    "TCJACproduct": lambda a, b: 1 + a * b,
    "TCJACsigmoid": lambda a, b: 2 * (a * b).sigmoid(),
    "TCJACfactors": lambda a, b: 2 * ((1 + a) * (1 + b) - 1).sigmoid(),
    "TCJACadd": lambda a, b: 2 * (a + b).sigmoid(),
    "TCJACscaled": lambda a, b: 1 + 0.3 * (a * b).tanh(),
    "TCJACnormed": lambda a, b: 1 + 0.3 * (a / rms(a) * b / rms(b)).tanh(),
}
PATHS = ["plain", pytest.param("native", marks=pytest.mark.skipif(not compiler(), reason="no C++ compiler"))]


def rms(branch: torch.Tensor) -> torch.Tensor:
    return branch.square().mean((0, 2), keepdim=True).sqrt()


def numbers(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def made(word: str, time_steps: int = 4, channels: int = 6) -> CurrentGate:
    torch.manual_seed(0)
    gate = ATTENTION[word](time_steps, channels)
    for name, p in gate.named_parameters():
        if name == "amplitude":
            torch.nn.init.constant_(p, 0.3)
        if name == "gain":
            torch.nn.init.normal_(p, 1, 0.2)
    return gate


@pytest.mark.parametrize("word", FORMS)
def test_a_form_is_its_formula_of_the_papers_branches(word):
    gate, block, currents = made(word), TCJA(4, 6), 2 * numbers(4, 3, 6, 5, 5)
    assert WORDS == [*FORMS, "TSM", "CSM"]
    state = gate.state_dict()
    block.load_state_dict(state | {k: v for k, v in block.state_dict().items() if k not in state}, strict=False)
    a, b = block.branches(currents.mean((3, 4)))
    torch.testing.assert_close(gate.gate(currents), FORMS[word](a, b), rtol=1e-4, atol=1e-5)


def test_a_form_has_the_weights_of_the_block_on_spikes_and_begins_as_no_gate():
    counts = {word: sum(p.numel() for p in ATTENTION[word](4, 6).parameters()) for word in WORDS}
    both = 2 * 6 * 6 + 2 * 4 * 4
    assert counts.pop("TLAC") == 72 and counts.pop("CLAC") == 32
    assert (counts.pop("TSM"), counts.pop("CSM")) == (4, 6)
    assert (counts.pop("TCJACscaled"), counts.pop("TCJACnormed")) == (both + 1, both + 1)
    assert set(counts.values()) == {both}
    z = numbers(4, 3, 6)
    for word in ("TCJACscaled", "TCJACnormed", "TSM", "CSM"):
        assert (ATTENTION[word](4, 6)(z) == 1).all()
    for word in set(WORDS) - {"TCJACnormed"}:
        assert (made(word)(0 * z) == (1 if "SM" not in word else made(word).factors(z))).all()


def composed(layer: NormLIF, gate: CurrentGate, x: torch.Tensor, static: bool) -> torch.Tensor:
    """The same in plain PyTorch: batch norm, the gate as a product, neurons."""
    flat = x if static else x.flatten(0, 1)
    running = layer.running_mean.clone(), layer.running_var.clone()
    weight = layer.weight * layer.scale
    y = F.batch_norm(flat, *running, weight, layer.bias, layer.training, 0.1, layer.eps)
    y = y.expand(4, *y.shape) if static else y.view(x.shape)
    z = y.flatten(3).mean(3) if y.dim() == 5 else y
    return lif(y * gate(z).view(*z.shape, *[1] * (y.dim() - 3)), neuron=layer.neuron)


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("shape", [(4, 3, 6, 5, 4), (3, 6, 5, 4), (4, 3, 6), (4, 1, 6, 300, 5)])
@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("word", ["TCJAC", "TCJACnormed", "TSM"])
def test_gated_neurons_fire_and_learn_as_their_parts_do(path, shape, training, word):
    layer, gate, x = NormLIF(6), made(word), (1.5 * numbers(*shape)).requires_grad_()
    with torch.no_grad():
        layer.weight += 0.2 * numbers(6, seed=1)
        layer.bias += 0.3 * numbers(6, seed=2)
        layer.running_mean += 0.2 * numbers(6, seed=3)
    static = len(shape) == 4
    leaves = [x, layer.weight, layer.bias, *gate.parameters()]
    wanted = composed(layer.train(training), gate, x, static)
    weights = numbers(*wanted.shape, seed=4)
    gradients = torch.autograd.grad((wanted * weights).sum(), leaves)
    layer.gate = gate
    fuse(layer, path)
    found = layer(x, 4 if static else None)
    assert (found != wanted).float().mean() < 0.002 and 0.02 < found.mean() < 0.98  # another rounding may flip one
    if torch.equal(found, wanted):
        for ours, plain in zip(torch.autograd.grad((found * weights).sum(), leaves), gradients, strict=True):
            torch.testing.assert_close(ours, plain, rtol=1e-3, atol=2e-4)
    else:
        pytest.fail("a spike differs: choose other numbers, so that gradients can be compared")


@pytest.mark.parametrize("path", PATHS[1:])
@pytest.mark.parametrize("static", [True, False])
def test_gated_layers_give_the_same_on_kernels_and_in_autocast(path, static):
    x, results = 2 * numbers(3 if static else 12, 6, 4, 4), []
    for one in ("plain", path):
        layer = NormLIF(6)
        layer.gate = made("TCJAC")
        fuse(layer, one)
        given = (x if static else x.view(4, 3, 6, 4, 4)).clone().requires_grad_()
        with torch.autocast("cpu", torch.bfloat16):
            fired = layer(given.bfloat16(), 4 if static else None)
        assert fired.dtype == torch.bfloat16
        (fired * numbers(*fired.shape, seed=1)).sum().backward()
        results.append([fired.detach(), given.grad, *(p.grad for p in layer.parameters())])
    for ours, plain in zip(*results, strict=True):
        torch.testing.assert_close(ours, plain, rtol=2e-2, atol=2e-2)


def test_a_word_gates_the_currents_of_the_layer_before_it_and_its_spikes_stay_spikes():
    torch.manual_seed(0)
    encoder = SpikingEncoder("4C3s2-TCJAC(2,3)-6C3s2-TCJACadd-AP2-5FC-TSM", 1, time_steps=3, image_size=8)
    first, second, _, _, linear = encoder.stages
    assert type(first.neurons.gate) is CurrentTCJA and isinstance(linear.neurons.gate, TimeGain)
    assert first.neurons.gate.cla.weight.shape == (3, 3, 3) and second.neurons.gate.tla.weight.shape == (6, 6, 2)
    x = numbers(5, 1, 8, 8)
    assert {*first(x, 3).unique().tolist()} == {0.0, 1.0} and encoder(x).shape == (3, 5, 5)
    encoder.double().eval()
    assert torch.equal(encoder(x.double()), encoder(x.double().expand(3, -1, -1, -1, -1)))  # a static frame
    decoder = SpikingDecoder("4T3s2-TCJAC", 5, (6, 4, 4), 1, time_steps=3, image_size=8)
    assert decoder(torch.ones(3, 2, 5)).shape == (2, 1, 8, 8)
    assert {*decoder.spikes(torch.ones(3, 2, 5)).unique().tolist()} <= {0.0, 1.0}


def test_in_a_residual_block_the_inner_currents_are_gated():
    torch.manual_seed(0)
    encoder = SpikingEncoder("4C3-4R3[TCJAC]-MP2", 1, time_steps=3, image_size=8)
    stem, block, *_ = encoder.stages
    assert block.attention is None and isinstance(block.first.neurons.gate, CurrentTCJA)
    x = stem(numbers(6, 1, 8, 8), 3)
    inner = block.first.neurons
    currents = copy.deepcopy(inner)
    currents.__class__ = TDBatchNorm  # its normalisation alone
    currents.gate = None
    y = block.first.weights(block.fire(x, 3).flatten(0, 1)).unflatten(0, (3, 6))
    y = TDBatchNorm.forward(currents, y)
    spikes = lif(y * inner.gate.gate(y)[..., None, None])
    torch.testing.assert_close(block(x, 3), block.second(spikes) + x)


@pytest.mark.parametrize(
    ("notation", "named"),
    [
        ("TCJAC-4C3", "'TCJAC': attention needs spikes"),
        ("4C3-MP2-TCJAC", "'TCJAC': a gate of currents stands right behind a layer with normalisation"),
        ("4C3-TCJA-TSM", "'TSM': a gate of currents stands right behind"),
        ("4C3-TCJAC-TSM", "one behind each"),
        ("4C3-4R3-TCJAC", "'TCJAC': a gate of currents stands right behind"),
        ("4C3-TCJAC-4R3", "'4R3': the layer before a residual block has no neurons"),
        ("4C3-TCJAC(4,2)", r"'TCJAC\(4,2\)': k_time = 4 does not fit T = 3"),
    ],
)
def test_a_gate_without_currents_to_gate_is_refused(notation, named):
    with pytest.raises(ValueError, match=named) as error:
        SpikingEncoder(notation, 1, time_steps=3, image_size=8)
    assert "\n" not in str(error.value)
    with pytest.raises(ValueError, match="right behind a layer with normalisation"):  # linear layers of "bn" have none
        SpikingEncoder("4C3-8FC-TCJAC", 1, time_steps=3, image_size=8, normalisation="bn")


@pytest.mark.parametrize("neuron", ["spikingjelly:LIFNode", "relu"])
def test_other_neurons_get_gated_currents_too(neuron):
    torch.manual_seed(0)
    steps = 1 if neuron == "relu" else 3
    encoder = SpikingEncoder("4C3s2-TCJAC-6C3s2-CSM", 1, steps, neuron_named(neuron), image_size=8)
    x, gate = numbers(5, 1, 8, 8), encoder.stages[1].neurons.gate
    assert isinstance(gate, ChannelGain)
    encoder(x).sum().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in encoder.parameters())
    with torch.no_grad():
        before, _ = encoder(x), gate.gain.zero_()
        assert not torch.equal(encoder(x), before) and not encoder(x).any()


TINY = {"image_size": 8, "time_steps": 3, "encoder": "8C3s2-TCJAC-8C3s2-TCJACscaled", "latent": {"channels": 8, "k": 4}}


def test_a_step_that_keeps_less_is_the_same_step():
    torch.manual_seed(0)
    model = build(TINY)
    found = []
    for memory in ("speed", "recompute"):
        one = set_memory(copy.deepcopy(model), memory)
        one(numbers(4, 1, 8, 8), StepDraws(0, 0, 4))["loss"].backward()
        found.append({name: p.grad for name, p in one.named_parameters()})
    for name, gradient in found[0].items():
        torch.testing.assert_close(found[1][name], gradient, rtol=1e-5, atol=1e-6)
    assert found[0]["encoder.stages.0.neurons.gate.tla.weight"].abs().sum() > 0


def test_the_model_is_kept_and_an_image_depends_on_its_seed_alone(tmp_path):
    torch.manual_seed(0)
    model = build(TINY).eval()
    images = model.sample(range(5))
    assert torch.equal(model.sample([3]), images[3:4])
    save(tmp_path / "model.safetensors", model, update(Generator(), TINY, "model."), {})
    assert torch.equal(load(tmp_path / "model.safetensors").sample(range(5)), images)


def test_pictures_show_the_gates_of_currents():
    torch.manual_seed(0)
    gates = mean_gates(build(TINY).eval(), torch.rand(4, 1, 8, 8))
    assert [*gates] == ["encoder.stages.0", "encoder.stages.1", "decoder.stages.0", "decoder.stages.1"]
    assert all(gate.shape == (3, 8) and not gate.requires_grad for gate in gates.values())
    assert (gates["encoder.stages.1"] == 1).all() and not (gates["encoder.stages.0"] == 1).any()


def test_frozen_attention_keeps_its_weights_and_lets_gradients_pass():
    for word in ("frozenTCJAC", "frozenTCJA(1,2)", "frozenTSM"):
        torch.manual_seed(0)
        encoder = SpikingEncoder(f"4C3s2-{word}-6C3s2", 1, time_steps=3, image_size=8)
        learns = [name for name, _ in encoder.named_parameters()]
        assert not [name for name in learns if "tla" in name or "cla" in name or "gain" in name]
        assert [name for name in encoder.state_dict() if "tla" in name or "gain" in name]
        encoder(numbers(5, 1, 8, 8)).sum().backward()
        assert encoder.stages[0].weights.weight.grad.abs().sum() > 0


@pytest.mark.parametrize("word", ["TCJAC", "TCJA"])
def test_shuffled_attention_has_the_gates_of_another_image(word):
    torch.manual_seed(0)
    plain, shuffled = (SpikingEncoder(f"4C3s2-{w}", 1, 3, image_size=8) for w in (word, f"shuffled{word}"))
    shuffled.load_state_dict(plain.state_dict())
    gates = []
    for encoder in (plain, shuffled):
        gate = next(part for part in encoder.modules() if type(part) is ATTENTION[word])
        gates.append(gate.gate(numbers(3, 5, 4, 2, 2)))
    assert torch.equal(gates[1], gates[0].roll(1, 1)) and not torch.equal(*gates)
