import math

import pytest
import torch

from tcja_gen.models import Classifier, Generator, build
from tcja_gen.nn import (
    Build,
    GatedReadout,
    Readout,
    SpikingDecoder,
    SpikingEncoder,
    SpikingHead,
    StepDraws,
    TDBatchNorm,
    mirror,
)
from tcja_gen.nn.layers import TemporalDropout
from tcja_gen.nn.readouts import readout_weights
from tcja_gen.registry import READOUTS, register_readout
from tcja_gen.training.adversary import Adversarial, Adversary

NARROW = "4C3s2-TCJA-6C3s2-TCJA"


def images(*shape: int) -> torch.Tensor:
    return 2 * torch.rand(shape, generator=torch.Generator().manual_seed(0)) - 1


def bits(*shape: int) -> torch.Tensor:
    return (torch.rand(shape, generator=torch.Generator().manual_seed(1)) < 0.3).float()


@pytest.mark.parametrize("size", [8, 28, 32, 64])
@pytest.mark.parametrize("channels", [1, 3])
def test_decoder_undoes_the_encoders_size(size, channels):
    notation = NARROW + "-8C3s2"
    encoder = SpikingEncoder(notation, channels, time_steps=2, image_size=size)
    small = math.ceil(math.ceil(math.ceil(size / 2) / 2) / 2)
    assert encoder.shape == (8, small, small)
    spikes = encoder(images(3, channels, size, size))
    assert spikes.shape == (2, 3, 8, small, small)
    decoder = SpikingDecoder(mirror(notation), 5, encoder.shape, channels, time_steps=2, image_size=size)
    y = decoder(bits(2, 3, 5))
    assert y.shape == (3, channels, size, size) and y.abs().max() < 1


def test_a_static_image_equals_its_copies_as_frames():
    torch.manual_seed(0)
    encoder = SpikingEncoder("4C3-AP2-TCJA-6C3s2-TLA-16FC", 3, time_steps=4, image_size=8)
    x = images(5, 3, 8, 8)
    for _ in range(20):
        static = encoder(x)
        frames = encoder(x.expand(4, -1, -1, -1, -1))
        assert (static != frames).float().mean() < 0.01  # sums in another order may decide a spike
    encoder.double().eval()  # in double precision they decide none
    static, frames = encoder(x.double()), encoder(x.double().expand(4, -1, -1, -1, -1))
    assert torch.equal(static, frames) and 0.01 < static.mean() < 0.99


def test_a_notation_of_pictures_and_linear_layers_has_the_documented_shape():
    encoder = SpikingEncoder("4C3-MP2-TCJA-6C3-AP2-DP.5-10FC-TLA-7FC", 1, time_steps=3, image_size=12)
    assert encoder.shape == (7,)
    assert encoder(images(3, 2, 1, 12, 12)).shape == (3, 2, 7)


def test_residual_blocks_hand_on_currents_and_end_in_spikes():
    torch.manual_seed(0)
    encoder = SpikingEncoder("4C3-4R3[TCJA]-6R3s2-AP2", 1, time_steps=3, image_size=8)
    stem, first, second, fire, _ = encoder.stages
    assert encoder.shape == (6, 2, 2) and first.shortcut is None and second.shortcut is not None
    x = images(16, 1, 8, 8)
    current = stem(x, steps=3)
    assert current.shape == (16, 4, 8, 8) and len(current.unique()) > 2  # once for all steps, and no spikes
    y = first(current, steps=3)
    inner = first.attention(first.first(first.fire(current, 3)))
    torch.testing.assert_close(y, first.second(inner) + current)
    spikes = fire(second(y))
    assert spikes.shape == (3, 16, 6, 4, 4) and {*spikes.unique().tolist()} == {0.0, 1.0}
    torch.testing.assert_close(encoder(x), encoder.stages[-1](spikes))
    torch.testing.assert_close(encoder(x), encoder(x.expand(3, -1, -1, -1, -1)))


def test_currents_are_normalised_as_torch_does_it():
    torch.manual_seed(0)
    ours, theirs = TDBatchNorm(5, 2.0), torch.nn.BatchNorm2d(5)
    torch.nn.init.constant_(theirs.weight, 2.0)
    x = torch.randn(3, 4, 5, 6, 6).requires_grad_()
    y, wanted = ours(x), theirs(x.flatten(0, 1)).view_as(x)
    torch.testing.assert_close(y, wanted)
    g = torch.randn_like(y)
    found = torch.autograd.grad(y, x, g)[0]
    torch.testing.assert_close(found, torch.autograd.grad(wanted, x, g)[0], rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(ours.running_var, theirs.running_var)
    ours.eval(), theirs.eval()
    torch.testing.assert_close(ours(x), theirs(x.flatten(0, 1)).view_as(x))


@pytest.mark.parametrize(
    ("notation", "shape", "classes"),
    [("DP.5-16FC-20FC-Voting10", (6, 2, 2), 2), ("7L", (6, 2, 2), 7), ("12FC-5FC", (9,), 5)],
)
def test_a_head_gives_an_output_a_class_and_step(notation, shape, classes):
    head = SpikingHead(notation, shape, 3, Build())
    assert head.classes == classes and head(bits(3, 4, *shape)).shape == (3, 4, classes)


@pytest.mark.parametrize(
    ("notation", "named"),
    [
        ("16FC-Voting10", "16 features do not divide by 10 voters a class"),
        ("MP2", "ends with pixels"),
        ("4R3-2L", "'4R3': a residual block stands behind a convolution"),
    ],
)
def test_a_head_that_names_no_classes_is_refused(notation, named):
    with pytest.raises(ValueError, match=named):
        SpikingHead(notation, (6, 2, 2), 3, Build())


def test_the_papers_classifiers_have_plain_batch_norm_and_none_behind_linear_layers():
    encoder = SpikingEncoder("4C3-8FC", 1, time_steps=3, image_size=4, normalisation="bn", bias=False)
    assert [name for name, _ in encoder.named_parameters()] == [
        "stages.0.weights.weight",
        "stages.0.neurons.weight",
        "stages.0.neurons.bias",
        "stages.2.weights.weight",
    ]
    assert encoder.stages[0].neurons.scale == 1.0


def test_dropout_drops_the_same_inputs_at_every_step():
    torch.manual_seed(0)
    encoder = SpikingEncoder("4C3-DP.5", 1, time_steps=6, image_size=8)
    kept = encoder(images(8, 1, 8, 8))
    spikes = encoder.stages[0](images(8, 1, 8, 8), steps=6)  # before the dropout
    survive = (kept > 0).any(0)
    assert torch.equal(kept, 2 * spikes * survive)
    assert 0.4 < survive.sum() / (spikes > 0).any(0).sum() < 0.6
    encoder.eval()
    assert set(encoder(images(8, 1, 8, 8)).unique().tolist()) == {0.0, 1.0}


@pytest.mark.parametrize(
    ("notation", "named"),
    [
        ("TCJA-4C3", "'TCJA': attention needs spikes"),
        ("MP2-TCJA-4C3", "'TCJA': attention needs spikes"),
        ("4T3s2", "'4T3s2': a transposed convolution belongs into a decoder"),
        ("8FC-4C3", "'4C3': there are no pixels left"),
        ("4C3-MP2-MP2-MP2-MP2", "'MP2': nothing is left of 1 pixels"),
        ("4R3", "'4R3': a residual block stands behind a convolution"),
        ("4C3-MP2-4R3", "'4R3': a residual block stands behind a convolution"),
        ("4C3-4R4", "'4R4': a residual block has an odd kernel"),
        ("4C3-10L", "'10L': logits and votes belong into a classifier's head"),
        ("4C3-TCJA(4,2)", r"'TCJA\(4,2\)': k_time = 4 does not fit T = 3"),
        ("4C3-TCJA(2,5)", r"'TCJA\(2,5\)': k_channel = 5 does not fit C = 4"),
    ],
)
def test_a_notation_that_cannot_be_built_names_its_word(notation, named):
    with pytest.raises(ValueError, match=named) as error:
        SpikingEncoder(notation, 1, time_steps=3, image_size=8)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("shape", "named"),
    [
        ((2, 3, 8, 8), "1 x 8 x 8 images, got 3 x 8 x 8"),
        ((2, 1, 9, 9), "1 x 8 x 8 images, got 1 x 9 x 9"),
        ((4, 2, 1, 8, 8), r"frames \(3, N, C, H, W\), got \(4, 2, 1, 8, 8\)"),
        ((1, 8, 8), r"got \(1, 8, 8\)"),
        ((0, 1, 8, 8), "wants one image or more, got none"),
    ],
)
def test_images_of_the_wrong_shape_are_named(shape, named):
    with pytest.raises(ValueError, match=named):
        SpikingEncoder("4C3", 1, time_steps=3, image_size=8)(torch.zeros(shape))


@pytest.mark.parametrize(
    ("notation", "named"),
    [
        ("4C3s2", "'4C3s2': a decoder does not make pixels fewer"),
        ("4R3s2", "'4R3s2': a decoder does not make pixels fewer"),
        ("8FC", "'8FC': a decoder has convolutions, residual blocks, upsampling and attention only"),
        ("U3", "ends at 12 pixels a side, the images have 8"),
        ("4T3s2-MP2", "'MP2': a decoder has"),
        ("4T3s2-4T3s2", "'4T3s2': 4T3s2 cannot make"),
        ("4T3", "'4T3': 4T3s1 cannot make 8 pixels a side of 4"),
        ("4T2-4T3s2", "'4T2': 4T2s1 cannot make 4 pixels a side of 4"),
        ("TCJA", "ends at 4 pixels a side, the images have 8"),
    ],
)
def test_a_decoder_that_misses_the_image_size_is_refused(notation, named):
    with pytest.raises(ValueError, match=named):
        SpikingDecoder(notation, 5, (6, 4, 4), 1, time_steps=3, image_size=8)


@pytest.mark.parametrize("notation", ["4T3s2", "4T4s2-TCJA", "U2-4C3-TCJA", "4C3-4R3[TCJA]-TLA-U2", "4C3-4T2s2"])
def test_a_decoder_reaches_the_image_size_in_many_ways(notation):
    images = SpikingDecoder(notation, 5, (6, 4, 4), 1, time_steps=3, image_size=8)(torch.ones(3, 2, 5))
    assert images.shape == (2, 1, 8, 8)


def test_a_decoder_of_attention_alone_trains():
    decoder = SpikingDecoder("TCJA", 5, (6, 4, 4), 1, time_steps=3, image_size=4).train()
    decoder(torch.ones(3, 2, 5)).sum().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in decoder.parameters())


def test_upsampling_repeats_every_pixel():
    decoder = SpikingDecoder("U2", 5, (6, 4, 4), 1, time_steps=3, image_size=8)
    x = decoder.spikes((torch.rand(3, 2, 5) < 0.5).float())
    assert x.shape == (3, 2, 6, 8, 8) and torch.equal(x[..., ::2, ::2], x[..., 1::2, 1::2])


def test_a_spatial_latent_meets_a_convolution():
    decoder = SpikingDecoder("4T3s2", 5, (6, 4, 4), 1, time_steps=3, image_size=8, spatial=True)
    assert decoder.project.weights.weight.shape == (6, 5, 3, 3)
    assert decoder(torch.ones(3, 2, 5, 4, 4)).shape == (2, 1, 8, 8)


def test_membrane_readout_has_fsvaes_weights():
    weights = readout_weights("membrane", 16)
    assert weights[0].item() == pytest.approx(0.8**15) and weights[-1] == 1
    assert weights.sum().item() == pytest.approx(4.85926, abs=1e-5)
    assert readout_weights("mean", 4).tolist() == [0.25] * 4
    with pytest.raises(ValueError, match="'max'; known: membrane, mean"):
        Readout("max", 4)


def test_the_readout_of_a_plugin_weighs_the_steps(monkeypatch):
    for what in ("_parts", "_sources"):
        monkeypatch.setattr(READOUTS, what, dict(getattr(READOUTS, what)))
    register_readout("last")(lambda t: torch.eye(t)[-1])
    register_readout("short")(lambda t: torch.ones(t - 1))
    assert readout_weights("last", 3).tolist() == [0, 0, 1]
    assert Readout("last", 4).weights.tolist() == [0, 0, 0, 1]
    with pytest.raises(ValueError, match="'short' gives weights of shape \\(2,\\), wanted \\(3,\\)"):
        Readout("short", 3)


@pytest.mark.parametrize("kind", ["membrane", "mean"])
def test_one_last_convolution_equals_one_a_step(kind):
    torch.manual_seed(0)
    layer = torch.nn.ConvTranspose2d(4, 3, 3, 1, 1)
    torch.nn.init.normal_(layer.bias)
    x = bits(7, 2, 4, 6, 6)
    every_step = torch.stack([layer(frame) for frame in x])  # (T, N, C, H, W)
    wanted = torch.tanh((readout_weights(kind, 7).view(-1, 1, 1, 1, 1) * every_step).sum(0))
    torch.testing.assert_close(Readout(kind, 7)(x, layer), wanted, rtol=1e-5, atol=1e-6)


def slow_gated_image(x: torch.Tensor, layer: torch.nn.ConvTranspose2d, gate: torch.nn.Module) -> torch.Tensor:
    """Currents of every step, their means, the gate of one number after the other (kernel 1 along channels)."""
    y = torch.stack([layer(frame) for frame in x])  # (T, N, C, H, W)
    z, w = y.mean((3, 4)), gate.cla.weight[:, :, 0]
    steps, _, channels = z.shape
    scores = torch.stack([sum(w[t, s] * z[s] for s in range(steps)) for t in range(steps)])
    if hasattr(gate, "tla"):
        a, k = torch.zeros_like(z), gate.tla.weight.shape[2]
        for t in range(steps):
            for m in range(k):
                s = t + m - (k - 1) // 2
                if 0 <= s < steps:
                    for c in range(channels):
                        a[t, :, c] += sum(gate.tla.weight[c, i, m] * z[s, :, i] for i in range(channels))
        scores = a * scores
    f = torch.sigmoid(scores)
    return torch.tanh(sum(f[t, ..., None, None] * y[t] for t in range(steps)))


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize(("kind", "parameters"), [("tcja", 49), ("tcja-both", 49 + 4)])
def test_a_gated_readout_is_the_formula_of_its_paper(kind, parameters, channels):
    torch.manual_seed(0)
    layer, readout = torch.nn.ConvTranspose2d(4, channels, 3, 1, 1), GatedReadout(kind, 7, channels)
    torch.nn.init.normal_(layer.bias)
    assert sum(p.numel() for p in readout.parameters()) == (parameters if channels == 1 or kind == "tcja" else 49 + 36)
    x, weights = bits(7, 2, 4, 6, 5).requires_grad_(), images(2, channels, 6, 5)
    leaves = [x, *layer.parameters(), *readout.parameters()]
    found, wanted = readout(x, layer), slow_gated_image(x, layer, readout.gate)
    torch.testing.assert_close(found, wanted, rtol=1e-5, atol=1e-6)
    ours, theirs = (torch.autograd.grad((y * weights).sum(), leaves) for y in (found, wanted))
    torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("kind", ["tcja", "tcja-both"])
def test_the_film_of_a_gated_readout_takes_steps_to_come_for_silent_ones(kind):
    torch.manual_seed(0)
    layer, readout = torch.nn.ConvTranspose2d(4, 3, 3, 1, 1), GatedReadout(kind, 5, 3)
    torch.nn.init.zeros_(layer.bias)  # no current without spikes
    x = bits(5, 2, 4, 6, 6)
    film = readout.prefixes(x, layer)
    torch.testing.assert_close(film[-1], readout(x, layer))
    for t in range(1, 5):
        silent = x * (torch.arange(5) < t).view(5, 1, 1, 1, 1)
        torch.testing.assert_close(film[t - 1], readout(silent, layer))


@pytest.mark.parametrize("kind", ["membrane", "mean"])
def test_film_is_what_shorter_readouts_would_show_and_ends_in_the_image(kind):
    torch.manual_seed(0)
    decoder = SpikingDecoder(mirror(NARROW), 5, (6, 2, 2), 1, 4, image_size=8, readout=kind).eval()
    for norm in decoder.modules():
        if hasattr(norm, "running_var"):
            norm.running_var.mul_(0.05)  # enough current to fire
    z = bits(4, 3, 5)
    film, spikes = decoder.film(z), decoder.spikes(z)
    assert film.shape == (4, 3, 1, 8, 8)
    torch.testing.assert_close(film[-1], decoder(z))
    for t in range(1, 5):
        torch.testing.assert_close(film[t - 1], Readout(kind, t)(spikes[:t], decoder.last))
    assert not torch.equal(film[0], film[-1])


@pytest.mark.parametrize("encoder", ["DP.5-8C3", "4C3-DP.5-8C3"])
def test_dropout_is_of_the_seed_the_step_and_the_image_whatever_the_processes(encoder):
    torch.manual_seed(0)
    net, x = SpikingEncoder(encoder, 1, 3, image_size=6), torch.rand(8, 1, 6, 6) + 0.5
    dropout = next(stage for stage in net.stages if isinstance(stage, TemporalDropout))
    x = x if dropout is net.stages[0] else torch.rand(3, 8, 4, 6, 6)
    steps = 3 if x.dim() == 4 else None
    whole = dropout(x, steps, StepDraws(5, 9, 8))
    for rank in range(2):
        own = slice(rank, None, 2)
        part = dropout(x[own] if steps else x[:, own], steps, StepDraws(5, 9, 8, rank, 2))
        assert torch.equal(part, whole[own] if steps else whole[:, own])
    assert not torch.equal(whole, dropout(x, steps, StepDraws(5, 10, 8)))
    lost = whole == 0 if steps else (whole == 0).all(0)  # (N, ...)
    assert 0.3 < lost.float().mean() < 0.7
    assert all(not torch.equal(lost[0], lost[i]) for i in range(1, 8))  # a mask each


def test_dropout_everywhere_takes_its_numbers_from_the_draws():
    """In encoder, head, prior and discriminator: whatever else the program draws, a step is the same."""
    sizes = {"image_size": 8, "image_channels": 1, "time_steps": 2}
    codes = {"decoder": "8T4s2", "latent": {"kind": "codes", "channels": 2, "prior": "8C3-DP.5-8C3", "rounds": 4}}
    x, y = torch.rand(6, 1, 8, 8) * 2 - 1, torch.eye(10)[:6]
    made = [
        build({**sizes, "encoder": "8C3s2-DP.5-TCJA", "head": "DP.5-10L", **codes}),
        build(Classifier(**sizes, encoder="DP.5-8C3s2", head="DP.5-10L")),
        Adversary(Adversarial(1.0, "DP.5-8C3s2", noise=0.0), Generator(**sizes)),
    ]
    for part in made:
        losses = []
        for disturbed in range(2):
            torch.manual_seed(disturbed)
            found = part(x, x.flip(0), StepDraws(0, 0, 6)) if isinstance(part, Adversary) else None
            found = part(x, StepDraws(0, 0, 6), targets=y)["loss"] if found is None else found
            losses.append(found.item())
        assert losses[0] == losses[1]
