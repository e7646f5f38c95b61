"""The cost of spikes: its gradient, whatever runs the layers, and what it does to a network."""

import pytest
import torch

from tcja_gen.errors import UserError
from tcja_gen.models import Classifier, build
from tcja_gen.nn import SPIKING, StepDraws, fuse, set_memory
from tcja_gen.nn.kernels import cpu
from tcja_gen.training import Config, train
from tcja_gen.training.config import change
from tcja_gen.training.firing import Firing, FiringCost

PATHS = ["plain", pytest.param("native", marks=pytest.mark.skipif(not cpu.compiler(), reason="no C++ compiler"))]


def generator(word: str = "", path: str = "plain", memory: str = "speed", neuron: str = "tcja") -> torch.nn.Module:
    torch.manual_seed(0)
    residual = "32R3" + word.replace("-TCJA", "[TCJA") + "]" * bool(word)
    layers = {"encoder": f"16C3s2{word}-32C3s2-{residual}", "decoder": f"32T3s2{word}-16T3s2{word}"}
    model = build({"image_size": 16, "time_steps": 3, "neuron": neuron, "latent": {"channels": 16}, **layers})
    return set_memory(fuse(model, path), memory).train()


def losses(model: torch.nn.Module) -> dict[str, torch.Tensor]:
    x = torch.rand(4, 1, 16, 16, generator=torch.Generator().manual_seed(1)) * 2 - 1
    return model(x, StepDraws(0, 0, 4), 0.5)


def gradients(model: torch.nn.Module, loss: torch.Tensor) -> list[torch.Tensor]:
    loss.backward()
    return [p.grad for p in model.parameters() if p.grad is not None]


def by_autograd(model: torch.nn.Module, weight: float) -> torch.Tensor:
    """The loss with the mean firing rate as one more term."""
    rates = {}

    def note(layer, _, spikes):
        if torch.is_grad_enabled():
            rates[layer] = spikes.mean()

    for layer in model.modules():
        if isinstance(layer, SPIKING):
            layer.register_forward_hook(note)
    loss = losses(model)["loss"]
    return loss + weight * torch.stack([*rates.values()]).mean()


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("memory", ["speed", "recompute"])
@pytest.mark.parametrize("word", ["", "-TCJA", "-TCJAC"])
def test_the_gradient_is_that_of_the_mean_firing_rate(word, memory, path):
    reference = generator(word)
    loss = by_autograd(reference, 3.0)
    wanted = gradients(reference, loss)
    model = generator(word, path, memory)
    found = FiringCost(Firing(3.0), model).added(losses(model))
    torch.testing.assert_close(found["loss"], loss)
    assert 0 < found["firing"] < 3
    for one, other in zip(gradients(model, found["loss"]), wanted, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-4 * other.abs().max().item())


@pytest.mark.parametrize("path", PATHS)
def test_half_precision_does_not_round_the_cost_away(path):
    """What it adds to the gradient of the biases behind which no other weights round."""
    added = {}
    for half in (False, True):
        with_cost, without = {}, {}
        for found, weight in ((with_cost, 0.01), (without, 1e-12)):
            model = generator(path=path)
            cost = FiringCost(Firing(weight), model)
            with torch.autocast("cpu", torch.bfloat16, enabled=half):
                loss = losses(model)
            cost.added(loss)["loss"].backward()
            found |= {name: p.grad.sum() for name, p in model.named_parameters() if name.endswith("neurons.bias")}
        added[half] = torch.stack([with_cost[name] - without[name] for name in with_cost if "decoder.stages" in name])
    assert len(added[True]) == 2 and (added[False] > 0).all()
    torch.testing.assert_close(added[True], added[False], rtol=0.1, atol=0)


def test_modules_as_neurons_are_charged_too():
    reference, model = (generator(neuron="spikingjelly:LIFNode()") for _ in range(2))
    loss = by_autograd(reference, 3.0)
    found = FiringCost(Firing(3.0), model).added(losses(model))["loss"]
    for one, other in zip(gradients(model, found), gradients(reference, loss), strict=True):
        torch.testing.assert_close(one, other)


def test_layers_that_are_not_trained_are_free_and_so_is_a_pass_in_evaluation_mode():
    model = generator()
    model.encoder.requires_grad_(False)
    cost = FiringCost(Firing(), model)
    losses(model)
    assert cost.rates and not [name for name in cost.rates if name.startswith("encoder")]
    cost.rates.clear()
    with torch.no_grad():
        losses(model.eval())
    assert not cost.rates


@pytest.mark.parametrize("unspiking", ["an ANN", "a linear probe"])
def test_a_cost_that_nothing_would_pay_is_refused_before_training(tmp_path, unspiking):
    changes = {"task": "classify", "steps": 1, "out": str(tmp_path / "run"), "objective": {"firing": {"weight": 0.1}}}
    if unspiking == "an ANN":
        changes["model"] = {"neuron": "relu", "time_steps": 1, "encoder": "8C3s2", "head": "10L"}
    else:
        changes |= {"freeze": True, "model": {"encoder": "8C3s2", "head": "10L"}}
    with pytest.raises(UserError, match="objective.firing has no meaning"):
        train(change(Config(), changes), quiet=True)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("task", ["generate", "classify"])
def test_a_network_that_pays_for_its_spikes_fires_less(tmp_path, task):
    small = {"encoder": "8C3s2-16C3s2", "time_steps": 2}
    small |= {"decoder": "8T3s2-8T3s2", "latent": {"channels": 8}} if task == "generate" else {}
    plain = {
        "task": task,
        "steps": 60,
        "batch": 32,
        "log_every": 60,
        "warmup": 0,
        "lr": 1e-2,
        "sample_every": 0,
        "model": small,
    }
    rates = {}
    for name, changes in {"free": {}, "paying": {"objective": {"firing": {"weight": 1.0}}}}.items():
        records = []
        config = change(Config(), {**plain, **changes, "out": str(tmp_path / name)})
        train(config, on_record=lambda _, record, __, records=records: records.append(record), quiet=True)
        (record,) = [record for record in records if "firing_rate" in record]
        rates[name] = record["firing_rate"]
        assert ("firing" in record) == (name == "paying")
    assert rates["paying"] < 0.8 * rates["free"]


def test_a_classifier_without_a_cost_has_none_by_default():
    assert Config().objective.firing is None
    assert change(Config(), {"task": "classify", "objective": {"firing": {}}}).objective.firing == Firing()
    assert isinstance(change(Config(), {"task": "classify"}).model, Classifier)
