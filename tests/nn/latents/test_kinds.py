"""What holds for every kind of latent."""

import pytest
import torch

from tcja_gen.errors import UserError
from tcja_gen.models import Generator
from tcja_gen.nn import Build, Context, ImageDraws, Neuron, StepDraws, latent_settings, make_latent
from tcja_gen.registry import LATENTS
from tcja_gen.settings import dump, table, update

T, N, L = 4, 6, 2
SIDES = 4, 2
OWN = {"bernoulli": {"k": 3}, "codes": {"prior": "8C3-TCJA", "rounds": 3}}  # of the tests' latents


@pytest.fixture(params=LATENTS)
def made(request):
    """A latent and its h (T, N, ...)."""
    torch.manual_seed(0)
    neuron = Neuron.preset("tcja") if LATENTS[request.param].spiking else None
    steps = T if neuron else 1
    settings = latent_settings()[request.param](channels=L, **OWN.get(request.param, {}))
    latent = make_latent(settings, Context((7, *SIDES), steps, Build(neuron)))
    features = torch.rand(steps, N, 7, *SIDES, generator=torch.Generator().manual_seed(0))
    return latent, latent.enter(features).detach()


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


@pytest.mark.parametrize("kind", LATENTS)
def test_settings_of_every_kind_are_written_as_a_table_and_read_again(kind):
    import tomllib

    settings = Generator(latent=latent_settings()[kind](channels=L, **OWN.get(kind, {})))
    assert table(settings)["latent"]["kind"] == kind
    assert update(Generator(), table(settings)) == settings
    assert update(Generator(), tomllib.loads(dump(table(settings)))) == settings


def test_a_setting_of_another_kind_is_refused():
    kinds = {kind: table(settings()) for kind, settings in latent_settings().items()}
    for kind, own in kinds.items():
        for name, value in {name: value for other in kinds.values() for name, value in other.items()}.items():
            if name not in own:
                with pytest.raises(UserError, match=f"unknown key 'latent.{name}'.*known: channels, divergence_weight"):
                    update(Generator(), {"latent": {"kind": kind, name: value}})
