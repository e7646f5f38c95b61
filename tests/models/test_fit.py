"""What of a generator every fit trains, leaves as it is, and takes over."""

import copy

import pytest
import torch

from tcja_gen.models import FITS, build
from tcja_gen.nn import StepDraws

LATENTS = {
    "bernoulli": {"channels": 8, "k": 4},
    "poisson": {"kind": "poisson", "channels": 8},
    "codes": {"kind": "codes", "channels": 2, "prior": "8C3-8R3[TCJA]", "rounds": 4},
}
PARTS = {"encoder", "decoder", "head", "latent.entry", "latent.posterior", "latent.prior"}
FITTED = {
    "all": PARTS,
    "autoencoder": PARTS - {"latent.prior"},
    "decoder": {"decoder"},
    "prior": {"latent.prior"},
}


def model(kind: str) -> torch.nn.Module:
    torch.manual_seed(0)
    sizes = {"image_size": 8, "time_steps": 2, "encoder": "8C3s2-TCJA", "decoder": "8T4s2", "head": "4L", "classes": 4}
    return build({**sizes, "latent": LATENTS[kind]})


def part(name: str) -> str:
    """The part of the model that a weight belongs to."""
    return ".".join(name.split(".")[: 2 if name.startswith("latent.") else 1])


def parts(made: torch.nn.Module) -> set[str]:
    return {part(name) for name, _ in made.named_parameters()}


def losses(made: torch.nn.Module, fit: str, terms=None) -> dict[str, torch.Tensor]:
    x, targets = torch.rand(6, 1, 8, 8, generator=torch.Generator().manual_seed(0)) * 2 - 1, torch.eye(4)[[0, 1, 2] * 2]
    return made(x, StepDraws(0, 0, 6), targets=targets, fit=FITS[fit], terms=terms)


@pytest.mark.parametrize("kind", LATENTS)
@pytest.mark.parametrize("fit", FITS)
def test_a_fit_trains_its_parts_and_freezes_all_others(kind, fit):
    made = model(kind)
    for frozen in FITS[fit].frozen(made):
        frozen.requires_grad_(False)
    fitted = {part(name) for name, p in made.named_parameters() if p.requires_grad}
    assert fitted == FITTED[fit] & parts(made)
    losses(made, fit)["loss"].backward()
    moved = {part(name) for name, p in made.named_parameters() if p.grad is not None and p.grad.abs().sum() > 0}
    assert moved == fitted
    assert all(p.grad is None for p in made.parameters() if not p.requires_grad)


@pytest.mark.parametrize(
    ("fit", "found"),
    [
        ("all", {"loss", "reconstruction", "divergence", "near", "accuracy"}),
        ("autoencoder", {"loss", "reconstruction", "near", "accuracy"}),
        ("decoder", {"loss", "reconstruction", "near"}),
        ("prior", {"loss", "divergence"}),
    ],
)
def test_a_loss_that_trains_nothing_is_not_computed(fit, found):
    made = model("codes")
    terms = {"near": lambda y, x, draws: (y - x).abs().mean()}
    asked = losses(made, fit, terms)
    assert {*asked} == found
    asked["loss"].backward()
    parts = sum(asked[name] for name in found - {"loss", "accuracy"})
    if "accuracy" not in found:
        torch.testing.assert_close(asked["loss"].detach(), parts)
    else:
        assert asked["loss"] > parts  # the head's share


@pytest.mark.parametrize("fit", FITS)
def test_an_autoencoders_losses_do_not_depend_on_its_prior(fit):
    one = model("codes")
    other = copy.deepcopy(one)
    with torch.no_grad():
        for p in other.latent.prior.parameters():
            p.add_(1.0)
    same = torch.equal(losses(one, fit)["loss"], losses(other, fit)["loss"])
    assert same == (fit in ("autoencoder", "decoder"))


def test_a_stage_takes_over_all_weights_but_a_prior_that_it_trains():
    names = [*model("bernoulli").state_dict()]
    for fit in FITS.values():
        left = {part(name) for name in names if not fit.takes_over(name)}
        assert left == ({"latent.prior"} if fit.prior else set()), fit.name
    assert {name: (fit.starts_from_a_run, fit.reconstructs) for name, fit in FITS.items()} == {
        "all": (False, True),
        "autoencoder": (False, True),
        "decoder": (True, True),
        "prior": (True, False),
    }


def test_a_prior_may_begin_with_dropout():
    sizes = {"image_size": 8, "time_steps": 2, "encoder": "8C3s2", "decoder": "8T4s2"}
    made = build({**sizes, "latent": LATENTS["codes"] | {"prior": "DP.5-8C3-8R3"}})
    made(torch.rand(4, 1, 8, 8), StepDraws(0, 0, 4), 0.5)["loss"].backward()
    assert made.sample(range(3)).shape == (3, 1, 8, 8)


def test_a_latent_whose_prior_has_no_weights_has_no_stages():
    made = build(
        {"image_size": 8, "time_steps": 1, "encoder": "8C3s2", "neuron": "relu", "latent": {"kind": "gaussian"}}
    )
    assert [*filter(None, FITS["all"].frozen(made))] == []
    for fit in ("autoencoder", "decoder", "prior"):
        with pytest.raises(ValueError, match=f"fit = '{fit}': the prior of this latent has no weights"):
            FITS[fit].frozen(made)
