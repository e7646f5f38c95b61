import pytest
import torch
import torch.nn.functional as F

from tcja_gen.errors import UserError
from tcja_gen.nn import ATTENTION, CLA, TCJA, TLA, Gate, TCJAAdd

ON_SPIKES = [word for word in ATTENTION if issubclass(ATTENTION[word], Gate)]


def spikes(*shape: int, rate: float = 0.1) -> torch.Tensor:
    return (torch.rand(shape, generator=torch.Generator().manual_seed(0)) < rate).float()


def slow_branches(block: TCJA, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """A and B of the paper, one number at a time; window of K taps from j - (K-1)//2 on, zero outside."""
    z = x.mean((3, 4))
    time_steps, n, channels = z.shape
    wa, wb = block.tla.weight, block.cla.weight
    ka, kb = wa.shape[2], wb.shape[2]
    a, b = torch.zeros_like(z), torch.zeros_like(z)
    for t in range(time_steps):
        for c in range(channels):
            for m in range(ka):
                s = t + m - (ka - 1) // 2
                if 0 <= s < time_steps:
                    a[t, :, c] += sum(wa[c, i, m] * z[s, :, i] for i in range(channels))
            for m in range(kb):
                d = c + m - (kb - 1) // 2
                if 0 <= d < channels:
                    b[t, :, c] += sum(wb[t, s, m] * z[s, :, d] for s in range(time_steps))
    return a, b


@pytest.mark.parametrize(("k_time", "k_channel"), [(1, 1), (2, 2), (3, 2), (2, 3), (4, 5)])
def test_block_is_the_papers_equations(k_time, k_channel):
    torch.manual_seed(0)
    x = spikes(4, 2, 5, 3, 3, rate=0.4)
    block = TCJA(4, 5, k_time, k_channel)
    a, b = slow_branches(block, x)
    torch.testing.assert_close(block(x), x * torch.sigmoid(a * b)[..., None, None])
    added, tla, cla = TCJAAdd(4, 5, k_time, k_channel), TLA(4, 5, k_time), CLA(4, 5, k_channel)
    for other in (added, tla, cla):
        other.load_state_dict(block.state_dict(), strict=False)
    torch.testing.assert_close(added.gate(x), torch.sigmoid(a + b))
    torch.testing.assert_close(tla.gate(x), torch.sigmoid(a))
    torch.testing.assert_close(cla.gate(x), torch.sigmoid(b))


@pytest.mark.parametrize(("k", "left", "right"), [(1, 0, 0), (2, 0, 1), (3, 1, 1), (4, 1, 2), (5, 2, 2)])
def test_temporal_window_reaches_as_far_as_same_padding_does(k, left, right):
    x = torch.rand(9, 1, 2).requires_grad_()
    TLA(9, 2, k_time=k).gate(x)[4].sum().backward()
    seen = x.grad.abs().sum((1, 2)).nonzero().flatten().tolist()
    assert seen == list(range(4 - left, 4 + right + 1))


def test_parameters_have_the_documented_names_and_shapes():
    shapes = {name: tuple(p.shape) for name, p in TCJA(4, 6, k_time=3, k_channel=5).named_parameters()}
    assert shapes == {"tla.weight": (6, 6, 3), "cla.weight": (4, 4, 5)}


@pytest.mark.parametrize(("time_steps", "channels", "kt", "kc"), [(4, 8, 2, 2), (16, 32, 4, 3), (20, 128, 4, 4)])
def test_parameter_count_is_the_formula(time_steps, channels, kt, kc):
    count = sum(p.numel() for p in TCJA(time_steps, channels, kt, kc).parameters())
    assert count == kt * channels**2 + kc * time_steps**2


@pytest.mark.parametrize("word", ON_SPIKES)
def test_every_word_scales_planes_by_numbers_between_0_and_1(word):
    torch.manual_seed(0)
    x = spikes(4, 3, 6, 5, 5, rate=0.3)
    block = ATTENTION[word](4, 6)
    gate = block.gate(x)
    assert gate.shape == (4, 3, 6) and (gate > 0).all() and (gate < 1).all()
    assert torch.equal(block(x), x * gate[..., None, None])
    flat = x.mean((3, 4))
    torch.testing.assert_close(block(flat), flat * gate)
    block(x).sum().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in block.parameters())


@pytest.mark.parametrize("word", ON_SPIKES)
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_gradients_are_those_of_multiplying_by_the_gate(word, layout):
    torch.manual_seed(0)
    block = ATTENTION[word](4, 6)
    x = spikes(8, 6, 5, 3, rate=0.4).contiguous(memory_format=layout).unflatten(0, (4, 2)).requires_grad_()
    weights = torch.randn(4, 2, 6, 5, 3)
    wanted = torch.autograd.grad((weights * x * block.gate(x)[..., None, None]).sum(), (x, *block.parameters()))
    found = torch.autograd.grad((weights * block(x)).sum(), (x, *block.parameters()))
    for a, b in zip(found, wanted, strict=True):
        torch.testing.assert_close(a, b)


@pytest.mark.parametrize("frozen", [1, 2])
def test_gradients_pass_a_gate_whose_weights_are_frozen(frozen):
    """One of its two convolutions, or both."""
    torch.manual_seed(0)
    block, w, x = TCJA(4, 6), torch.tensor([0.1, 0.5, 0.9, 1.0]), spikes(4, 2, 6, 5, 3, rate=0.4).requires_grad_()
    grads = []
    for learning in (True, False):
        for weight in [*block.parameters()][:frozen]:
            weight.requires_grad_(learning)
        loss = block(x).square().sum() + block.weighted_sum(x, w).square().sum()
        grads.append(torch.autograd.grad(loss, [x, *filter(lambda p: p.requires_grad, block.parameters())]))
    torch.testing.assert_close(grads[1], grads[0][:1] + grads[0][1 + frozen :])


@pytest.mark.parametrize("word", ON_SPIKES)
def test_images_of_a_batch_do_not_see_each_other(word):
    block, x = ATTENTION[word](4, 6), spikes(4, 3, 6, 5, 5, rate=0.3)
    torch.testing.assert_close(block(x)[:, 1:2], block(x[:, 1:2]))


@pytest.mark.parametrize(("time_steps", "channels"), [(20, 128), (16, 32), (16, 256)])
def test_gate_is_one_half_at_the_start(time_steps, channels):
    torch.manual_seed(0)
    gate = TCJA(time_steps, channels).gate(spikes(time_steps, 2, channels, 8, 8))
    assert abs(gate.mean() - 0.5) < 0.001 and (gate - 0.5).abs().max() < 0.01
    assert gate.std() > 0


@pytest.mark.parametrize("word", ON_SPIKES)
def test_silence_leaves_the_gate_half_open(word):
    assert (ATTENTION[word](4, 6).gate(torch.zeros(4, 2, 6, 3, 3)) == 0.5).all()


def test_gating_and_pooling_can_change_places():
    block, x = TCJA(4, 6), spikes(4, 2, 6, 8, 8, rate=0.3)
    gate = block.gate(x)
    for pool in (F.max_pool2d, F.avg_pool2d):
        after = pool(x.flatten(0, 1), 2).view(4, 2, 6, 4, 4) * gate[..., None, None]
        before = pool(block(x).flatten(0, 1), 2).view(4, 2, 6, 4, 4)
        torch.testing.assert_close(before, after)


@pytest.mark.parametrize("word", ON_SPIKES)
@pytest.mark.parametrize(
    ("shape", "named"),
    [
        ((3, 2, 6, 5, 5), "T = 4.*T = 3"),
        ((4, 2, 7, 5, 5), "C = 6.*C = 7"),
        ((4, 2, 6, 5), r"\(T, N, C, H, W\).*\(4, 2, 6, 5\)"),
    ],
)
def test_wrong_input_is_named(word, shape, named):
    with pytest.raises(ValueError, match=named) as error:
        ATTENTION[word](4, 6)(torch.zeros(shape))
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("word", ["TCJA", "TCJAadd", "Conv2d"])
def test_a_kernel_larger_than_its_axis_is_refused(word):
    with pytest.raises(ValueError, match="k_time = 5 does not fit T = 4"):
        ATTENTION[word](4, 6, k_time=5)
    with pytest.raises(ValueError, match="k_channel = 7 does not fit C = 6"):
        ATTENTION[word](4, 6, k_channel=7)


@pytest.mark.parametrize("word", ["TCJA", "TA"])
def test_a_gated_stream_read_at_once_is_the_gated_stream_read(word):
    block, w = ATTENTION[word](4, 6), torch.tensor([0.1, 0.5, 0.9, 1.0])
    spikes = (torch.rand(4, 3, 6, 5, 5, generator=torch.Generator().manual_seed(0)) < 0.3).float()
    grad, results = torch.randn(3, 25, 6, generator=torch.Generator().manual_seed(1)), []
    for read in (
        lambda x: block.weighted_sum(x, w),
        lambda x: (w.view(4, 1, 1, 1, 1) * x * block.gate(x)[..., None, None]).sum(0).flatten(2).transpose(1, 2),
    ):
        x = spikes.clone().requires_grad_()
        total = read(x)
        results.append([total, *torch.autograd.grad((total * grad).sum(), [x, *block.parameters()])])
    for ours, autograds in zip(*results, strict=True):
        torch.testing.assert_close(ours, autograds)
    with torch.autocast("cpu", torch.bfloat16):
        half = block.weighted_sum(spikes.bfloat16(), w)
    assert half.dtype == torch.bfloat16
    torch.testing.assert_close(half.float(), results[0][0], rtol=1e-2, atol=1e-2)


def test_spikes_of_whole_numbers_are_refused_and_not_silently_lost():
    x = torch.ones(4, 2, 8, 3, 3)
    for wrong in (x.long(), x.bool(), x[..., 0, 0].to(torch.uint8)):
        with pytest.raises(UserError, match="TCJA wants spikes as floating-point numbers, got torch"):
            TCJA(4, 8)(wrong)
