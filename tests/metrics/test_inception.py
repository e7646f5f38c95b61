import hashlib
import io

import numpy as np
import pytest
import torch

from tcja_gen.metrics import (
    INCEPTION,
    TORCHVISION,
    InceptionFeatures,
    TorchvisionFeatures,
    cached_features,
    identity,
    inception,
    to_inception,
)


@pytest.fixture
def digits() -> torch.Tensor:
    """uint8 (6, 1, 28, 28): random, with structure."""
    x = torch.rand(6, 1, 7, 7, generator=torch.Generator().manual_seed(0))
    x = torch.nn.functional.interpolate(x, (28, 28), mode="bicubic").clamp(0, 1)
    return x.mul(255).round().to(torch.uint8)


def test_the_clean_resize_is_pils_float_bicubic(digits):
    from PIL import Image

    found = to_inception(digits, "clean")
    assert found.shape == (6, 3, 299, 299) and torch.equal(found[:, 0], found[:, 2])
    pil = [Image.fromarray(x[0].numpy().astype(np.float32), "F").resize((299, 299), Image.BICUBIC) for x in digits]
    wanted = np.stack([np.asarray(x) for x in pil]).clip(0, 255)
    assert np.abs(found[:, 0].numpy() - wanted).max() < 0.01


def test_the_other_resizes_differ_and_unknown_ones_are_refused(digits):
    clean, tf1, plain = (to_inception(digits, name) for name in ("clean", "tf1", "torch"))
    assert (tf1 - plain).abs().mean() > 1 and (clean - plain).abs().mean() > 0.1
    with pytest.raises(ValueError, match="unknown resize 'pil'; there are clean, tf1, torch"):
        to_inception(digits, "pil")
    with pytest.raises(ValueError, match="found torch.float32"):
        to_inception(digits.float())


def test_features_and_logits_are_those_of_torch_fidelity(digits, inception_file):
    from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3

    extract = InceptionFeatures(inception_file, "tf1")
    theirs = FeatureExtractorInceptionV3("x", ["2048", "logits_unbiased"], str(inception_file))
    features, logits = theirs(digits[:3].expand(-1, 3, -1, -1))
    found = extract(digits[:3])
    assert torch.allclose(found, features, rtol=1e-4, atol=1e-5) and found.std(0).max() > 0
    assert torch.allclose(extract.logits(found), logits, rtol=1e-4, atol=1e-5)
    assert extract.name == "inception-other" and extract.resize == "tf1 to 299x299"
    assert extract.hash == hashlib.sha256(inception_file.read_bytes()).hexdigest()


def test_statistics_of_one_resize_are_not_taken_for_those_of_another(digits, inception_file, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(inception, "SIDE", 75)
    clean, tf1 = (InceptionFeatures(inception_file, name) for name in ("clean", "tf1"))
    assert clean.hash == tf1.hash and identity(clean) != identity(tf1)
    features = [cached_features(digits[:2], extract, "f")[0] for extract in (clean, tf1, clean)]
    assert torch.equal(features[0], features[2]) and not torch.equal(features[0], features[1])


def test_weights_are_looked_for_in_three_places(tmp_path, monkeypatch):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.delenv("TCJA_GEN_INCEPTION", raising=False)
    with pytest.raises(FileNotFoundError, match="fetch https://.*6726825d.pth .* to .*checkpoints") as told:
        INCEPTION.find()
    assert "\n" not in str(told.value)
    (tmp_path / "hub" / "checkpoints").mkdir(parents=True)
    for name in ("pt_inception-2015-12-05-6726825d.pth", INCEPTION.name):
        kept = tmp_path / "hub" / "checkpoints" / name
        kept.write_bytes(b"")
        assert INCEPTION.find() == kept
    (tmp_path / "mine.pth").write_bytes(b"")
    monkeypatch.setenv("TCJA_GEN_INCEPTION", str(tmp_path / "mine.pth"))
    assert INCEPTION.find() == tmp_path / "mine.pth" and INCEPTION.find(kept) == kept
    with pytest.raises(FileNotFoundError, match="gone.pth: no such file"):
        INCEPTION.find(tmp_path / "gone.pth")
    with pytest.raises(
        FileNotFoundError, match="torchvision's Inception v3's weights are missing: fetch .*0cc3c7bd.pth"
    ):
        TORCHVISION.find()


def test_a_damaged_or_strange_weights_file_is_named_and_not_unpickled(tmp_path):
    damaged = tmp_path / INCEPTION.name
    damaged.write_bytes(b"half of it")
    with pytest.raises(ValueError, match="damaged or not what its name says .*wanted 6726825d"):
        InceptionFeatures(damaged)
    buffer = io.BytesIO()
    torch.save({"fc.weight": torch.zeros(2)}, buffer)
    for name, content in (("other.pth", buffer.getvalue()), ("text.pth", b"no weights")):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(ValueError, match=f"{name}: not the weights of Inception") as told:
            InceptionFeatures(tmp_path / name)
        assert "\n" not in str(told.value)


def test_torchvisions_inception_sees_what_fsvae_shows_it(digits, torchvision_file):
    from torchvision.models import inception_v3

    network = inception_v3(transform_input=False, init_weights=False)
    network.load_state_dict(torch.load(torchvision_file, weights_only=True))
    shown = digits[:3].float().repeat(1, 3, 1, 1)  # 0 .. 255, as it is
    shown = torch.nn.functional.interpolate(shown, (299, 299), mode="bilinear")
    extract = TorchvisionFeatures(torchvision_file)
    with torch.no_grad():
        wanted = network.eval()(shown)
    found = extract.logits(extract(digits[:3]))
    assert found.shape == (3, 1000) and torch.allclose(found, wanted, rtol=1e-3, atol=1e-4 * float(wanted.abs().max()))
    assert extract.name == "torchvision-inception-other" and "not normalised" in extract.mode


def test_weights_of_another_network_are_not_taken_for_torchvisions(inception_file, tmp_path):
    with pytest.raises(ValueError, match="random.pth: not the weights of torchvision's Inception v3"):
        TorchvisionFeatures(inception_file)
    damaged = tmp_path / TORCHVISION.name
    damaged.write_bytes(b"half of it")
    with pytest.raises(ValueError, match="damaged or not what its name says .*wanted 0cc3c7bd"):
        TorchvisionFeatures(damaged)
