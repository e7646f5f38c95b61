import pytest
import torch

from tcja_gen.data import load_images
from tcja_gen.metrics import (
    ClassifierFeatures,
    Statistics,
    cached_classifier,
    cached_features,
    cached_statistics,
    fit,
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


def coloured(n: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Noise whose class, 0 to 2, is the brightest of its three channels."""
    draws = torch.Generator().manual_seed(0)
    images, labels = torch.randint(200, (n, 3, 8, 8), generator=draws, dtype=torch.uint8), torch.arange(n) % 3
    images[torch.arange(n), labels] += 40
    return images, labels


def test_colour_images_get_a_deeper_network_whose_file_is_exact_in_half_precision(tmp_path):
    images, labels = coloured(300)
    trained = train_classifier(images, labels, size=8, steps=30)
    extract = ClassifierFeatures(trained)
    features = extract(images)
    assert trained.network == "residual" and sum(p.numel() for p in trained.parameters()) > 450_000
    assert (extract.logits(features).argmax(1) == labels).float().mean() > 0.9
    trained.save(tmp_path / "c.safetensors")
    again = load_classifier(tmp_path / "c.safetensors")
    assert (tmp_path / "c.safetensors").stat().st_size < 1_100_000 and again.hash == trained.hash
    assert torch.equal(ClassifierFeatures(again)(images), features)
    assert torch.allclose(extract(images[7:8]), features[7:8], atol=1e-5)  # by the image alone


def test_an_interrupted_training_goes_on_to_the_same_weights(monkeypatch, tmp_path):
    def trained(stop: int = 99, state=None) -> torch.Tensor:
        network, calls = fit.seeded(lambda: torch.nn.Linear(5, 1), 0, "cpu"), []
        optimiser = torch.optim.AdamW(network.parameters(), lr=1e-2)
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, 1e-2, total_steps=8)

        def loss(chosen: torch.Tensor, draws: torch.Generator) -> torch.Tensor:
            calls.append(chosen)
            if len(calls) == stop:
                raise KeyboardInterrupt
            return network(torch.eye(5)[chosen] + torch.rand(3, 5, generator=draws)).sum()

        how = dict(n=5, batch=3, steps=8, seed=0, title=None, state=state)
        return fit.fit(network, loss, optimiser, schedule, **how).weight

    state = tmp_path / "state"
    monkeypatch.setattr(fit, "EVERY", -1)  # keep the state before every step
    with pytest.raises(KeyboardInterrupt):
        trained(stop=6, state=state)
    assert torch.equal(trained(state=state), trained()) and not state.exists()
    state.write_bytes(b"cut off")
    assert torch.equal(trained(state=state), trained())


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
