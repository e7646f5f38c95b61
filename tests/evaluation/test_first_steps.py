import pytest
import torch

from tcja_gen.evaluation import evaluate
from tcja_gen.evaluation.energy import count, totals
from tcja_gen.evaluation.first_steps import ReadSteps, run_steps
from tcja_gen.models import SpikingVAE, build
from tcja_gen.nn import ATTENTION, ImageDraws, NormLIF


@pytest.fixture
def model(tiny):
    return firing(tiny)


def firing(settings: dict) -> SpikingVAE:
    torch.manual_seed(0)
    model = build(settings).eval()
    for layer in model.modules():
        if isinstance(layer, NormLIF):
            torch.nn.init.constant_(layer.bias, 1.5)
    return model


def test_all_the_steps_are_the_model_itself(model):
    images = torch.rand(5, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    whole = run_steps(model, 3)
    assert torch.equal(whole.sample(range(5)), model.sample(range(5)))
    assert torch.equal(whole.reconstruct(images), model.reconstruct(images))
    assert torch.equal(ReadSteps(model, 3).sample(range(5)), model.sample(range(5)))


def test_fewer_steps_begin_as_all_do_and_cost_less(model):
    short, draws = run_steps(model, 2), [ImageDraws(range(64)) for _ in range(2)]
    assert torch.equal(short.latent.sample(draws[0]), model.latent.sample(draws[1])[:2])
    costs = [totals(count(run_steps(model, t), range(64)))["energy"] for t in (1, 2, 3)]
    assert costs[0] < costs[1] < costs[2] and model.time_steps == 3
    assert not torch.equal(short.sample(range(5)), model.sample(range(5)))
    assert torch.equal(ReadSteps(model, 2).sample(range(5)), model.film(range(5))[:, 1])


def test_any_latent_of_spikes_begins_alike_and_codes_are_refused(tiny, latent_kind):
    model = firing(tiny | latent_kind)
    short, draws = run_steps(model, 1), [ImageDraws(range(64)) for _ in range(2)]
    assert torch.equal(short.latent.sample(draws[0]), model.latent.sample(draws[1])[:1])
    codes = {"latent": {"kind": "codes", "channels": 2, "prior": "8C3", "rounds": 2}}
    with pytest.raises(ValueError, match="codes are made for all T steps at once"):
        run_steps(build(tiny | codes), 2)


@pytest.mark.parametrize("readout", ["membrane", "tcja", "tcja-both"])
def test_without_attention_on_spikes_both_ways_of_stopping_give_the_same_image(tiny, readout):
    model = firing(tiny | {"encoder": "8C3s2-8C3s2", "readout": readout})
    for t in (1, 2):
        found, wanted = run_steps(model, t).sample(range(5)), ReadSteps(model, t).sample(range(5))
        assert torch.allclose(found, wanted, atol=1e-6) and found.std() > 0


def test_what_has_no_first_steps_of_its_own_is_refused(tiny):
    with pytest.raises(ValueError, match="TCJACnormed divides by a mean over all T steps"):
        run_steps(build(tiny | {"encoder": "8C3s2-TCJACnormed-8C3s2"}), 2)
    events = {"image_channels": 2, "readout": "frames", "full_count": 4}
    for early in (run_steps, ReadSteps):
        with pytest.raises(ValueError, match="a generator of event frames gives a frame for each step"):
            early(build(tiny | events), 2)


@pytest.mark.parametrize("kind", [kind for kind in ATTENTION if kind != "TCJACnormed"])
def test_a_gate_takes_steps_that_do_not_happen_for_silent_ones(tiny, kind):
    model = firing(tiny | {"encoder": f"8C3s2-{kind}-8C3s2"})
    z = torch.rand(3, 2, 8, generator=torch.Generator().manual_seed(0))
    gate, short = (next(x for x in m.modules() if type(x) is ATTENTION[kind]) for m in (model, run_steps(model, 2)))
    silent = z * torch.tensor([1.0, 1.0, 0.0]).view(3, 1, 1)
    assert torch.allclose(short.gate(z[:2]), gate.gate(silent)[:2], atol=1e-6)


def test_early_images_are_scored_as_any_others(model, quick_networks):
    model.provenance = {"weights": "EMA", "step": 1}
    for early in (run_steps(model, 1), ReadSteps(model, 1)):
        record = evaluate(early, "digits", ["fad"], n=64)
        assert record["protocol"]["fad"]["time_steps"] == 1
    with pytest.raises(ValueError, match="4 steps of a generator with T = 3: wanted 1 to 3"):
        run_steps(model, 4)
    with pytest.raises(ValueError, match="0 steps"):
        ReadSteps(model, 0)
