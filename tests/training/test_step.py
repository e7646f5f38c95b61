import warnings

import pytest
import torch

from tcja_gen import train
from tcja_gen.nn import NotedDraws, fuse
from tcja_gen.process import Process, neuron_path
from tcja_gen.training.adversary import Adversary
from tcja_gen.training.config import Config, change
from tcja_gen.training.loop import new_model
from tcja_gen.training.step import GraphInputs, Step

SMALL = {"image_size": 8, "image_channels": 1, "encoder": "4C3s2-TCJA-8C3s2-TCJA"}
BITS = {"channels": 6, "k": 3, "scheduled": {"first": 1, "start": 0.5, "end": 0.5}}
VOTES = BITS | {"passes": "prefixes", "scheduled": BITS["scheduled"] | {"replace": "vote"}}
CODES = {"kind": "codes", "channels": 2, "prior": "8C3-8R3[TCJA]", "rounds": 4}
MODELS = {
    "bernoulli": {"time_steps": 8, "latent": BITS},
    "as FSVAE's code": {"time_steps": 8, "latent": VOTES},
    "poisson": {"latent": {"kind": "poisson", "channels": 6}},
    "codes": {"latent": CODES, "decoder": "8T3s2-4T3s2"},
    "against a discriminator": {"latent": {"kind": "poisson", "channels": 6}},
    "classifier": {"encoder": "4C3s2-TCJA-8C3s2", "head": "DP.5-16FC-10L", "classes": 10},
}
DEVICES = ["cpu", pytest.param("cuda", marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU"))]


def step_of(name: str, device: str, **settings) -> Step:
    task = "classify" if name == "classifier" else "generate"
    changes = {"task": task, "batch": 6, "steps": 10, "warmup": 2, "graph": "off", **settings}
    if name == "against a discriminator":
        changes["objective"] = {"adversarial": {"weight": 0.2, "network": "4C3s2-8C3s2"}}
    config = change(Config(), {**changes, "model": SMALL | MODELS[name]})
    torch.manual_seed(0)
    model, terms = new_model(config).to(device).train(), torch.nn.ModuleDict()
    if config.objective.adversarial:
        terms["adversarial"] = Adversary(config.objective.adversarial, config.model).to(device)
    for part in (model, terms):
        fuse(part, neuron_path(torch.device(device))[0])
    return Step(model, terms, config, Process(0, 1, torch.device(device)))


def batch(number: int, device: str) -> tuple:
    generator = torch.Generator().manual_seed(number)
    x = torch.rand(6, 1, 8, 8, generator=generator) * 2 - 1
    targets = torch.nn.functional.one_hot(torch.arange(6) + number % 4, 10).float()
    return x.to(device), targets.to(device)


def weights(step: Step) -> torch.Tensor:
    return torch.cat([tensor.flatten().float() for tensor in step.model.state_dict().values()])


def rehearsal(step: Step):
    """`Graph` without a graph: the first step is noted, all others run from the same places."""
    places = []

    def run(x, targets, draws, progress):
        if not places:
            noted = NotedDraws(draws)
            losses = step._losses(x, targets, noted, progress)
            places.append(GraphInputs(x, targets, noted))
            return losses
        places[0].fill(x, targets, draws, progress)
        return step._losses(*places[0].arguments)

    return run


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("name", MODELS)
def test_a_step_from_fixed_places_is_the_step(name, device):
    """What a CUDA graph is captured from: the same losses, weights and statistics, without its being a graph."""
    plain, placed = step_of(name, device), step_of(name, device)
    placed.graph = rehearsal(placed)
    for number in range(6):
        x, targets = batch(number, device)
        wanted, found = plain(number, x, targets), placed(number, x, targets)
        for key, value in wanted.items():
            torch.testing.assert_close(found[key], value, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(weights(placed), weights(plain), rtol=1e-4, atol=1e-5)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
@pytest.mark.parametrize("name", MODELS)
def test_a_graph_learns_what_single_steps_learn(name):
    plain, graph = step_of(name, "cuda"), step_of(name, "cuda", graph="on")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for number in range(10):
            x, targets = batch(number, "cuda")
            wanted = plain(number, x, targets)
            found = graph(number, x, targets, eager=number == 7)
            for key, value in wanted.items():
                torch.testing.assert_close(found[key], value, rtol=1e-3, atol=1e-4)
    assert graph.graph.graph is not None


def test_a_graph_that_is_asked_for_needs_a_gpu(tmp_path):
    with pytest.raises(ValueError, match="graph = 'on'"):
        train(graph="on", device="cpu", steps=1, out=str(tmp_path / "run"))


def test_the_moving_average_starts_at_the_first_weights_and_then_lags():
    step = step_of("poisson", "cpu")
    step(0, *batch(0, "cpu"))
    first = [p.clone() for p in step.model.parameters()]
    for a, b in zip(step.ema.parameters(), first, strict=True):
        assert torch.equal(a, b)
    step(1, *batch(1, "cpu"))
    for a, b, c in zip(step.ema.parameters(), step.model.parameters(), first, strict=True):
        torch.testing.assert_close(a, b + (c - b) * 2 / 11)
