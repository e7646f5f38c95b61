import copy

import pytest
import torch
from torch.distributions import Bernoulli, kl_divergence

from tcja_gen.nn import (
    BernoulliLatent,
    BernoulliSettings,
    Build,
    Context,
    ImageDraws,
    Neuron,
    ScheduledSampling,
    StepDraws,
)
from tcja_gen.nn.latents.bernoulli import choose, kl, mmd, mmd_sum, psp

T, N, L, K = 6, 9, 5, 4
NEVER = ScheduledSampling(0.0, 0.0, T)


def spikes(*shape: int, seed: int = 0) -> torch.Tensor:
    return (torch.rand(shape, generator=torch.Generator().manual_seed(seed)) < 0.4).float()


def latent(neuron: str = "tcja", steps: int = T, **settings) -> BernoulliLatent:
    """A latent that has seen some batches, so that its running statistics mean something."""
    torch.manual_seed(0)
    context = Context((L, 1, 1), steps, Build(Neuron.preset(neuron)))
    made = BernoulliLatent(BernoulliSettings(channels=L, k=K, **settings), context)
    for step in range(20):
        made.infer(spikes(steps, 32, L, seed=step), StepDraws(0, step, 32))
    return made


def constant(net: torch.nn.Module, current: float) -> None:
    """Makes every bit of a net 1 (a large current) or 0 (a negative one)."""
    with torch.no_grad():
        net.blocks[-1].neurons.weight.zero_()
        net.blocks[-1].neurons.bias.fill_(current)


def fed_to_prior(model: BernoulliLatent, h: torch.Tensor, draws: StepDraws) -> torch.Tensor:
    """z_0 .. z_{T-1} as the prior sees them in training."""
    seen = []
    hook = model.prior.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    model.infer(h, draws)
    hook.remove()
    return seen[-1]


def test_one_of_k_takes_the_bit_c_k_plus_j():
    bits, j = torch.rand(3, 2, L, K), torch.randint(K, (3, 2, L))
    flat = bits.flatten(-2)  # channel c k + j
    picked = choose(bits, j)
    for index in torch.cartesian_prod(torch.arange(3), torch.arange(2), torch.arange(L)).tolist():
        t, n, c = index
        assert picked[t, n, c] == flat[t, n, c * K + j[t, n, c]]


def test_psp_is_its_closed_form():
    p = torch.rand(T, N, L)
    for t in range(T):
        wanted = sum(0.5 ** (t - i + 1) * p[i] for i in range(t + 1))
        torch.testing.assert_close(psp(p)[t], wanted)


def test_mmd_is_its_closed_form():
    q, p = torch.zeros(2, 1, 1), torch.ones(2, 1, 1)  # PSP of ones: 1/2, 3/4
    assert mmd(q, p).item() == pytest.approx((0.25 + 0.5625) / 2)
    q, p = torch.rand(T, N, L), torch.rand(T, N, L)
    torch.testing.assert_close(mmd_sum(q, p), mmd(q, p) * T * L)
    assert mmd(q, q) == 0 and mmd_sum(q, q) == 0


def test_kl_is_its_closed_form():
    q, p = torch.rand(T, N, L) * 0.8 + 0.1, torch.rand(T, N, L) * 0.8 + 0.1
    wanted = kl_divergence(Bernoulli(q), Bernoulli(p)).sum((0, 2)).mean()
    torch.testing.assert_close(kl(q, p, eps=0.0), wanted)
    assert kl(q, q) == 0
    certain = kl(torch.ones(1, 1, 1), torch.zeros(1, 1, 1))
    assert certain.item() == pytest.approx(torch.tensor(1.01 / 0.01).log().item(), rel=1e-5)


@pytest.mark.parametrize("neuron", ["tcja", "tet", "fsvae"])
def test_drawing_step_by_step_equals_drawing_every_prefix_anew_in_evaluation(neuron):
    model = latent(neuron).eval()
    h, results = spikes(T, N, L), []
    for passes in ("steps", "prefixes"):
        model.passes = passes
        results.append(model.infer(h, ImageDraws(range(N))))
    (z, divergence), (other, other_divergence) = results
    assert torch.equal(z, other) and 0 < z.mean() < 1
    torch.testing.assert_close(divergence, other_divergence)


@pytest.mark.parametrize("neuron", ["tcja", "tet", "fsvae"])
def test_what_the_posterior_is_fed_back_is_what_it_returns_in_evaluation(neuron):
    model, seen = latent(neuron).eval(), []
    model.posterior.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    z, _ = model.infer(spikes(T, N, L), ImageDraws(range(N)))
    fed = seen[-1][..., L:]
    assert (fed[0] == 0).all() and torch.equal(fed[1:], z[:-1])


@pytest.mark.parametrize("neuron", ["tcja", "tet", "fsvae"])
@torch.no_grad()
def test_sampling_equals_a_prior_that_runs_every_prefix_anew(neuron):
    model = latent(neuron).eval()
    j = (ImageDraws(range(N)).uniform(T, L) * K).long().transpose(0, 1)
    z = [torch.zeros(N, L)]
    for t in range(T):
        z.append(choose(model.prior(torch.stack(z))[-1], j[t]))
    ours = model.sample(ImageDraws(range(N)))
    assert torch.equal(ours, torch.stack(z[1:])) and 0 < ours.mean() < 1


def test_training_reaches_every_parameter_and_the_encoder():
    model, x = latent(), spikes(T, N, L, 1, 1).requires_grad_()
    model.zero_grad()
    z, divergence = model.infer(model.enter(x), StepDraws(0, 0, N))
    (z.sum() + divergence).backward()
    assert x.grad.abs().sum() > 0
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())


def test_passes_by_steps_update_the_running_statistics_once_and_by_prefixes_every_time():
    """FSVAE's code normalises each of the T - 1 prefixes by its own statistics."""
    counts = {}
    for passes in ("steps", "prefixes"):
        model = latent(passes=passes, scheduled=NEVER)
        counts[passes] = {"posterior": 0, "prior": 0}
        for name in ("posterior", "prior"):

            def count(net, _, __, passes=passes, name=name):
                counts[passes][name] += net.training

            getattr(model, name).register_forward_hook(count)
        model.infer(spikes(T, N, L), StepDraws(0, 0, N))
    assert counts == {"steps": {"posterior": 1, "prior": 1}, "prefixes": {"posterior": T, "prior": 1}}


@pytest.mark.parametrize("passes", ["steps", "prefixes"])
@pytest.mark.parametrize("replace", ["draw", "vote"])
@pytest.mark.parametrize(("probability", "first"), [(0.0, 0), (1.0, 0), (1.0, 2), (1.0, T - 2)])
def test_scheduled_sampling_replaces_from_its_first_step_on(passes, replace, probability, first):
    model = latent(passes=passes, scheduled=ScheduledSampling(probability, probability, first, replace))
    constant(model.posterior, -5.0)
    constant(model.prior, 5.0)
    seen = fed_to_prior(model, spikes(T, N, L), StepDraws(0, 0, N))
    assert seen.shape == (T, N, L) and (seen[0] == 0).all()
    replaced = seen[1:].mean((1, 2)).tolist()  # z_1 .. z_{T-1}
    assert replaced == [float(probability and t >= first) for t in range(T - 1)]


def test_scheduled_sampling_replaces_as_often_as_its_probability_says():
    plan = ScheduledSampling(start=0.2, end=0.6, first=0)
    assert [plan.probability(p) for p in (0.0, 0.5, 1.0)] == pytest.approx([0.2, 0.4, 0.6])
    model = latent(scheduled=plan)
    constant(model.posterior, -5.0)
    constant(model.prior, 5.0)
    for progress, wanted in ((0.0, 0.2), (1.0, 0.6)):
        seen = []
        hook = model.prior.register_forward_pre_hook(lambda _, inputs, seen=seen: seen.append(inputs[0]))
        model.infer(spikes(T, 800, L), StepDraws(0, 0, 800), progress)
        hook.remove()
        rows = seen[0][1:]  # images of 800 that took the prior's z, at each step
        assert ((rows == 0) | (rows == 1)).all() and (rows.amin(-1) == rows.amax(-1)).all()
        assert rows.mean().item() == pytest.approx(wanted, abs=0.03)


def test_one_vote_decides_for_the_whole_batch_and_draws_decide_for_each_image():
    for replace, kinds in (("vote", 1), ("draw", 2)):
        model = latent(scheduled=ScheduledSampling(0.5, 0.5, 0, replace))
        constant(model.posterior, -5.0)
        constant(model.prior, 5.0)
        seen = fed_to_prior(model, spikes(T, 64, L), StepDraws(0, 0, 64))
        assert [len(row.unique()) for row in seen[1:]] == [kinds] * (T - 1)


@pytest.mark.parametrize("replace", ["draw", "vote"])
def test_the_priors_own_z_is_a_majority_or_one_of_its_bits(replace):
    model = latent("tet", scheduled=ScheduledSampling(1.0, 1.0, 0, replace))
    with torch.no_grad():
        model.prior.blocks[-1].neurons.bias += 0.4  # some of the k bits, not all or none
    prior = copy.deepcopy(model.prior).eval()  # draws are made by the running statistics of before
    seen = fed_to_prior(model, spikes(T, N, L), StepDraws(0, 0, N))
    with torch.no_grad():
        mean = prior(seen).mean(-1)  # of the k bits, at every step
    for t in range(T - 1):
        if replace == "vote":
            decided = mean[t] != 0.5
            assert torch.equal(seen[t + 1][decided], (mean[t] > 0.5).float()[decided])
        else:
            assert (seen[t + 1][mean[t] == 1] == 1).all() and (seen[t + 1][mean[t] == 0] == 0).all()
    assert ((mean > 0) & (mean < 1)).any()


@pytest.mark.parametrize("passes", ["steps", "prefixes"])
@pytest.mark.parametrize("replace", ["draw", "vote"])
def test_processes_mix_as_one_does_even_where_only_some_have_an_image_to_replace(passes, replace):
    model = latent(passes=passes, scheduled=ScheduledSampling(0.3, 0.3, 0, replace))
    model.posterior.eval()
    if passes == "prefixes":
        model.prior.eval()  # else a prefix is normalised by a process's own images
    h = spikes(T, 4, L)
    whole = fed_to_prior(copy.deepcopy(model), h, StepDraws(0, 3, 4))
    for rank in (0, 1):
        part = fed_to_prior(copy.deepcopy(model), h[:, rank::2], StepDraws(0, 3, 4, rank, 2))
        assert torch.equal(part, whole[:, rank::2])


def test_evaluation_draws_nothing_for_scheduled_sampling():
    model = latent(scheduled=ScheduledSampling(1.0, 1.0, 0)).eval()
    z, _ = model.infer(spikes(T, N, L), ImageDraws(range(N)))
    other, _ = latent(scheduled=NEVER).eval().infer(spikes(T, N, L), ImageDraws(range(N)))
    assert z.shape == other.shape == (T, N, L)
    seen = fed_to_prior(model, spikes(T, N, L), ImageDraws(range(N)))
    assert torch.equal(seen[1:], z[:-1])


@pytest.mark.parametrize(
    ("call", "named"),
    [
        (lambda: BernoulliSettings(divergence="jsd"), "'jsd'; known: mmd, mmd-sum, kl"),
        (lambda: BernoulliSettings(passes="twice"), "'twice'; known: steps, prefixes"),
        (lambda: latent(scheduled=ScheduledSampling(1.0, 1.0, T)), "no effect with time_steps = 6 and scheduled.first"),
        (lambda: latent(steps=4, scheduled=ScheduledSampling(end=0.5)), "the last step that may be replaced is 2"),
        (lambda: latent(conditional=True), "needs classes, and the data have no labels"),
        (lambda: ScheduledSampling(replace="mean"), "'mean'; known: draw, vote"),
    ],
)
def test_a_wrong_setting_is_named(call, named):
    with pytest.raises(ValueError, match=named):
        call()
