import copy

import pytest
import torch
import torch.nn.functional as F

from tcja_gen.nn import Build, Neuron, NormLIF, fuse, lif
from tcja_gen.nn.kernels.cpu import compiler
from tcja_gen.nn.layers import linear_block


def numbers(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def layer(preset: str, channels: int, alpha: float = 1.0) -> NormLIF:
    """A layer that has already learned something: no parameter or statistic at its start value."""
    made = NormLIF(channels, Neuron.preset(preset), alpha)
    with torch.no_grad():
        made.weight += 0.2 * numbers(channels, seed=1)
        made.bias += 0.3 * made.scale * numbers(channels, seed=2)
        made.running_mean += 0.5 * numbers(channels, seed=3)
        made.running_var *= 1 + numbers(channels, seed=4).abs()
    return made


def reference(norm: NormLIF, x: torch.Tensor) -> torch.Tensor:
    """The same from PyTorch's batch normalisation and the neurons alone; updates the statistics of `norm`."""
    y = F.batch_norm(
        x.flatten(0, 1),
        norm.running_mean,
        norm.running_var,
        norm.weight * norm.scale,
        norm.bias,
        training=norm.training,
        momentum=norm.momentum,
        eps=norm.eps,
    )
    return lif(y.view_as(x), neuron=norm.neuron)


@pytest.mark.parametrize("preset", ["tcja", "tet", "fsvae"])
@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("shape", [(4, 6, 3, 5, 5), (4, 16, 3)])
def test_is_batch_norm_then_neurons(preset, training, shape):
    norm = layer(preset, 3, alpha=2.0).train(training)
    other = copy.deepcopy(norm)
    x = (2 * numbers(*shape) + 0.5).requires_grad_()
    weights = numbers(*shape, seed=5)
    ours, theirs = norm(x), reference(other, x)
    assert torch.equal(ours, theirs)
    assert 0.02 < ours.mean() < 0.98
    a = torch.autograd.grad((ours * weights).sum(), [x, norm.weight, norm.bias])
    b = torch.autograd.grad((theirs * weights).sum(), [x, other.weight, other.bias])
    for ours, theirs in zip(a, b, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(norm.running_mean, other.running_mean)
    torch.testing.assert_close(norm.running_var, other.running_var)


def test_a_static_frame_is_normalised_by_its_own_variance_and_then_fires_T_times():
    norm = layer("tcja", 3)
    other = copy.deepcopy(norm)
    frame = (2 * numbers(6, 3, 4, 4)).requires_grad_()
    spikes = norm(frame, steps=5)
    repeated = frame.detach().expand(5, -1, -1, -1, -1).clone().requires_grad_()
    assert torch.equal(spikes, other(repeated))
    weights = numbers(*spikes.shape, seed=1)
    (spikes * weights).sum().backward()
    (reference(other, repeated) * weights).sum().backward()
    torch.testing.assert_close(frame.grad, repeated.grad.sum(0), rtol=1e-4, atol=1e-5)


def test_the_gain_follows_from_the_neuron():
    gains = {name: NormLIF(1, Neuron.preset(name)).scale for name in ("tcja", "tet", "fsvae")}
    assert gains == {"tcja": 2.0, "tet": 1.0, "fsvae": 0.2}
    assert NormLIF(1, Neuron.preset("fsvae"), alpha=2.0).scale == 0.4


@pytest.mark.parametrize("preset", ["tcja", "tet", "fsvae"])
def test_a_fresh_layer_is_neither_dead_nor_saturated(preset):
    """A normalised current must reach the threshold within a few steps, whatever the neuron divides it by."""
    rate = NormLIF(8, Neuron.preset(preset))(7 * numbers(4, 64, 8) + 3).mean()
    assert 0.1 < rate < 0.4


@pytest.mark.parametrize("preset", ["tcja", "tet", "fsvae"])
def test_single_steps_equal_the_sequence_bit_for_bit_in_evaluation(preset):
    norm = layer(preset, 7).eval()
    x, v, spikes = 2 * numbers(9, 5, 7), None, []
    for frame in x:
        spike, v = norm.step(frame, v)
        spikes.append(spike)
    assert torch.equal(torch.stack(spikes), norm(x))


def test_evaluation_leaves_the_statistics_alone():
    norm = layer("tcja", 3).eval()
    before = copy.deepcopy(norm.state_dict())
    norm(numbers(4, 6, 3))
    norm.step(numbers(6, 3), None)
    assert all(torch.equal(before[name], value) for name, value in norm.state_dict().items())


def test_half_precision_input_is_normalised_in_full_precision():
    x = (3 * numbers(4, 32, 5)).bfloat16()
    half, full = layer("tcja", 5), layer("tcja", 5)
    spikes = half(x)
    assert spikes.dtype == torch.bfloat16
    assert torch.equal(spikes.float(), full(x.float()))
    assert torch.equal(half.running_var, full.running_var)


def test_wrong_channels_are_named():
    with pytest.raises(ValueError, match=r"built for 3 channels.*\(2, 4, 5\)"):
        NormLIF(3)(torch.zeros(2, 4, 5))


@pytest.mark.skipif(not compiler(), reason="there is no C++ compiler")
def test_fused_loops_equal_the_plain_ones():
    plain = layer("tcja", 3)
    fused = fuse(copy.deepcopy(plain))
    assert (plain.path, fused.path) == ("plain", "native")
    x, weights = 2 * numbers(3, 4, 3, 4, 4), numbers(3, 4, 3, 4, 4, seed=1)
    results = []
    for norm in (plain, fused):
        given = x.clone().requires_grad_()
        spikes = norm(given)
        (spikes * weights).sum().backward()
        results.append([spikes, given.grad, norm.weight.grad, norm.bias.grad, norm.running_mean, norm.running_var])
    for a, b in zip(*results, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5)


@pytest.mark.skipif(not compiler(), reason="there is no C++ compiler")
def test_a_compiled_time_step_is_the_plain_one():
    plain = layer("fsvae", 7).eval()
    fused = fuse(copy.deepcopy(plain))
    x, membranes = 2 * numbers(4, 5, 7), [None, None]
    with torch.no_grad():
        for frame in x:
            spikes = []
            for i, norm in enumerate((plain, fused)):
                spike, membranes[i] = norm.step(frame, membranes[i])
                spikes.append(spike)
            assert torch.equal(*spikes)
            torch.testing.assert_close(*membranes)


def test_a_bias_before_the_normalisation_shows_in_the_running_mean_alone():
    block = linear_block(5, 6, Build(Neuron.preset("tcja")))
    other = copy.deepcopy(block)
    with torch.no_grad():
        other.weights.bias += 3
    x = numbers(4, 16, 5)
    spikes = block(x)
    assert torch.equal(spikes, other(x))
    torch.testing.assert_close(other.neurons.running_mean, block.neurons.running_mean + 0.3)
    spikes.sum().backward()
    assert block.weights.bias.grad.abs().max() == 0
    assert torch.equal(block.eval()(x), other.eval()(x)) is False  # until the running mean has caught up
    for _ in range(200):
        block.train()(x), other.train()(x)
    torch.testing.assert_close(block.eval()(x), other.eval()(x))
