"""What holds for every kind of latent."""

import inspect
from dataclasses import fields

import pytest
import torch

from tcja_gen.config import OF_LATENTS, Config, Model
from tcja_gen.nn import LATENTS, Build, ImageDraws, Neuron, StepDraws, make_latent

T, N, L = 4, 6, 2
SIDES = 4, 2


@pytest.fixture(params=LATENTS)
def made(request):
    """A latent and its h (T, N, ...)."""
    torch.manual_seed(0)
    neuron = Neuron.preset("tcja") if LATENTS[request.param].spiking else None
    steps = T if neuron else 1
    latent = make_latent(request.param, L, steps, neuron=neuron, k=3, sides=SIDES, prior="8C3-TCJA", rounds=3)
    grid = SIDES if latent.spatial else ()
    features = torch.rand(steps, N, 7, *grid, generator=torch.Generator().manual_seed(0))
    return latent, latent.entry(7, Build(neuron))(features).detach()


def test_shapes_are_those_of_the_protocol(made):
    latent, h = made
    z, divergence = latent.infer(h, StepDraws(0, 0, N), 0.5)
    assert (
        z.shape == (latent.time_steps, N, L, *(SIDES if latent.spatial else ()))
        and divergence.shape == ()
        and divergence.isfinite()
    )
    for drawn in (latent.encode(h, ImageDraws(range(N))), latent.sample(ImageDraws(range(N)))):
        assert drawn.shape == z.shape and drawn.dtype == torch.float32
        assert not latent.spiking or set(drawn.unique().tolist()) <= {0.0, 1.0}


def test_an_images_z_depends_on_its_seed_only(made):
    latent, h = made
    latent.eval()
    some = [4, 1]
    assert torch.equal(latent.sample(ImageDraws(some)), latent.sample(ImageDraws(range(N)))[:, some])
    assert torch.equal(latent.encode(h[:, some], ImageDraws(some)), latent.encode(h, ImageDraws(range(N)))[:, some])


def test_the_way_from_one_image_to_another_begins_and_ends_there(made):
    latent, h = made
    z = latent.encode(h, ImageDraws(range(N)))
    between = latent.between(z[:, 0], z[:, 1], torch.linspace(0, 1, 3), ImageDraws([0]))
    assert between.shape == (3, *z[:, 0].shape)
    assert torch.equal(between[0], z[:, 0]) and torch.equal(between[2], z[:, 1])


def test_the_config_names_what_each_kind_looks_at():
    assert {*OF_LATENTS} == {*LATENTS}
    for kind, names in OF_LATENTS.items():
        own = {*inspect.signature(LATENTS[kind]).parameters} - {"latent", "time_steps", "neuron", "sides"}
        found = {"conditional" if name == "classes" else name for name in own}
        assert found == {name.split("_")[0] if name.startswith("scheduled") else name for name in names}


def test_a_setting_of_another_kind_is_refused():
    changed = {
        "divergence": "kl",
        "passes": "prefixes",
        "scheduled_replace": "vote",
        "conditional": True,
        "prior": "8C3",
    }
    defaults = {f.name: f.default for f in fields(Model)}
    for kind, names in OF_LATENTS.items():
        for name in {name for others in OF_LATENTS.values() for name in others} - {*names}:
            value = changed.get(name, defaults[name] + 1 if name not in changed else None)
            with pytest.raises(ValueError, match=f"model.{name} has no meaning with latent_kind = '{kind}'"):
                Config(model=Model(latent_kind=kind, **{name: value}))


@pytest.mark.parametrize(
    "settings",
    [
        {"task": "classify", "prior_lr": 2.0},
        {"prior_lr": 2.0, "model": Model(latent_kind="gaussian")},
    ],
)
def test_a_prior_that_is_not_there_has_no_learning_rate(settings):
    with pytest.raises(ValueError, match="prior_lr has no meaning"):
        Config(**settings)
