import copy

import pytest
import torch

from tcja_gen.models import SpikingVAE, load, save
from tcja_gen.nn import ImageDraws, StepDraws

FSVAE = "32C3s2-64C3s2-128C3s2-256C3s2"


def images(*shape: int) -> torch.Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize(
    ("settings", "parameters"),
    [
        ({"encoder": FSVAE}, 4_053_601),
        ({"encoder": FSVAE, "image_channels": 3}, 4_054_755),
        ({"encoder": FSVAE + "-512C3s2", "image_channels": 3, "image_size": 64}, 6_681_571),
    ],
)
def test_fsvae_has_the_parameters_of_its_paper(settings, parameters):
    with torch.device("meta"):
        model = SpikingVAE(neuron="fsvae", time_steps=16, **settings)
    assert sum(p.numel() for p in model.parameters()) == parameters


def test_attention_adds_the_parameters_of_its_formula():
    with torch.device("meta"):
        plain, joint = SpikingVAE(encoder=FSVAE), SpikingVAE(encoder=FSVAE.replace("s2", "s2-TCJA"))
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
        "latent": 6,
        "k": 3,
    }
    model = SpikingVAE(**settings)
    losses = model(images(4, channels, size, size) * 2 - 1, StepDraws(0, 0, 4))
    assert {*losses} == {"loss", "reconstruction", "divergence"}
    losses["loss"].backward()
    # every parameter takes part; with T = 1 the prior sees only z_0 = 0, so its weights get zeros
    assert [name for name, p in model.named_parameters() if p.grad is None or not p.grad.isfinite().all()] == []

    save(tmp_path / "model.safetensors", model, settings, {})
    samples = model.sample([0, 1])
    assert samples.shape == (2, channels, size, size)
    assert samples.min() >= 0 and samples.max() <= 1 and samples.dtype == torch.float32
    assert torch.equal(load(tmp_path / "model.safetensors").sample([0, 1]), samples)


def test_loss_is_the_squared_error_plus_the_weighted_divergence(tiny):
    torch.manual_seed(0)
    model = SpikingVAE(**tiny, divergence_weight=3.0).eval()
    x = images(4, 1, 8, 8)
    losses = model(x * 2 - 1, ImageDraws(range(4)))
    error = ((model.reconstruct(x) - x) * 2).square().mean()  # [0, 1] -> [-1, 1]
    torch.testing.assert_close(losses["reconstruction"], error, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(losses["loss"], losses["reconstruction"] + 3 * losses["divergence"])


def test_images_of_a_step_depend_on_its_number_only(tiny):
    torch.manual_seed(0)
    model = SpikingVAE(**tiny)
    x = images(4, 1, 8, 8) * 2 - 1
    first = copy.deepcopy(model)(x, StepDraws(7, 3, 4))["loss"]
    torch.rand(5)
    assert torch.equal(copy.deepcopy(model)(x, StepDraws(7, 3, 4))["loss"], first)
    assert not torch.equal(copy.deepcopy(model)(x, StepDraws(7, 4, 4))["divergence"], first)


def test_a_model_can_be_copied_after_it_has_run(tiny):
    torch.manual_seed(0)
    model = SpikingVAE(**tiny)
    model(images(4, 1, 8, 8) * 2 - 1, StepDraws(0, 0, 4))["loss"].backward()
    other = copy.deepcopy(model)
    assert torch.equal(other.sample(range(3)), model.sample(range(3)))


def test_half_precision_trains(tiny):
    torch.manual_seed(0)
    model = SpikingVAE(**tiny)
    with torch.autocast("cpu", torch.bfloat16):
        loss = model(images(8, 1, 8, 8) * 2 - 1, StepDraws(0, 0, 8))["loss"]
    loss.backward()
    assert loss.dtype == torch.float32 and loss.isfinite()
    assert all(p.grad.isfinite().all() for p in model.parameters())


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({"time_steps": 0}, "time_steps is 0"),
        ({"neuron": "plif"}, "'plif'; known: tcja, tet, fsvae"),
        ({"surrogate": "sigmoid"}, "'sigmoid'; known: atan"),
        ({"divergence": "jsd"}, "'jsd'; known"),
        ({"readout": "max"}, "'max'; known"),
        ({"encoder": "8C3s2-TCJ"}, "cannot read 'TCJ' at character 7"),
        ({"encoder": "8C3s2-TCJA(4,2)"}, "k_time = 4 does not fit T = 3"),
        ({"encoder": "8C3s2-MP2"}, "'MP2' has no mirror image"),
        ({"decoder": "8T3s2"}, "cannot make 8 pixels a side of 2"),
        ({"latent": 0}, "0 channels; at least 1"),
        ({"latent_kind": "spline"}, "unknown kind of latent 'spline'; known: bernoulli"),
        ({"k": 0}, "8 channels of 0 bits"),
    ],
)
def test_a_wrong_setting_is_one_line_that_names_it(tiny, settings, named):
    with pytest.raises(ValueError, match=named) as error:
        SpikingVAE(**{**tiny, **settings})
    assert "\n" not in str(error.value)
