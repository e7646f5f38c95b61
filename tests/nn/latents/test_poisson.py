import pytest
import torch

from tcja_gen.nn import Context, ImageDraws, PoissonLatent, StepDraws, latent_settings, make_latent
from tcja_gen.nn.latents.poisson import PoissonSettings, rates, rbf_mmd

T, N, L = 16, 9, 5


def numbers(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed))


def latent(steps: int = T) -> PoissonLatent:
    torch.manual_seed(0)
    return PoissonLatent(PoissonSettings(channels=L), Context((L, 1, 1), steps))


def test_the_discrepancy_is_the_double_loop_of_its_definition():
    q, p = numbers(4, L), numbers(4, L, seed=1) * 0.5
    rows = [*q, *p]
    d = [[(a - b).square().sum().item() for b in rows] for a in rows]
    bandwidth = sum(map(sum, d)) / (8 * 8 - 8) / 4
    k = torch.tensor([[sum(torch.tensor(-x / (bandwidth * 2**m)).exp() for m in range(5)) for x in row] for row in d])
    wanted = k[:4, :4].mean() + k[4:, 4:].mean() - k[:4, 4:].mean() - k[4:, :4].mean()
    torch.testing.assert_close(rbf_mmd(q, p), wanted)
    assert abs(rbf_mmd(q, q[[2, 0, 3, 1]]).item()) < 1e-5 < rbf_mmd(q, p)


def test_the_bandwidth_takes_no_gradient():
    q, p = numbers(4, L).requires_grad_(), numbers(4, L, seed=1)
    (g,) = torch.autograd.grad(rbf_mmd(q, p), q)
    both = torch.cat([q.detach(), p])
    bandwidth = torch.cdist(both, both).square().sum() / 56 / 4
    free = q.detach().clone().requires_grad_()
    both = torch.cat([free, p])
    d = (both[:, None] - both).square().sum(-1)
    k = sum(torch.exp(-d / (bandwidth * 2**m)) for m in range(5))
    (k[:4, :4].mean() + k[4:, 4:].mean() - 2 * k[:4, 4:].mean()).backward()
    torch.testing.assert_close(g, free.grad)


def test_rates_that_are_all_the_same_do_not_break_the_discrepancy():
    q = torch.zeros(3, L, requires_grad=True)
    loss = rbf_mmd(q, torch.zeros(3, L))
    loss.backward()
    assert loss == 0 and q.grad.isfinite().all()


def test_spikes_come_as_often_as_the_rate_says_and_at_any_step():
    h = (numbers(T, 400, L) < torch.linspace(0, 1, L)).float()
    z = latent().encode(h, ImageDraws(range(400)))
    assert z.shape == h.shape and set(z.unique().tolist()) == {0.0, 1.0}
    torch.testing.assert_close(z.mean((0, 1)), h.mean((0, 1)), atol=0.02, rtol=0)
    assert (z[..., 0] == 0).all() and (z[..., -1] == 1).all()
    assert torch.equal(z, latent().encode(h.flip(0), ImageDraws(range(400))))  # when h fired is forgotten


def test_the_gradient_of_a_spike_is_a_box_around_its_rate():
    h = (numbers(T, N, L) < 0.5).float().requires_grad_()
    z = latent().encode(h, ImageDraws(range(N)))
    z.sum().backward()
    u = ImageDraws(range(N)).uniform(T, L).transpose(0, 1)
    near = ((rates(h) - u).abs() < 0.5).float()
    torch.testing.assert_close(h.grad, near.sum(0).expand(T, N, L) / T)


def test_the_prior_is_a_squashed_gaussian_and_only_the_divergence_trains_it():
    model = latent()
    with torch.no_grad():
        model.prior.weight.zero_()
        model.prior.bias.fill_(2.0)
    assert model.sample(ImageDraws(range(500))).mean().item() == pytest.approx(0.881, abs=0.01)
    model = latent()
    h = (numbers(T, N, L) < 0.5).float().requires_grad_()
    z, divergence = model.infer(h, StepDraws(0, 0, N))
    z.sum().backward(retain_graph=True)
    assert model.prior.weight.grad is None
    h.grad = None
    divergence.backward()
    assert model.prior.weight.grad.abs().sum() > 0 < h.grad.abs().sum()


def test_training_the_prior_brings_its_samples_to_the_posteriors_rates():
    model = latent()
    optimizer = torch.optim.Adam(model.parameters(), 0.05)
    wanted = torch.tensor([0.1, 0.3, 0.5, 0.7, 0.9])
    for step in range(150):
        h = (numbers(T, 64, L, seed=step) < wanted).float()
        optimizer.zero_grad()
        model.infer(h, StepDraws(0, step, 64))[1].backward()
        optimizer.step()
    found = model.sample(ImageDraws(range(400))).mean((0, 1))
    torch.testing.assert_close(found, wanted, atol=0.06, rtol=0)


@pytest.mark.parametrize("kind", ["poisson", "bernoulli"])
def test_halfway_between_two_images_every_bit_has_its_mean_rate(kind):
    """From rates 0 to .5: .25. A bit and the moment of its change must not hang together, though seeds are the same."""
    torch.manual_seed(0)
    bits = {"k": 4} if kind == "bernoulli" else {}
    latent = make_latent(latent_settings()[kind](channels=50, **bits), Context((50, 1, 1), 10)).eval()
    h, rates = torch.zeros(10, 2, 50), []
    h[::2, 1] = 1.0
    for seed in range(40):
        z = latent.encode(h, ImageDraws([seed, seed]))
        if kind == "bernoulli":  # of four bits two are 1
            j = latent._indices(ImageDraws([seed]))[:, 0]
            z = torch.stack([torch.zeros_like(j), (j < 2).long()], 1).float()
        rates.append(latent.between(z[:, 0], z[:, 1], torch.tensor([0.5]), ImageDraws([seed])).mean())
    assert torch.stack(rates).mean().item() == pytest.approx(0.25, abs=0.015)  # 20,000 bits: 5 standard errors
