import pytest
import torch

from tcja_gen.data import load_images
from tcja_gen.metrics import (
    ClassifierFeatures,
    Statistics,
    cached_classifier,
    cached_features,
    cached_statistics,
    load_classifier,
    train_classifier,
)


@pytest.fixture(scope="module")
def digits():
    return load_images("digits", "train"), load_images("digits", "test")


@pytest.fixture(scope="module")
def trained(digits):
    return train_classifier(digits[0].images, digits[0].labels, size=16, steps=120)


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def test_it_learns_its_classes_and_its_features_separate_them(digits, trained):
    extract = ClassifierFeatures(trained)
    features = extract(digits[1].images)
    assert features.shape == (299, 128) and extract.logits(features).shape == (299, 10)
    assert (extract.logits(features).argmax(1) == digits[1].labels).float().mean() > 0.9
    assert torch.allclose(extract(digits[1].images[7:8]), features[7:8], atol=1e-5)  # by the image alone


def test_training_repeats_itself_and_leaves_the_random_state_alone(digits):
    torch.manual_seed(7)
    before, arguments = torch.get_rng_state(), dict(size=8, steps=3)
    first, again = (train_classifier(digits[0].images, digits[0].labels, **arguments) for _ in range(2))
    assert torch.equal(before, torch.get_rng_state()) and first.hash == again.hash
    assert train_classifier(digits[0].images, digits[0].labels, **arguments, seed=1).hash != first.hash
    with pytest.raises(ValueError, match="at least 2 classes"):
        train_classifier(digits[0].images[:9], torch.zeros(9, dtype=torch.int64))


def test_it_is_trained_once_for_a_set_and_read_again(digits):
    ask = (digits[0].images, digits[0].labels, digits[0].fingerprint)
    first, file = cached_classifier(*ask, size=8, steps=3)
    written = file.stat().st_mtime_ns
    again, same = cached_classifier(*ask, size=8, steps=3)
    assert (first.hash, file, written) == (again.hash, same, file.stat().st_mtime_ns)
    assert load_classifier(file).hash == first.hash and again.size == 8 and not again.training


def test_a_file_of_another_kind_is_named(tmp_path):
    (tmp_path / "x.safetensors").write_bytes(b"nothing")
    with pytest.raises(ValueError, match="x.safetensors: not the weights of a scoring classifier"):
        load_classifier(tmp_path / "x.safetensors")
    with pytest.raises(FileNotFoundError, match="gone.safetensors"):
        load_classifier(tmp_path / "gone.safetensors")


def test_reference_features_and_statistics_are_kept_and_agree(digits, trained):
    extract, real = ClassifierFeatures(trained), digits[1]
    features, file = cached_features(real.images, extract, real.fingerprint, split="test")
    again, same = cached_features(real.images[:0], extract, real.fingerprint, split="test")
    assert file == same and torch.equal(features, again) and torch.equal(features, extract(real.images))
    statistics, _ = cached_statistics(real.images, extract, real.fingerprint, features, split="test")
    assert statistics.distance(Statistics.of(features)) == pytest.approx(0, abs=1e-9)
