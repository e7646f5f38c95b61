import copy

import pytest
import torch

from tcja_gen.models import SpikingVAE, build
from tcja_gen.models.vae import CHUNK
from tcja_gen.nn import StepDraws


@pytest.fixture(scope="module")
def model(latent_kind) -> SpikingVAE:
    """Weights that have seen a few steps, so that layers fire and samples differ; of every kind of latent."""
    torch.manual_seed(0)
    made = build({"image_size": 8, "time_steps": 3, "encoder": "8C3s2-TCJA-8C3s2-TCJA", **latent_kind})
    optimizer = torch.optim.AdamW(made.parameters(), 1e-2)
    for step in range(30):
        optimizer.zero_grad()
        made(pictures(32) * 2 - 1, StepDraws(0, step, 32))["loss"].backward()
        optimizer.step()
    return made.eval()


def pictures(n: int, channels: int = 1) -> torch.Tensor:
    """Bright squares on black, one place each."""
    made = torch.zeros(n, channels, 8, 8)
    for i in range(n):
        made[i, :, i % 5 : i % 5 + 4, i // 5 % 5 : i // 5 % 5 + 4] = 1
    return made


def test_an_image_depends_on_its_seed_only(model):
    seeds = list(range(CHUNK + 6))
    many = model.sample(seeds)
    assert many.shape == (CHUNK + 6, 1, 8, 8)
    assert len(many.unique(dim=0)) > 20
    for alone in (0, 1, CHUNK - 1, CHUNK, CHUNK + 5):
        assert torch.equal(model.sample([alone]), many[alone : alone + 1])
    assert torch.equal(model.sample(seeds[::-1]).flip(0), many)
    assert torch.equal(model.sample([5, 5, 5]), many[[5, 5, 5]])
    assert torch.equal(model.sample(torch.tensor([2, 7])), many[[2, 7]])


def test_an_image_does_not_depend_on_what_ran_before(model):
    first = model.sample([0, 1, 2])
    torch.manual_seed(99)
    model.reconstruct(pictures(3))
    model.film([8])
    assert torch.equal(model.sample([0, 1, 2]), first)


def test_sampling_is_the_same_in_training_mode_and_restores_the_mode(model):
    wanted = model.sample([0, 1])
    statistics = model.decoder.stages[0].neurons.running_mean.clone()
    try:
        model.train()
        assert torch.equal(model.sample([0, 1]), wanted)
        assert model.training and all(module.training for module in model.modules())
        with pytest.raises(ValueError):
            model.reconstruct(pictures(2, channels=3))
        assert model.training
    finally:
        model.eval()
    model.sample([0])
    assert not model.training
    assert torch.equal(model.decoder.stages[0].neurons.running_mean, statistics)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
def test_a_seed_is_the_same_image_on_a_gpu(model):
    here = model.sample(range(64))
    there = copy.deepcopy(model).cuda().sample(range(64)).cpu()
    unlike = ((here - there).abs().amax((1, 2, 3)) > 1e-3).float().mean()
    assert unlike < 0.1  # rounding may flip a spike


def test_sampling_leaves_the_precision_of_others_alone(model):
    before = torch.backends.cudnn.allow_tf32
    try:
        for asked in (True, False):
            torch.backends.cudnn.allow_tf32 = asked
            model.sample([0])
            assert torch.backends.cudnn.allow_tf32 is asked
    finally:
        torch.backends.cudnn.allow_tf32 = before


def test_sampling_keeps_no_graph(model):
    assert not model.sample([0]).requires_grad and not model.reconstruct(pictures(1)).requires_grad


def test_samples_lie_between_0_and_1(model):
    samples = model.sample(range(20))
    assert samples.min() >= 0 and samples.max() <= 1 and samples.std() > 0.05


def test_decoding_what_was_encoded_is_the_reconstruction(model):
    x, seeds = pictures(5), [3, 1, 4, 1, 5]
    z = model.encode(x, seeds)
    assert z.shape == (5, model.time_steps, 8)
    assert not model.latent.spiking or set(z.unique().tolist()) <= {0.0, 1.0}
    assert torch.equal(model.decode(z), model.reconstruct(x, seeds))
    assert torch.equal(model.decode(z[2:3]), model.reconstruct(x[2:3], seeds[2:3]))


def test_reconstruction_of_an_image_does_not_depend_on_its_neighbours(model):
    x = pictures(6)
    assert torch.equal(model.reconstruct(x)[4:5], model.reconstruct(x[4:5], [4]))


def test_interpolation_starts_and_ends_at_the_reconstructions(model):
    start, end = pictures(25)[[0, 24]]
    between = model.interpolate(start, end, steps=7, seed=3)
    ends = model.reconstruct(torch.stack([start, end]), [3, 3])
    assert between.shape == (7, 1, 8, 8)
    assert torch.equal(between[[0, -1]], ends)
    assert not torch.equal(between[0], between[-1])


def test_the_last_frame_of_a_film_is_the_image(model):
    film = model.film([0, 1, 2])
    assert film.shape == (3, model.time_steps, 1, 8, 8)
    assert torch.equal(film[:, -1], model.sample([0, 1, 2]))


@pytest.mark.parametrize(
    ("call", "named"),
    [
        (lambda m: m.sample([]), "no seeds"),
        (lambda m: m.reconstruct(pictures(2, channels=3)), r"\(1, 8, 8\).*\(3, 8, 8\)"),
        (lambda m: m.encode(pictures(2), [1]), "1 seeds for 2 images"),
    ],
)
def test_a_wrong_call_is_one_line(model, call, named):
    with pytest.raises(ValueError, match=named) as error:
        call(model)
    assert "\n" not in str(error.value)


def test_parts_in_evaluation_mode_stay_in_it(model):
    model = copy.deepcopy(model).train()
    model.encoder.eval()
    before = {name: part.training for name, part in model.named_modules()}
    model.sample([0]), model.reconstruct(pictures(2)), model.encode(pictures(2)), model(pictures(2), StepDraws(0, 0, 2))
    assert {name: part.training for name, part in model.named_modules()} == before
