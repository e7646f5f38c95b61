import copy

import pytest
import torch
import torch.nn.functional as F

from tcja_gen.models import Generator, SpikingVAE, build, load, save
from tcja_gen.nn import ImageDraws, SpikingDecoder, StepDraws, fuse
from tcja_gen.nn.kernels.cpu import compiler
from tcja_gen.settings import update

FSVAE = "32C3s2-64C3s2-128C3s2-256C3s2"


def images(*shape: int) -> torch.Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize(
    ("settings", "parameters"),
    [
        ({}, {"FSVAE": 4_053_601, "ESVAE": 855_905, "ANN": 1_180_641}),
        ({"image_channels": 3}, {"FSVAE": 4_054_755, "ESVAE": 1_069_411, "ANN": 1_181_795}),
        (
            {"encoder": FSVAE + "-512C3s2", "image_channels": 3, "image_size": 64},
            {"FSVAE": 6_681_571, "ESVAE": 3_696_227, "ANN": 3_937_635},
        ),
    ],
)
def test_published_models_have_the_parameters_of_their_code(settings, parameters):
    narrow = {} if settings else {"channels": 32}  # ESVAE's for grey images
    kinds = {
        "FSVAE": {"neuron": "fsvae", "time_steps": 16},
        "ESVAE": {"neuron": "fsvae", "time_steps": 16, "latent": {"kind": "poisson"} | narrow},
        "ANN": {"neuron": "relu", "time_steps": 1, "latent": {"kind": "gaussian"}},
    }
    for name, kind in kinds.items():
        with torch.device("meta"):
            model = build({"encoder": FSVAE, **kind, **settings})
        assert sum(p.numel() for p in model.parameters()) == parameters[name], name


def test_tcja_in_the_readout_adds_a_weight_for_each_pair_of_time_steps():
    fsvae = {"encoder": FSVAE, "neuron": "fsvae", "time_steps": 16, "image_channels": 3}
    with torch.device("meta"):
        plain, gated = (build(fsvae | {"readout": kind}) for kind in ("membrane", "tcja"))
    counts = [sum(p.numel() for p in model.parameters()) for model in (plain, gated)]
    assert counts == [4_054_755, 4_054_755 + 16 * 16]


def test_the_ann_is_the_network_that_one_would_write_in_plain_pytorch():
    torch.manual_seed(0)
    latent = {"kind": "gaussian", "channels": 6, "divergence_weight": 0.1}
    model = build({"image_size": 8, "time_steps": 1, "encoder": "8C3s2-16C3s2", "neuron": "relu", "latent": latent})
    x, eps = images(5, 1, 8, 8) * 2 - 1, StepDraws(0, 0, 5).normal(6)

    def relu(y, layer):
        return F.relu(F.batch_norm(y, None, None, layer.weight, layer.bias, training=True))

    h, decoder = x, model.decoder
    for block in model.encoder.stages:
        h = relu(block.weights(h), block.neurons)
    mu, s = model.latent.entry(h.flatten(1)).chunk(2, -1)
    y = F.relu(decoder.project.weights(mu + (s / 2).exp() * eps)).view(-1, 16, 2, 2)
    for block in decoder.stages:
        y = relu(block.weights(y), block.neurons)
    divergence = (0.5 * (mu.square() + s.exp() - 1 - s)).sum(1).mean()
    loss = (decoder.last(y).tanh() - x).square().mean() + 0.1 * divergence
    wanted = torch.autograd.grad(loss, [*model.parameters()])
    ours = model(x, StepDraws(0, 0, 5))
    torch.testing.assert_close(ours["loss"], loss)
    for found, gradient in zip(torch.autograd.grad(ours["loss"], [*model.parameters()]), wanted, strict=True):
        torch.testing.assert_close(found, gradient)


def test_attention_adds_the_parameters_of_its_formula():
    with torch.device("meta"):
        plain, joint = (build({"encoder": notation}) for notation in (FSVAE, FSVAE.replace("s2", "s2-TCJA")))
    counts = [sum(p.numel() for p in model.parameters()) for model in (plain, joint)]
    channels = [32, 64, 128, 256, 128, 64, 32, 32]  # encoder, decoder
    assert counts[1] - counts[0] == sum(2 * c * c + 2 * 4 * 4 for c in channels)


@pytest.mark.parametrize("size", [8, 28, 32, 64])
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("time_steps", [1, 4])
def test_every_shape_of_image_trains_samples_and_is_kept(tmp_path, size, channels, time_steps):
    torch.manual_seed(0)
    settings = {
        "image_size": size,
        "image_channels": channels,
        "time_steps": time_steps,
        "encoder": "4C3s2-TCJA-6C3s2-TCJA" + ("-8C3s2-TCJA" if size > 8 else ""),
        "latent": {"channels": 6, "k": 3},
    }
    model = build(settings)
    losses = model(images(4, channels, size, size) * 2 - 1, StepDraws(0, 0, 4))
    assert {*losses} == {"loss", "reconstruction", "divergence"}
    losses["loss"].backward()
    # every parameter takes part; with T = 1 the prior sees only z_0 = 0, so its weights get zeros
    assert [name for name, p in model.named_parameters() if p.grad is None or not p.grad.isfinite().all()] == []

    save(tmp_path / "model.safetensors", model, update(Generator(), settings), {})
    samples = model.sample([0, 1])
    assert samples.shape == (2, channels, size, size)
    assert samples.min() >= 0 and samples.max() <= 1 and samples.dtype == torch.float32
    assert torch.equal(load(tmp_path / "model.safetensors").sample([0, 1]), samples)


@pytest.mark.skipif(not compiler(), reason="there is no C++ compiler")
def test_compiled_layers_give_the_losses_and_gradients_of_plain_ones(tiny, latent_kind):
    torch.manual_seed(0)
    plain = build({**tiny, **latent_kind})
    fused, x = fuse(copy.deepcopy(plain)), images(8, 1, 8, 8) * 2 - 1
    losses = []
    for model in (plain, fused):
        losses.append(model(x, StepDraws(0, 0, 8))["loss"])
        losses[-1].backward()
    torch.testing.assert_close(*losses)
    for one, other in zip(plain.parameters(), fused.parameters(), strict=True):
        torch.testing.assert_close(one.grad, other.grad, rtol=1e-3, atol=1e-4)  # noise, of a bias before a norm


def test_loss_is_the_squared_error_plus_the_weighted_divergence(tiny, latent_kind):
    torch.manual_seed(0)
    settings = {**tiny, **latent_kind}
    model = build(settings | {"latent": settings["latent"] | {"divergence_weight": 3.0}}).eval()
    x = images(4, 1, 8, 8)
    losses = model(x * 2 - 1, ImageDraws(range(4)))
    error = ((model.reconstruct(x) - x) * 2).square().mean()  # [0, 1] -> [-1, 1]
    torch.testing.assert_close(losses["reconstruction"], error, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(losses["loss"], losses["reconstruction"] + 3 * losses["divergence"])


def test_images_of_a_step_depend_on_its_number_only(tiny, latent_kind):
    torch.manual_seed(0)
    model = build({**tiny, **latent_kind})
    x = images(4, 1, 8, 8) * 2 - 1
    first = copy.deepcopy(model)(x, StepDraws(7, 3, 4))["loss"]
    torch.rand(5)
    assert torch.equal(copy.deepcopy(model)(x, StepDraws(7, 3, 4))["loss"], first)
    assert not torch.equal(copy.deepcopy(model)(x, StepDraws(7, 4, 4))["loss"], first)


def test_a_model_can_be_copied_after_it_has_run(tiny, latent_kind):
    torch.manual_seed(0)
    model = build({**tiny, **latent_kind})
    model(images(4, 1, 8, 8) * 2 - 1, StepDraws(0, 0, 4))["loss"].backward()
    other = copy.deepcopy(model)
    assert torch.equal(other.sample(range(3)), model.sample(range(3)))


def test_half_precision_trains(tiny, latent_kind):
    torch.manual_seed(0)
    model = build({**tiny, **latent_kind})
    with torch.autocast("cpu", torch.bfloat16):
        loss = model(images(8, 1, 8, 8) * 2 - 1, StepDraws(0, 0, 8))["loss"]
    loss.backward()
    assert loss.dtype == torch.float32 and loss.isfinite()
    assert all(p.grad.isfinite().all() for p in model.parameters())


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"time_steps": 2}, "different numbers of time steps: 2, 3"),
        ({"latent": 9}, "different latent channels: 8, 9"),
        ({"out_channels": 3}, r"different channels and sizes of images: \(1, 8, 8\), \(3, 8, 8\)"),
    ],
)
def test_parts_that_do_not_fit_each_other_are_refused(tiny, change, named):
    model = build(tiny)
    how = {"latent": 8, "start": model.encoder.shape, "out_channels": 1, "time_steps": 3, "image_size": 8}
    decoder = SpikingDecoder("8T3s2-8T3s2", **how | change)
    with pytest.raises(ValueError, match=named):
        SpikingVAE(model.encoder, model.latent, decoder)


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({"time_steps": 0}, "time_steps is 0"),
        ({"neuron": "plif"}, "'plif'; known: tcja, tet, fsvae"),
        ({"surrogate": "sigmoid"}, "'sigmoid'; known: atan"),
        ({"latent": {"divergence": "jsd"}}, "'jsd'; known"),
        ({"readout": "max"}, "'max'; known"),
        ({"encoder": "8C3s2-TCJ"}, "cannot read 'TCJ' at character 7"),
        ({"encoder": "8C3s2-TCJA(4,2)"}, "k_time = 4 does not fit T = 3"),
        ({"encoder": "8C3s2-MP2"}, "'MP2' has no mirror image"),
        ({"decoder": "8T3s2"}, "cannot make 8 pixels a side of 2"),
        ({"latent": {"channels": 0}}, "channels is 0"),
        ({"latent": {"kind": "spline"}}, "model.latent.kind' is 'spline'; known: bernoulli, codes, gaussian, poisson"),
        ({"latent": {"k": 0}}, "k is 0"),
        ({"encoder": "8C3s2-8FC", "decoder": "8T3s2"}, "encoder '8C3s2-8FC' ends with a linear layer"),
        ({"neuron": "relu", "time_steps": 1}, "BernoulliLatent needs spiking neurons"),
        ({"neuron": "relu", "time_steps": 1, "latent": {"kind": "poisson"}}, "PoissonLatent needs spiking neurons"),
        ({"latent": {"kind": "gaussian"}, "time_steps": 1}, "GaussianLatent needs neuron = 'relu'"),
        ({"latent": {"kind": "gaussian"}, "neuron": "relu"}, "time_steps is 3: neuron 'relu' makes an ANN"),
        ({"latent": {"kind": "gaussian"}, "neuron": "relu", "surrogate": "box"}, "'relu' has no surrogate"),
        ({"latent": {"kind": "poisson", "conditional": True}}, "unknown key 'model.latent.conditional'"),
    ],
)
def test_a_wrong_setting_is_one_line_that_names_it(tiny, settings, named):
    with pytest.raises(ValueError, match=named) as error:
        build({**tiny, **settings})
    assert "\n" not in str(error.value)
