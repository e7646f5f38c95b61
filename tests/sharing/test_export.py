"""Exported files give what the model gives, without this package."""

import json
import subprocess
import sys

import pytest
import torch
from torch import nn

import tcja_gen as tg
from tcja_gen.cli import main
from tcja_gen.errors import UserError
from tcja_gen.models import Classifier, build
from tcja_gen.models.store import save, weights_hash
from tcja_gen.nn import ImageDraws
from tcja_gen.nn.normalisation import TDBatchNorm
from tcja_gen.shipped import weights

CODES = {"kind": "codes", "channels": 2, "prior": "8C3", "rounds": 2}


def model(**settings) -> nn.Module:
    """A tiny generator whose neurons fire."""
    torch.manual_seed(0)
    table = {"image_size": 8, "time_steps": 2, "encoder": "4C3s2-TCJA-4C3s2", **settings}
    made = build(table).eval()
    for layer in made.modules():
        if isinstance(layer, TDBatchNorm):
            nn.init.uniform_(layer.bias, 0, 3)
    return made


@pytest.fixture(scope="module")
def encoder(tmp_path_factory):
    """A model, and the file of its encoder."""
    made = model(latent=CODES).train()
    made.provenance = {"data": {"classes": ["cat", "dog"]}, "run": "mine"}
    return made, tg.export(made, part="encoder", format="pt2", out=tmp_path_factory.mktemp("files") / "e.pt2")


def run(file, *inputs):
    return torch.export.load(file).module()(*inputs)


def test_a_decoder_as_pt2_makes_the_models_images_of_any_number(tmp_path):
    made = model(latent=CODES, encoder="4C3s2-4C3s2-TCJAC")
    z = (torch.rand(5, 2, 2, 2, 2) < 0.5).float()
    file = tg.export(made, part="decoder", out=tmp_path / "d.pt2")
    torch.testing.assert_close(run(file, z), made.decode(z))
    torch.testing.assert_close(run(file, z[:1]), made.decode(z[:1]))


def test_a_reconstruction_takes_the_numbers_that_the_latent_draws(tmp_path):
    made, x = model(latent={"kind": "poisson", "channels": 6}, encoder="4C3s2"), torch.rand(3, 1, 8, 8)
    file = tg.export(made, out=tmp_path / "a.pt2")
    torch.testing.assert_close(run(file, x, ImageDraws(range(3)).uniform(2, 6)), made.reconstruct(x))


def test_a_sampler_makes_the_images_of_seeds_and_classes(tmp_path):
    latent = {"kind": "bernoulli", "channels": 4, "k": 2, "conditional": True}
    made = model(latent=latent, classes=3)
    file = tg.export(made, "sampler", out=tmp_path / "s.pt2")
    images = run(file, torch.tensor([0, 1, 2]), ImageDraws([7, 8, 9]).uniform(2, 4))
    torch.testing.assert_close(images, made.sample([7, 8, 9], [0, 1, 2]))


def fill_in(file, facts, z, u, classes=()):
    """Codes of uniform numbers u (N, P, G) by an exported prior, as the guide tells it; starts with z of zeros."""
    n, time_steps, channels, *sides = z.shape
    known, bits = torch.zeros(n, *sides, dtype=torch.bool), z.view(n, time_steps * channels, -1)
    for places in facts["rounds"]:
        for g in range(u.shape[2]):
            p = (run(file, z, known, *classes)[:, places, g] / facts["temperature"]).softmax(-1)
            token = (p.cumsum(-1) < u[:, places, g, None]).sum(-1).clamp(max=p.shape[-1] - 1)
            group = p.shape[-1].bit_length() - 1
            for i in range(group):
                bits[:, g * group + i, places] = (token >> i & 1).float()
        known.view(n, -1)[:, places] = True
    return z


@pytest.mark.parametrize("group", [0, 2])
def test_a_prior_of_codes_and_a_loop_around_it_draw_the_models_own_codes(tmp_path, group):
    made = model(
        latent=CODES | {"group": group, "conditional": True, "temperature": 0.8}, classes=3, encoder="4C3s2-4C3"
    )
    nn.init.normal_(made.latent.prior.planes, std=3)
    file = tg.export(made, "prior", out=tmp_path / "p.pt2")
    extra = {"tcja_gen.json": ""}
    torch.export.load(file, extra_files=extra)
    u = ImageDraws(range(5)).uniform(16 * made.latent.groups).view(5, 16, -1)
    classes = torch.tensor([0, 1, 2, 0, 1])
    z = fill_in(file, json.loads(extra["tcja_gen.json"])["sampling"], torch.zeros(5, 2, 2, 4, 4), u, [classes])
    assert 0.1 < z.mean() < 0.9 and len(z.unique(dim=0)) == 5
    torch.testing.assert_close(made.decode(z), made.sample(range(5), classes))


def test_an_exported_prior_can_be_asked_without_a_class(tmp_path):
    made = model(latent=CODES | {"conditional": True, "class_dropout": 0.1}, classes=3, encoder="4C3s2-4C3")
    file, z = tg.export(made, "prior", out=tmp_path / "p.pt2"), torch.zeros(2, 2, 2, 4, 4)
    logits = run(file, z, torch.zeros(2, 4, 4, dtype=torch.bool), torch.tensor([-1, 1]))
    none, one = (
        made.latent.logits(z[:1].transpose(0, 1), torch.zeros(1, 16), y) for y in torch.eye(4, 3)[[3, 1], None]
    )
    torch.testing.assert_close(logits, torch.cat([none, one]))
    assert not torch.allclose(none, one)


def test_a_classifier_of_events_takes_frames_and_scores_classes(tmp_path):
    torch.manual_seed(0)
    settings = Classifier(encoder="4C3s2-TLA", image_size=8, image_channels=2, time_steps=2, classes=3)
    made, frames = build(settings).eval(), torch.randint(4, (3, 2, 2, 8, 8)).float()
    scores = run(tg.export(made, "classifier", out=tmp_path / "c.pt2"), frames)
    torch.testing.assert_close(scores, made.classify(frames).mean(1))


@pytest.fixture(scope="module")
def frames():
    """A generator of event frames, frames with counts above those that it tells apart, and their codes."""
    made = model(image_channels=2, readout="frames", full_count=3, latent=CODES, encoder="4C3s2")
    counts = torch.randint(5, (3, 2, 2, 8, 8)).float()
    return made, counts, made.encode(counts)


def test_a_generator_of_event_frames_is_exported_with_its_scale_of_counts(frames, tmp_path):
    made, counts, z = frames
    assert 0 < z.mean() < 1
    assert torch.equal(run(tg.export(made, "encoder", out=tmp_path / "e.pt2"), counts), z)
    torch.testing.assert_close(run(tg.export(made, "decoder", out=tmp_path / "d.pt2"), z), made.decode(z))


def test_onnx_runtime_encodes_and_decodes_event_frames(frames, tmp_path):
    runtime = pytest.importorskip("onnxruntime")
    made, counts, z = frames
    for part, given, wanted in (("encoder", {"frames": counts}, z), ("decoder", {"z": z}, made.decode(z))):
        session = runtime.InferenceSession(tg.export(made, part, "onnx", tmp_path / f"{part}.onnx"))
        found = session.run(None, {name: values.numpy() for name, values in given.items()})[0]
        torch.testing.assert_close(torch.from_numpy(found), wanted)


def test_onnx_runtime_reconstructs_what_the_model_reconstructs(tmp_path):
    runtime = pytest.importorskip("onnxruntime")
    made, x = model(latent=CODES, encoder="4C3s2-TCJA"), torch.rand(3, 1, 8, 8)
    file = tg.export(made, "all", "onnx", tmp_path / "a.onnx")
    session = runtime.InferenceSession(file)
    found = session.run(["reconstructions"], {"images": x.numpy()})[0]
    torch.testing.assert_close(torch.from_numpy(found), made.reconstruct(x))
    assert session.get_inputs()[0].shape == ["batch", 1, 8, 8]
    assert session.get_modelmeta().custom_metadata_map["part"] == "all"


def test_an_encoder_gives_the_models_codes(encoder):
    made, file = encoder
    x = torch.rand(3, 1, 8, 8)
    z = run(file, x)
    assert 0 < z.mean() < 1 and torch.equal(z, made.encode(x))


def test_a_file_runs_without_this_package_and_tells_no_paths(encoder, tmp_path):
    file = encoder[1]
    code = """
import sys, torch
images = torch.export.load(sys.argv[1]).module()(torch.rand(3, 1, 8, 8))
print(tuple(images.shape), "tcja_gen" in sys.modules)
"""
    told = subprocess.run([sys.executable, "-I", "-c", code, file], cwd=tmp_path, capture_output=True, encoding="utf-8")
    assert told.stdout == "(3, 2, 2, 2, 2) False\n", told.stderr
    assert b"sharing" not in file.read_bytes()


def test_a_file_says_what_it_is(encoder):
    (made, file), about = encoder, {"tcja_gen.json": ""}
    torch.export.load(file, extra_files=about)
    facts = json.loads(about["tcja_gen.json"])
    assert facts["weights"] == weights_hash(made) and facts["classes"] == ["cat", "dog"]
    assert facts["inputs"]["images"]["shape"] == ["batch", 1, 8, 8] and facts["provenance"]["run"] == "mine"


def test_exporting_leaves_the_model_as_it_was(encoder):
    made, file = encoder
    assert made.training and all(p.requires_grad for p in made.parameters())


def test_what_cannot_be_exported_is_refused_with_a_reason(tmp_path):
    made = model(latent=CODES)
    for part, reason in (("sampler", "round by round"), ("classifier", "names no classes"), ("head", "unknown part")):
        with pytest.raises(UserError, match=reason):
            tg.export(made, part, out=tmp_path / "x.pt2")
    with pytest.raises(UserError, match="sampler has the whole of it"):
        tg.export("digits", "prior", out=tmp_path / "x.pt2")
    for whole, part in ((made, "all"), ("digits", "decoder")):
        with pytest.raises(UserError, match="a whole model, with the settings in its file"):
            tg.export(whole, part, "safetensors", tmp_path / "x.safetensors")
    with pytest.raises(UserError, match="unknown format"):
        tg.export(made, format="tflite", out=tmp_path / "x")
    assert not [*tmp_path.iterdir()]


def test_the_command_prints_the_file_that_it_wrote(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    settings = Classifier(encoder="4C3s2", image_size=8, time_steps=2, classes=3)
    torch.manual_seed(0)
    made, x = build(settings).eval(), torch.rand(5, 1, 8, 8)
    assert made.classify(x).std(0).max() > 0  # its neurons fire
    save("mine.safetensors", made, settings, {})
    assert main(["export", "mine.safetensors", "--part", "classifier"]) == 0
    assert capsys.readouterr().out == "classifier.pt2\n"
    torch.testing.assert_close(run("classifier.pt2", x), made.classify(x).mean(1))


def test_a_whole_model_is_a_small_file_that_reconstructs_much_as_before(tmp_path, capsys):
    file = tmp_path / "small.safetensors"
    assert main(["export", "digits", "--format", "safetensors", "--out", str(file)]) == 0
    assert capsys.readouterr().out == f"{file}\n"
    whole, small, x = tg.load("digits"), tg.load(file), torch.rand(16, 1, 8, 8)
    assert file.stat().st_size < 0.6 * weights()["digits"].stat().st_size and small.provenance == whole.provenance
    assert (small.reconstruct(x) - whole.reconstruct(x)).abs().mean() < 0.05
