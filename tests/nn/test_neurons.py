import pytest
import torch

from tcja_gen.nn import Neuron, lif, lif_step
from tcja_gen.nn.neurons import PRESETS, surrogate_gradient

NEURONS = [*PRESETS.values(), Neuron(tau=3.0, v_threshold=0.7, v_reset=-0.1, detach_reset=False, surrogate="box")]


def currents(*shape: int) -> torch.Tensor:
    return 1.5 * torch.randn(shape, generator=torch.Generator().manual_seed(0))


def stepwise(x: torch.Tensor, v: torch.Tensor | None, neuron: Neuron) -> torch.Tensor:
    spikes = []
    for frame in x:
        spike, v = lif_step(frame, v, neuron)
        spikes.append(spike)
    return torch.stack(spikes)


def test_fsvae_neuron_fires_as_in_its_code_by_hand():
    x = torch.tensor([0.1, 0.19, 0.2, 0.3, 0.1, 0.5])
    neuron = Neuron.preset("fsvae")
    assert lif(x, neuron=neuron).tolist() == [0, 1, 0, 1, 0, 1]
    v, after = None, []
    for frame in x:
        _, v = lif_step(frame, v, neuron)
        after.append(v.item())
    assert after == pytest.approx([0.1, 0, 0.2, 0, 0.1, 0])


def test_paper_neuron_divides_its_input_and_fires_at_the_threshold():
    # V = 0.5, 0.75, 1.0 (>= 1 fires), 1.0 after the reset
    assert lif(torch.tensor([1.0, 1.0, 1.25, 2.0])).tolist() == [0, 0, 1, 1]


def test_tet_neuron_keeps_its_input_whole_and_fires_above_the_threshold():
    x = torch.tensor([1.0, 0.5, 0.6])  # V = 1.0 (not above 1), 1.0, 1.1
    assert lif(x, neuron=Neuron.preset("tet")).tolist() == [0, 0, 1]
    assert lif(x).tolist() == [0, 0, 0]  # the paper's neuron on the same currents


def test_gradient_flows_through_the_reset_of_fsvae_and_not_of_tcja():
    x = torch.tensor([0.3, 0.1], requires_grad=True)
    (g,) = torch.autograd.grad(lif(x, neuron=Neuron.preset("fsvae"))[1], x)
    assert g.tolist() == pytest.approx([-0.075, 1.0])
    x = torch.tensor([3.0, 1.0], requires_grad=True)  # the first step fires: nothing passes a detached reset
    (g,) = torch.autograd.grad(lif(x)[1], x)
    assert g[0] == 0 and g[1] > 0


@pytest.mark.parametrize(
    ("neuron", "v", "wanted"),
    [
        (Neuron.preset("fsvae"), [-0.51, -0.49, 0.49, 0.5], [0, 1, 1, 0]),
        (Neuron.preset("fsvae", surrogate="box", alpha=5.0), [0.09, 0.11, 0.29, 0.31], [0, 5, 5, 0]),
        (Neuron.preset("tet"), [-0.1, 0.0, 0.5, 1.0, 1.75, 2.5], [0, 0, 0.5, 1, 0.25, 0]),
        (Neuron.preset("tet", alpha=2.0), [1.0, 1.25, 1.5], [2, 1, 0]),
        (Neuron.preset("tcja"), [1.0, 1.0 + 1 / torch.pi, 1.0 - 1 / torch.pi], [1, 0.5, 0.5]),
    ],
)
def test_surrogates_have_the_papers_height_width_and_centre(neuron, v, wanted):
    assert surrogate_gradient(torch.tensor(v), neuron).tolist() == pytest.approx(wanted)


@pytest.mark.parametrize("neuron", NEURONS)
@pytest.mark.parametrize("rest", [True, False])
def test_sequence_and_single_steps_are_the_same_neuron_bit_for_bit(neuron, rest):
    x = currents(7, 4, 5).requires_grad_()
    v = None if rest else (0.3 * currents(4, 5)).requires_grad_()
    inputs = [x] if rest else [x, v]
    weights = currents(7, 4, 5)
    at_once, one_by_one = lif(x, v, neuron), stepwise(x, v, neuron)
    assert torch.equal(at_once, one_by_one)
    assert 0 < at_once.mean() < 1
    ours = torch.autograd.grad((at_once * weights).sum(), inputs)
    autograd = torch.autograd.grad((one_by_one * weights).sum(), inputs)
    for a, b in zip(ours, autograd, strict=True):
        torch.testing.assert_close(a, b)


def test_paper_neuron_is_spikingjellys():
    from spikingjelly.activation_based import neuron, surrogate

    theirs = neuron.LIFNode(
        tau=2.0,
        decay_input=True,
        v_threshold=1.0,
        v_reset=0.0,
        surrogate_function=surrogate.ATan(alpha=2.0),
        detach_reset=True,
        step_mode="m",
    )
    x, weights = currents(8, 6).requires_grad_(), currents(8, 6)
    ours, other = lif(x), theirs(x)
    assert torch.equal(ours, other)
    (a,) = torch.autograd.grad((ours * weights).sum(), x)
    (b,) = torch.autograd.grad((other * weights).sum(), x)
    torch.testing.assert_close(a, b)


@pytest.mark.parametrize("neuron", NEURONS)
def test_half_precision_currents_keep_a_full_precision_membrane(neuron):
    x = currents(12, 50).bfloat16()
    spikes = lif(x, neuron=neuron)
    assert spikes.dtype == torch.bfloat16
    assert torch.equal(spikes.float(), lif(x.float(), neuron=neuron))
    _, v = lif_step(x[0], None, neuron)
    assert v.dtype == torch.float32


def test_another_surrogate_comes_with_its_own_sharpness():
    assert Neuron.preset("tcja", surrogate="triangle").alpha == 1.0
    assert Neuron.preset("fsvae", surrogate="atan").alpha == 2.0
    assert Neuron.preset("tcja", surrogate="triangle", alpha=3.0).alpha == 3.0
    assert Neuron.preset("tet", surrogate="triangle") == Neuron.preset("tet")


def test_nothing_is_kept_between_calls():
    x = currents(5, 9)
    first = lif(x)
    lif(x + 1)
    assert torch.equal(lif(x), first)


@pytest.mark.parametrize("neuron", NEURONS)
def test_one_frame_with_steps_is_the_frame_repeated(neuron):
    frame = currents(6, 3).abs().requires_grad_()
    repeated = frame.detach().expand(5, 6, 3).clone().requires_grad_()
    weights = currents(5, 6, 3)
    short, long = lif(frame, neuron=neuron, steps=5), lif(repeated, neuron=neuron)
    assert torch.equal(short, long)
    (short * weights).sum().backward()
    (long * weights).sum().backward()
    torch.testing.assert_close(frame.grad, repeated.grad.sum(0))


@pytest.mark.parametrize(
    ("call", "named"),
    [
        (lambda: Neuron(tau=1.0), "tau is 1.0"),
        (lambda: Neuron(tau=float("nan")), "tau is nan"),
        (lambda: Neuron(alpha=float("inf")), "alpha is inf"),
        (lambda: Neuron(v_threshold=0.0), "v_threshold is 0.0, it must be above v_reset"),
        (lambda: Neuron(v_threshold=float("nan")), "v_threshold is nan"),
        (lambda: Neuron(alpha=0.0), "alpha is 0.0"),
        (lambda: Neuron(surrogate="sigmoid"), "'sigmoid'; known: atan"),
        (lambda: Neuron.preset("plif"), "'plif'; known: tcja, tet, fsvae"),
        (lambda: lif(torch.zeros(4, 2, 3), torch.zeros(2, 2)), r"\(2, 2\).*\(2, 3\)"),
    ],
)
def test_a_wrong_setting_is_named(call, named):
    with pytest.raises(ValueError, match=named):
        call()
