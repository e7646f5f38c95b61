"""SpikingJelly's neurons, and modules of a plugin, in the place of the LIF."""

import copy
import json

import pytest
import torch
from torch import nn

import tcja_gen
from tcja_gen.evaluation import energy
from tcja_gen.models import Classifier, build
from tcja_gen.nn import Build, ImageDraws, Neuron, SpikingEncoder, StepDraws, neuron_named, set_memory
from tcja_gen.registry import NEURONS, register_neuron

LIKE_OURS = "spikingjelly:LIFNode(tau=2.0, detach_reset=True, surrogate_function=ATan(alpha=2.0))"
LEARNING = "spikingjelly:ParametricLIFNode"
NOTATION = "4C3s2-TCJA-6C3-6R3s2-8FC"
SMALL = {"image_size": 8, "encoder": "4C3s2-TCJA-6C3s2", "time_steps": 3, "latent": {"channels": 5, "k": 3}}
RATES = {"latent": {"kind": "poisson", "channels": 5}}


class Doubling(nn.Module):
    """Neurons without a threshold that keep their last membrane, as a careless plugin does."""

    def __init__(self):
        super().__init__()
        self.leak, self.v = nn.Parameter(torch.tensor(0.5)), 0.0

    def forward(self, x):
        spikes = []
        for current in x:
            self.v = self.leak * self.v + current
            spikes.append(torch.sigmoid(9 * (self.v - 1)))
        return torch.stack(spikes)

    def reset(self):
        self.v = 0.0


@pytest.fixture(autouse=True)
def plugin(monkeypatch):
    """A plugin's neurons, for one test."""
    for what in ("_parts", "_sources"):
        monkeypatch.setattr(NEURONS, what, dict(getattr(NEURONS, what)))

    @register_neuron("doubling")
    def doubling():
        return Doubling()


def images(n: int = 4) -> torch.Tensor:
    return 2 * torch.rand(n, 1, 8, 8, generator=torch.Generator().manual_seed(0)) - 1


def encoder(neuron, seed: int = 0) -> SpikingEncoder:
    torch.manual_seed(seed)
    return SpikingEncoder(NOTATION, 1, 3, neuron, image_size=8)


def test_spikingjellys_lif_in_a_network_fires_and_learns_as_ours_does():
    ours, theirs = encoder(Neuron.preset("tcja")), encoder(neuron_named(LIKE_OURS))
    assert ours.state_dict().keys() == theirs.state_dict().keys()
    theirs.load_state_dict(ours.state_dict())
    results = []
    for model in (ours, theirs):
        spikes = model(images())
        (spikes * torch.rand(spikes.shape, generator=torch.Generator().manual_seed(1))).sum().backward()
        results.append((spikes, [p.grad for p in model.parameters()]))
    (ours, ours_grads), (theirs, theirs_grads) = results
    assert torch.equal(ours, theirs) and 0.02 < ours.mean() < 0.98
    for a, b in zip(ours_grads, theirs_grads, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5)


def test_a_time_constant_that_is_learnt_is_trained_and_saved():
    model = encoder(neuron_named(LEARNING))
    constants = {name: p for name, p in model.named_parameters() if name.endswith("node.w")}
    assert len(constants) == 5  # of two blocks, two neurons of the residual block, those behind it and a linear layer
    optimiser = torch.optim.SGD(model.parameters(), 0.1)
    before = {name: p.item() for name, p in constants.items()}
    model(images()).mean().backward()
    optimiser.step()
    assert all(p.item() != before[name] for name, p in constants.items())
    other = encoder(neuron_named(LEARNING), seed=1)
    other.load_state_dict(model.state_dict())
    assert torch.equal(other.eval()(images()), model.eval()(images()))


@pytest.mark.parametrize("name", [LEARNING, "spikingjelly:PSN(T=3)", "spikingjelly:IzhikevichNode", "doubling"])
def test_no_membrane_outlives_a_call(name):
    model = encoder(neuron_named(name))
    first = model(images())
    copy.deepcopy(model)  # as the moving average of the weights is made, in the middle of a step
    first.sum().backward()
    model.eval()
    assert torch.equal(model(images()), model(images()))
    model(images(2))  # of another batch size
    assert not [key for key in model.state_dict() if key.endswith(".v")]


@pytest.mark.parametrize("name", [LIKE_OURS, LEARNING, "spikingjelly:CUBALIFNode", "spikingjelly:SimpleIFNode"])
def test_the_autoregressive_latent_steps_with_nodes(name):
    torch.manual_seed(0)
    model = build({**SMALL, "neuron": name})
    loss = model(images(), StepDraws(0, 0, 4))["loss"]
    loss.backward()
    net = model.latent.prior.eval()
    x, states, bits = torch.rand(3, 4, 5), net.rest(), []
    for frame in x:
        step, states = net.step(frame, states)
        bits.append(step)
    assert torch.equal(torch.stack(bits), net(x))
    assert torch.equal(model.sample([0, 1])[1], model.sample([1])[0])


def test_what_cannot_step_is_refused_before_training():
    for name in ("spikingjelly:PSN(T=3)", "doubling"):
        with pytest.raises(ValueError, match="cannot run one time step at a time"):
            build({**SMALL, "neuron": name})
        build({**SMALL, **RATES, "neuron": name}).sample([0])


def test_a_sharp_neuron_of_a_plugin_is_trained_with_the_rest():
    torch.manual_seed(0)
    model = build(Classifier(8, encoder="4C3s2-TCJA", time_steps=3, head="2L", neuron="doubling"))
    assert model.encoder.stages[0].neurons.scale == 1.0
    targets = torch.eye(2)[torch.tensor([0, 1, 0, 1])]
    model(images(), StepDraws(0, 0, 4), 0.0, targets=targets)["loss"].backward()
    assert model.encoder.stages[0].neurons.node.leak.grad


@pytest.mark.parametrize(
    ("name", "gain"),
    [
        ("spikingjelly:LIFNode", 2),
        ("spikingjelly:LIFNode(tau=4.0, v_threshold=0.5)", 2),
        ("spikingjelly:LIFNode(tau=4.0, decay_input=False)", 1),
        ("spikingjelly:LIFNode(v_reset=-1.0)", 4),
        ("spikingjelly:LIFNode(v_reset=None)", 2),
        ("spikingjelly:ParametricLIFNode(init_tau=3.0)", 3),
        ("spikingjelly:IFNode(v_threshold=0.5)", 0.5),
        ("spikingjelly:PSN(T=3)", 1),
        ("doubling", 1),
    ],
)
def test_the_gain_of_tdbn_follows_from_the_node(name, gain):
    assert neuron_named(name).gain == pytest.approx(gain)
    assert Build(neuron_named(name)).norm(4).scale == pytest.approx(gain)


@pytest.mark.parametrize(
    ("name", "named"),
    [
        ("spikingjelly:Lif", "has no Lif; known: .*LIFNode"),
        ("spikingjelly:", "invalid syntax|wanted Class"),
        ("spikingjelly:LIFNode(2.0)", "wanted Class"),
        ("spikingjelly:LIFNode(tau=2)", "write whole numbers as 2.0"),
        ("spikingjelly:LIFNode(beta=2.0)", "beta"),
        ("spikingjelly:LIFNode(tau=__import__('os').getpid())", "wanted Class"),
        ("spikingjelly:LIFNode(surrogate_function=Tan)", "has no Tan; known: .*ATan"),
        ("plif", "'plif'; known: tcja, tet, fsvae, .*relu, spikingjelly:LIFNode.*--plugin"),
    ],
)
def test_an_unknown_neuron_is_named(name, named):
    with pytest.raises(ValueError, match=named) as error:
        neuron_named(name)
    assert repr(name) in str(error.value) and "\n" not in str(error.value)


def test_a_surrogate_is_for_the_packages_own_neurons():
    for name in (LEARNING, "doubling", "relu"):
        with pytest.raises(ValueError, match="has no surrogate gradient that can be exchanged"):
            neuron_named(name, "triangle")


def test_a_run_with_nodes_is_trained_loaded_and_counted(tmp_path):
    model = {**SMALL, **RATES, "neuron": LEARNING}
    run = tcja_gen.train(steps=2, batch=8, log_every=1, out=str(tmp_path / "run"), model=model, quiet=True)
    loaded = tcja_gen.load(run.folder)
    learnt = {name: w for name, w in loaded.state_dict().items() if name.endswith("node.w")}
    assert len(learnt) == 6 and any(w != 0 for w in learnt.values())
    statistics = [json.loads(line) for line in (tmp_path / "run/stats.jsonl").read_text().splitlines()]
    assert any("encoder.stages.0" in line.get("layers", {}) for line in statistics)
    rows = energy.count(loaded, range(64))
    assert [row.kind for row in rows].count("neurons") == 3  # of the decoder


def test_a_node_that_makes_no_spikes_of_the_currents_shape_is_named():
    with pytest.raises(ValueError, match="NonSpikingIFNode give list for currents"):
        encoder(neuron_named("spikingjelly:NonSpikingIFNode"))(images())
    with pytest.raises(ValueError, match="OTTTLIFNode fail: "):
        encoder(neuron_named("spikingjelly:OTTTLIFNode"))(images())


def test_recomputing_is_refused_with_nodes():
    with pytest.raises(ValueError, match="only the package's own neurons"):
        set_memory(encoder(neuron_named(LEARNING)), "recompute")


def test_one_seed_gives_one_image_with_nodes_too():
    torch.manual_seed(0)
    model = build({**SMALL, **RATES, "neuron": LEARNING})
    draws = ImageDraws(range(2))
    assert model.infer(images(2), draws).shape == (3, 2, 5)
    assert torch.equal(model.sample([3, 7])[1], model.sample([7])[0])
