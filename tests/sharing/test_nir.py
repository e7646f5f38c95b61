"""Networks as NIR files come back as networks with equal outputs."""

import pytest
import torch
from torch import nn

import tcja_gen as tg
from tcja_gen.errors import UserError
from tcja_gen.models import Classifier, build
from tcja_gen.models.store import weights_hash
from tcja_gen.nn.normalisation import TDBatchNorm

nir = pytest.importorskip("nir")
pytest.importorskip("nirtorch")
exchange = pytest.importorskip("spikingjelly.activation_based.nir_exchange")


def classifier(**settings) -> nn.Module:
    """A tiny classifier whose neurons fire."""
    torch.manual_seed(0)
    table = {"encoder": "4C3s2-AP2", "head": "DP.5-8FC-3L", "image_size": 8, "time_steps": 3, **settings}
    made = build(Classifier(**table)).eval()
    for layer in made.modules():
        if isinstance(layer, TDBatchNorm):
            nn.init.uniform_(layer.bias, 0, 1.5 * layer.scale)
            nn.init.uniform_(layer.running_mean, -0.2, 0.2)
    return made


def generator() -> nn.Module:
    """A tiny generator of codes."""
    torch.manual_seed(0)
    latent = {"kind": "codes", "channels": 2, "prior": "8C3", "rounds": 2}
    made = build({"image_size": 8, "time_steps": 2, "encoder": "4C3s2-4C3s2", "latent": latent}).eval()
    for block in (*made.encoder.stages, made.latent.entry):
        nn.init.constant_(block.neurons.bias, 1.4)
    return made


def outputs(file, frames):
    """What the network in a file gives for frames (T, N, C, H, W)."""
    return exchange.import_from_nir(file, step_mode="m")(frames)[0]


@pytest.mark.parametrize("neuron", ["tcja", "fsvae"])
def test_a_classifier_of_images_gives_the_same_outputs_at_every_step(tmp_path, neuron):
    made, x = classifier(neuron=neuron), torch.rand(4, 1, 8, 8)
    file = tg.export(made, "classifier", "nir", tmp_path / "c.nir")
    found = outputs(file, (2 * x - 1).expand(3, 4, 1, 8, 8))
    torch.testing.assert_close(found.transpose(0, 1), made.classify(x))
    assert found.std(0).max() > 0  # the neurons fire, and not always


def test_a_classifier_of_events_takes_frames(tmp_path):
    made, frames = classifier(image_channels=2), torch.randint(4, (4, 3, 2, 8, 8)).float()
    file = tg.export(made, format="nir", out=tmp_path / "c.nir")
    torch.testing.assert_close(outputs(file, frames.transpose(0, 1)).transpose(0, 1), made.classify(frames))


def test_an_encoder_of_codes_gives_the_same_spikes_and_says_what_it_is(tmp_path):
    made, x = generator(), torch.rand(4, 1, 8, 8)
    file = tg.export(made, "encoder", "nir", tmp_path / "e.nir")
    found = outputs(file, (2 * x - 1).expand(2, 4, 1, 8, 8))
    assert 0 < found.mean() < 1 and torch.equal(found.transpose(0, 1), made.encode(x))
    metadata = nir.read(file).metadata
    assert metadata["weights"] == weights_hash(made) and metadata["part"] == "encoder"


@pytest.mark.parametrize(
    ("encoder", "reason"),
    [("4C3-TCJA", "TCJA looks ahead in time"), ("4C3-TCJAC", "gate"), ("4C3-SE", "two signals"), ("4C3-MP2", "max")],
)
def test_what_nir_cannot_say_is_refused_with_a_reason(tmp_path, encoder, reason):
    with pytest.raises(UserError, match=reason):
        tg.export(classifier(encoder=encoder), "classifier", "nir", tmp_path / "c.nir")
    assert not [*tmp_path.iterdir()]


def test_a_decoder_is_refused(tmp_path):
    with pytest.raises(UserError, match="no transposed convolution"):
        tg.export(generator(), "decoder", "nir", tmp_path / "d.nir")
