import copy
import math

import pytest
import torch

from tcja_gen.nn import CodeLatent, CodeSettings, Context, ImageDraws, StepDraws
from tcja_gen.nn.latents.codes import coarse_to_fine

T, L, SIDES = 2, 1, (2, 4)
P = math.prod(SIDES)
NOTATION = "32C3-32R3[TCJA]"


def latent(sides=SIDES, time_steps: int = T, classes: int = 0, **settings) -> CodeLatent:
    torch.manual_seed(0)
    settings = {"channels": L, "prior": NOTATION, "rounds": math.prod(sides), "conditional": classes > 0, **settings}
    return CodeLatent(CodeSettings(**settings), Context((3, *sides), time_steps, classes=classes))


def codes(n: int, seed: int = 0) -> torch.Tensor:
    """Codes (T, N, L, h, w) of two patterns only: every place of an image has the same token, 0 or 3."""
    one = torch.rand(n, generator=torch.Generator().manual_seed(10_000 + seed)) < 0.25
    return one.float().view(1, n, 1, 1, 1).expand(T, n, L, *SIDES).contiguous()


def trained(steps: int = 300, **settings) -> CodeLatent:
    model = latent(**settings)
    optimizer = torch.optim.AdamW(model.parameters(), 1e-2)
    for step in range(steps):
        optimizer.param_groups[0]["lr"] = 1e-2 * (1 - step / steps)
        z, y = codes(64, step), None
        if model.prior.classes:
            y = torch.nn.functional.one_hot(z[0, :, 0, 0, 0].long(), 2).float()
        _, divergence = model.infer(z, StepDraws(0, step, 64), y=y)
        optimizer.zero_grad()
        divergence.backward()
        optimizer.step()
    return model.eval()


@pytest.fixture(scope="module")
def fitted() -> CodeLatent:
    return trained()


def test_tokens_are_the_bits_of_a_place_and_back():
    model = latent()
    z = (torch.rand(T, 3, L, *SIDES) < 0.5).float()
    tokens = model.tokens(z)
    assert tokens.shape == (3, P)
    assert tokens[1, 5] == z[0, 1, 0, 1, 1] + 2 * z[1, 1, 0, 1, 1]  # place 5 is row 1, column 1
    assert torch.equal(model.bits(tokens).unflatten(1, (T, L)).transpose(0, 1), z)


def test_a_prior_learns_the_joint_distribution_of_codes_not_their_marginals(fitted):
    tokens = fitted.tokens(fitted.sample(ImageDraws(range(400))))
    alike = (tokens == tokens[:, :1]).all(1)
    assert alike.float().mean() > 0.85  # independent tokens would agree in (3/4)^8 + (1/4)^8 = 10 % of the images
    assert {*tokens[alike][:, 0].unique().tolist()} == {0, 3}
    assert abs((tokens[alike][:, 0] == 3).float().mean().item() - 0.25) < 0.1


def test_all_in_one_round_tokens_are_independent(fitted):
    model = copy.deepcopy(fitted)
    model.rounds = 1
    tokens = model.tokens(model.sample(ImageDraws(range(400))))
    assert (tokens == tokens[:, :1]).all(1).float().mean() < 0.4


@pytest.mark.parametrize("rounds, temperature", [(4, 1.0), (2, 1.0), (1, 1.0), (4, 0.7)])
def test_the_probabilities_of_all_codes_sum_to_one_however_they_are_drawn(rounds, temperature):
    model = latent((2, 2), prior="16C3-16R3", rounds=rounds, temperature=temperature).eval()
    with torch.no_grad():
        every = model.bits(torch.cartesian_prod(*[torch.arange(4)] * 4)).unflatten(1, (2, 1)).transpose(0, 1)
        p = model.nats(every).neg().exp()
    assert len(p) == 256 and p.sum().item() == pytest.approx(1, abs=1e-4) and p.max() > 2 * p.min()


def test_what_is_drawn_often_is_what_costs_little(fitted):
    with torch.no_grad():
        nats = fitted.nats(codes(200))
    ones = codes(200)[0, :, 0, 0, 0] == 1
    assert nats[~ones].mean().item() == pytest.approx(-math.log(0.75), abs=0.3)
    assert nats[ones].mean().item() == pytest.approx(-math.log(0.25), abs=0.5)


def test_a_prior_of_classes_makes_the_class_asked_for():
    model = trained(classes=2)
    for c, token in ((0, 0), (1, 3)):
        y = torch.nn.functional.one_hot(torch.full((64,), c), 2).float()
        assert (model.tokens(model.sample(ImageDraws(range(64)), y)) == token).float().mean() > 0.97
    with pytest.raises(ValueError, match="2 classes, but was given none"):
        model.sample(ImageDraws([0]))


def test_the_prior_never_looks_at_what_is_unknown():
    model = latent().eval()
    known = model.rank.expand(5, -1) < 3
    tokens = torch.randint(4, (5, P))
    others = torch.where(known, tokens, torch.randint(4, (5, P)))
    a, b = (model.prior(model.bits(x), known) for x in (tokens, others))
    assert a.shape == (5, P, 4) and torch.equal(a, b)


def test_flipped_bits_are_met_in_training_alone_and_are_not_what_is_to_be_named():
    model, z = latent(flips=0.1), codes(200)
    assert torch.equal(model.eval().encode(z, StepDraws(0, 0, 200)), z)
    asked = z.clone().requires_grad_()
    met = model.train().encode(asked, StepDraws(0, 0, 200))
    met.sum().backward()
    assert 0.08 < (met != z).float().mean() < 0.12 and {*met.unique().tolist()} == {0, 1}
    assert torch.equal(asked.grad, torch.ones_like(z))  # as if nothing was flipped
    with pytest.raises(ValueError, match="flips is 0.5"):
        latent(flips=0.5)


def test_a_prior_that_met_flipped_bits_still_names_the_codes_themselves():
    model = trained(flips=0.1)
    tokens = model.tokens(model.sample(ImageDraws(range(400))))
    assert (tokens == tokens[:, :1]).all(1).float().mean() > 0.8


def test_the_divergence_moves_the_prior_alone():
    z = codes(8).requires_grad_()
    model = latent()
    returned, divergence = model.infer(z, StepDraws(0, 0, 8))
    divergence.backward()
    assert returned is z and z.grad is None and model.prior.logits.weight.grad.abs().sum() > 0


def test_an_untrained_prior_costs_the_entropy_of_uniform_tokens():
    model = latent()
    with torch.no_grad():
        model.prior.logits.weight.zero_(), model.prior.logits.bias.zero_()
    assert model.infer(codes(8), StepDraws(0, 0, 8))[1].item() == pytest.approx(math.log(2 ** (T * L)), rel=1e-5)


@pytest.mark.parametrize("rounds", [1, 3, P])
def test_every_place_is_filled_in_once_and_each_round_fills_some(rounds):
    ends = latent(rounds=rounds)._ends()
    assert len(ends) == rounds and ends[-1] == P and all(b > a for a, b in zip([0, *ends], ends, strict=False))


@pytest.mark.parametrize("sides", [(4, 4), (7, 7), (3, 5)])
def test_the_order_goes_from_coarse_to_fine(sides):
    ranks = coarse_to_fine(*sides)
    assert sorted(ranks.flatten().tolist()) == [*range(math.prod(sides))]
    places = [tuple((ranks == rank).nonzero()[0].tolist()) for rank in range(4)]
    assert all(max(abs(a - c), abs(b - d)) >= 2 for a, b in places for c, d in places if (a, b) != (c, d))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"channels": 7}, "tokens of 14 bits; at most 12"),
        ({"rounds": 9}, "9 rounds for 8 places"),
        ({"prior": "16C3s2", "rounds": 1}, "the codes have"),
    ],
)
def test_settings_that_cannot_be_are_told_in_one_line(settings, message):
    with pytest.raises(ValueError, match=message):
        latent(**settings)
