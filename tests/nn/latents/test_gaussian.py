import pytest
import torch
from torch.distributions import Normal, kl_divergence

from tcja_gen.nn import Build, Context, GaussianLatent, ImageDraws
from tcja_gen.nn.latents.gaussian import GaussianSettings, kl


def latent(channels: int) -> GaussianLatent:
    return GaussianLatent(GaussianSettings(channels=channels), Context((3, 1, 1), 1, Build(None)))


def test_the_divergence_is_that_of_two_normal_distributions():
    mu, s = torch.randn(1, 7, 5), torch.randn(1, 7, 5)
    wanted = kl_divergence(Normal(mu, (s / 2).exp()), Normal(0.0, 1.0)).sum(-1).mean()
    torch.testing.assert_close(kl(mu, s), wanted)
    assert kl(torch.zeros(1, 3, 5), torch.zeros(1, 3, 5)) == 0


def test_z_has_the_mean_and_the_spread_that_the_encoder_asks_for():
    made, n = latent(2), 4000
    h = torch.tensor([3.0, -1.0, 0.0, -4.0]).expand(1, n, 4)  # mu, then the logarithm of the variance
    z = made.encode(h, ImageDraws(range(n)))
    assert z.shape == (1, n, 2)
    torch.testing.assert_close(z.mean((0, 1)), torch.tensor([3.0, -1.0]), atol=0.05, rtol=0)
    torch.testing.assert_close(z.std((0, 1)), torch.tensor([1.0, 0.1353]), atol=0.05, rtol=0)
    z = made.sample(ImageDraws(range(n)))
    assert z.shape == (1, n, 2) and z.mean().abs() < 0.05 and z.std().item() == pytest.approx(1, abs=0.05)


def test_the_way_between_two_images_is_straight():
    z0, z1 = torch.zeros(1, 3), torch.tensor([[1.0, -2.0, 4.0]])
    z = latent(3).between(z0, z1, torch.tensor([0.0, 0.25, 1.0]), ImageDraws([0]))
    assert z.tolist() == [[[0, 0, 0]], [[0.25, -0.5, 1.0]], [[1, -2, 4]]]
