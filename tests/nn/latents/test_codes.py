import copy
import math

import pytest
import torch

from tcja_gen.nn import CodeLatent, CodeSettings, Context, ImageDraws, StepDraws
from tcja_gen.nn.latents.masked_prior import ORDERS, coarse_to_fine

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


@pytest.fixture(scope="module")
def fitted_to_any_order() -> CodeLatent:
    return trained(noise=0.1, random_masks=0.5, group=1)


def test_tokens_are_the_bits_of_a_place_and_back():
    model = latent()
    z = (torch.rand(T, 3, L, *SIDES) < 0.5).float()
    tokens = model.tokens(z)
    assert tokens.shape == (3, P, 1)
    assert tokens[1, 5] == z[0, 1, 0, 1, 1] + 2 * z[1, 1, 0, 1, 1]  # place 5 is row 1, column 1
    assert torch.equal(model.codes(tokens), z)


def test_a_long_token_is_the_bits_of_each_time_step_in_turn():
    model = latent(channels=7)
    z = (torch.rand(T, 3, 7, *SIDES) < 0.5).float()
    tokens = model.tokens(z)
    assert tokens.shape == (3, P, T) and torch.equal(model.codes(tokens), z)
    assert tokens[1, 5, 1] == (z[1, 1, :, 1, 1] * 2 ** torch.arange(7)).sum()


def test_a_prior_learns_the_joint_distribution_of_codes_not_their_marginals(fitted):
    tokens = fitted.tokens(fitted.sample(ImageDraws(range(400))))[..., 0]
    alike = (tokens == tokens[:, :1]).all(1)
    assert alike.float().mean() > 0.85  # independent tokens would agree in (3/4)^8 + (1/4)^8 = 10 % of the images
    assert {*tokens[alike][:, 0].unique().tolist()} == {0, 3}
    assert abs((tokens[alike][:, 0] == 3).float().mean().item() - 0.25) < 0.1


def test_all_in_one_round_tokens_are_independent(fitted):
    model = copy.deepcopy(fitted)
    model.rounds = 1
    tokens = model.tokens(model.sample(ImageDraws(range(400))))[..., 0]
    assert (tokens == tokens[:, :1]).all(1).float().mean() < 0.4


@pytest.mark.parametrize(
    "rounds, settings",
    [
        (4, {}),
        (2, {}),
        (1, {}),
        (4, {"temperature": 0.7}),
        (4, {"group": 1}),
        (2, {"group": 1, "temperature": 0.7}),
        (4, {"group": 1, "order": "shuffled"}),
        (4, {"group": 1, "classes": 3, "class_dropout": 0.1, "guidance": 2.0}),
    ],
)
def test_the_probabilities_of_all_codes_sum_to_one_however_they_are_drawn(rounds, settings):
    model = latent((2, 2), prior="16C3-16R3", rounds=rounds, **settings).eval()
    y = torch.eye(3)[torch.ones(256, dtype=torch.long)] if model.classes else None
    with torch.no_grad():
        every = torch.cartesian_prod(*[torch.arange(4)] * 4)[..., None]
        if model.groups == 2:
            every = torch.cat([every % 2, every // 2], 2)
        p = model.nats(model.codes(every), y).neg().exp()
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
    a, b = (model.prior(model.codes(x[..., None]).transpose(0, 1).flatten(1, 2), known) for x in (tokens, others))
    assert a.shape == (5, P, 1, 4) and torch.equal(a, b)


def test_a_group_of_bits_never_looks_at_later_ones():
    model = latent(channels=3, group=2).eval()
    bits = (torch.rand(5, P, 6) < 0.5).float()
    rates = torch.rand(5, P, 32)
    for g in range(3):
        others = bits.clone()
        others[..., 2 * g :] = 1 - others[..., 2 * g :]
        assert torch.equal(*(model.prior.logits_of(g, rates, b) for b in (bits, others)))
        if g:
            others[..., : 2 * g] = 1 - others[..., : 2 * g]
            assert not torch.equal(*(model.prior.logits_of(g, rates, b) for b in (bits, others)))


def test_layers_of_groups_see_equally_many_places_in_every_process():
    model, seen = latent(group=1), []  # in training, where their statistics are those of all processes
    model.prior.hidden.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0].shape[1]))
    for step in range(3):
        model.infer(codes(5), StepDraws(0, step, 5))
    assert set(seen) == {5 * len(model.rank)}


def test_bits_at_the_same_place_are_predicted_given_each_other():
    model = trained(group=1)
    z = model.sample(ImageDraws(range(400)))
    assert (z[0] == z[1]).float().mean() > 0.97
    alike = (z == z[:1, :, :, :1, :1]).all(0).flatten(1).all(1)
    assert alike.float().mean() > 0.8


def test_noise_and_random_masks_leave_the_targets_alone(fitted_to_any_order):
    model = copy.deepcopy(fitted_to_any_order)
    for order in ORDERS:
        model.sample_by(order=order)
        z = model.sample(ImageDraws(range(400)))
        assert (z == z[:1, :, :, :1, :1]).all(0).flatten(1).all(1).float().mean() > 0.75, order
    with pytest.raises(ValueError, match="random_masks allows any"):
        latent().sample_by(order="rows")


def test_tokens_that_are_drawn_again_fit_each_other_better(fitted_to_any_order):
    model = copy.deepcopy(fitted_to_any_order)
    shares = []
    for sweeps in (0, 1, 3):
        model.sample_by(rounds=2, sweeps=sweeps)
        z = model.sample(ImageDraws(range(400)))
        shares.append((z == z[:1, :, :, :1, :1]).all(0).flatten(1).all(1).float().mean().item())
    assert shares[0] + 0.1 < shares[1] < shares[2] + 0.1, shares
    assert model.sampling["sweeps"] == 3
    z = model.sample(ImageDraws(range(8)))
    assert torch.equal(z[:, [5]], model.sample(ImageDraws([5])))  # whatever the others of its batch are
    with pytest.raises(ValueError, match="no known likelihood"):
        model.nats(z)
    with pytest.raises(ValueError, match="the prior never knew later places"):
        latent().sample_by(sweeps=1)


def test_guidance_makes_the_class_clearer_and_zero_changes_nothing():
    model = trained(steps=60, classes=2, class_dropout=0.3)
    y = torch.nn.functional.one_hot(torch.ones(300, dtype=torch.long), 2).float()
    plain = model.sample(ImageDraws(range(300)), y)
    shares = []
    for w in (0.0, 1.0, 3.0):
        model.sample_by(guidance=w, guided_rounds=1.0)
        z = model.sample(ImageDraws(range(300)), y)
        shares.append(z.mean().item())
        assert w or torch.equal(z, plain)
    assert shares[0] <= shares[1] <= shares[2] and shares[2] > shares[0]
    assert model.sampling["guidance"] == 3.0


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"temprature": 0.5}, "'temprature' is no setting of sampling"),
        ({"rounds": 2.5}, "rounds is 2.5, it must be a whole number"),
        ({"sweeps": "1"}, "sweeps is '1', it must be a whole number"),
    ],
)
def test_sampling_is_changed_by_what_can_be_and_nothing_else(settings, message):
    model = latent(channels=7, random_masks=0.5)
    before = model.sampling
    with pytest.raises(ValueError, match=message):
        model.sample_by(**settings)
    assert model.sampling == before


@pytest.mark.parametrize(("rounds", "share"), [(4, 0.01), (1, 0.4), (4, 0.5), (4, 1.0)])
def test_guidance_guides_one_round_at_least(rounds, share):
    model = latent(channels=7, classes=2, class_dropout=0.3, guidance=1.0, rounds=rounds, guided_rounds=share)
    assert model.rounds - model.first_guided_round == max(1, round(rounds * share))


def test_an_image_does_not_depend_on_the_others_of_its_batch():
    model = latent(channels=7, classes=2, class_dropout=0.3, guidance=1.0).eval()
    y = torch.eye(2)[torch.arange(6) % 2]
    z = model.sample(ImageDraws([3, 4, 5, 3, 4, 5]), y)
    assert torch.equal(z[:, [2]], model.sample(ImageDraws([5]), y[[2]]))
    assert torch.equal(z[:, [0]], model.sample(ImageDraws([3]), y[[0]]))


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
    tokens = model.tokens(model.sample(ImageDraws(range(400))))[..., 0]
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
        ({"channels": 13}, "tokens of 26 bits, predicted in groups of 13; model.latent.group must divide 26"),
        ({"channels": 3, "group": 4}, "must divide 6"),
        ({"order": "spiral"}, "unknown order 'spiral'"),
        ({"guidance": 1.0}, "no meaning without conditional"),
        ({"guidance": 1.0, "classes": 2}, "class_dropout is for that"),
        ({"rounds": 9}, "9 rounds for 8 places"),
        ({"prior": "16C3s2", "rounds": 1}, "the codes have"),
    ],
)
def test_settings_that_cannot_be_are_told_in_one_line(settings, message):
    with pytest.raises(ValueError, match=message):
        latent(**settings)
