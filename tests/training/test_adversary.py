"""The discriminator: what it learns, and what it teaches."""

import pytest
import torch

from tcja_gen.data import load
from tcja_gen.models import Generator
from tcja_gen.nn import StepDraws, set_memory
from tcja_gen.training.adversary import Adversarial, Adversary


def adversary(weight: float = 0.5, noise: float = 0.3, neuron: str = "tcja", time_steps: int = 3) -> Adversary:
    torch.manual_seed(0)
    model = Generator(image_size=8, image_channels=1, time_steps=time_steps, neuron=neuron)
    return Adversary(Adversarial(weight, "8C3s2-TCJA-16C3s2", noise), model)


def digits(n: int, first: int = 0) -> torch.Tensor:
    return load("digits", "train").images[first : first + n].float() / 127.5 - 1


@pytest.mark.parametrize("memory", ["speed", "recompute"])
def test_each_side_learns_by_its_own_loss(memory):
    """The generator by the judgement of its images, the discriminator by the hinge loss; neither by the other's."""
    a, x = set_memory(adversary(), memory), digits(16)
    y = (0.5 * digits(16, 16)).requires_grad_()
    a(y, x, StepDraws(0, 0, 16)).backward()
    found = [p.grad.clone() for p in a.parameters()]
    a.zero_grad()
    draws, noisy = StepDraws(0, 0, 16), []
    for images in (x, y):
        noisy.append(images + 0.3 * draws.normal(*x.shape[1:]))
    real, made = a.discriminator.outputs(torch.cat(noisy)).mean(0)[:, 0].chunk(2)
    (of_y,) = torch.autograd.grad(-0.5 * made.mean(), y, retain_graph=True)
    of_d = torch.autograd.grad((1 - real).relu().mean() + (1 + made).relu().mean(), [*a.parameters()])
    assert of_y.abs().max() > 0
    torch.testing.assert_close(y.grad, of_y)
    for one, other in zip(found, of_d, strict=True):
        torch.testing.assert_close(one, other)


@pytest.mark.parametrize("model", [{}, {"neuron": "relu", "time_steps": 1}])
def test_a_discriminator_learns_to_tell_blurred_digits_from_sharp_ones(model):
    a = adversary(weight=1e-9, **model)  # its own loss alone
    optimizer = torch.optim.AdamW(a.parameters(), 5e-3)
    losses = []
    for step in range(40):
        x, sharp = digits(64, 8 * step), digits(64, 8 * step + 400)
        blurred = torch.nn.functional.avg_pool2d(sharp, 3, 1, 1)
        loss = a(blurred, x, StepDraws(0, step, 64))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[0] > 1.5 and sum(losses[-5:]) / 5 < 0.8


def test_noise_is_of_the_step_and_of_the_image():
    a, x = adversary(), digits(6)
    with torch.no_grad():
        first, again, other = (a(x, x, StepDraws(0, step, 6)) for step in (3, 3, 4))
        still = adversary(noise=0.0)
        quiet = [still(x, x, StepDraws(0, step, 6)) for step in (3, 4)]
    assert first == again != other
    assert quiet[0] == quiet[1]
