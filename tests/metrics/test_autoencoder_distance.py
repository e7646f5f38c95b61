import os
import pickle

import numpy as np
import pytest
import torch

from tcja_gen.metrics import (
    Autoencoder,
    AutoencoderFeatures,
    Statistics,
    cached_autoencoder,
    cached_statistics,
    fad,
    load_autoencoder,
    official_order,
    train_autoencoder,
)
from tcja_gen.metrics.pixels import resize


def blobs(n: int, seed: int = 0, channels: int = 1, size: int = 8) -> torch.Tensor:
    """uint8 (n, channels, size, size): random images with structure, so that features have directions."""
    g = torch.Generator().manual_seed(seed)
    x = torch.rand(n, channels, 2, 2, generator=g)
    return torch.nn.functional.interpolate(x, (size, size), mode="bilinear").mul(255).round().to(torch.uint8)


@pytest.fixture(scope="module")
def small() -> Autoencoder:
    return train_autoencoder(blobs(64), size=8, width=4, steps=10)


def test_the_published_layout_has_the_published_parameters():
    autoencoder = Autoencoder(1, 64, 32)
    assert sum(p.numel() for p in autoencoder.parameters()) == 918_305
    assert len(autoencoder.state_dict()) == 62
    assert autoencoder.state_dict()["final_layer.3.weight"].shape == (32, 1, 3, 3)
    assert autoencoder(torch.zeros(2, 1, 32, 32)).shape == (2, 1, 32, 32)
    assert Autoencoder(3, 128, 64).latent_layer.weight.shape == (128, 2048)  # one stage more for 64 x 64


def test_training_learns_repeats_itself_and_leaves_the_random_state_alone(small):
    torch.manual_seed(7)
    before = torch.get_rng_state()
    again = train_autoencoder(blobs(64), size=8, width=4, steps=10)
    assert torch.equal(before, torch.get_rng_state())
    assert again.hash == small.hash
    assert train_autoencoder(blobs(64), size=8, width=4, steps=10, seed=1).hash != small.hash
    x = blobs(64).float() / 127.5 - 1
    longer = train_autoencoder(blobs(64), size=8, width=4, steps=60)
    with torch.no_grad():
        assert (longer(x) - x).square().mean() < 0.5 * (x - x.mean(0)).square().mean()


def test_weights_load_from_pth_and_safetensors_and_are_the_same(small, tmp_path):
    torch.save(small.state_dict(), tmp_path / "a.pth")
    small.save(tmp_path / "a.safetensors")
    for file in ("a.pth", "a.safetensors"):
        loaded = load_autoencoder(tmp_path / file)
        assert (loaded.hash, loaded.channels, loaded.width, loaded.size) == (small.hash, 1, 4, 8)
        assert not loaded.training


class Payload:
    """Unpickling it makes a file: the trace of code that ran."""

    def __init__(self, trace):
        self.trace = trace

    def __reduce__(self):
        return os.mkdir, (str(self.trace),)


@pytest.mark.parametrize("content", ["torch", "pickle", "bytes", "other model"])
def test_a_file_with_code_or_of_another_kind_is_refused_in_one_line_and_not_run(tmp_path, content):
    file, trace = tmp_path / "strange.pth", tmp_path / "code-ran"
    if content == "torch":
        torch.save({"encoder.0.0.weight": Payload(trace)}, file)
    elif content == "pickle":
        file.write_bytes(pickle.dumps(Payload(trace)))
    elif content == "bytes":
        file.write_bytes(b"not weights at all")
    else:
        torch.save(torch.nn.Linear(2, 2).state_dict(), file)
    with pytest.raises(ValueError, match="strange.pth") as error:
        load_autoencoder(file)
    assert "\n" not in str(error.value)
    assert not trace.exists()


def test_images_are_resized_and_greyed_as_pil_does_it():
    from PIL import Image

    for channels, found, size in ((1, 28, 32), (3, 28, 32), (3, 37, 32), (1, 100, 32)):
        x = torch.randint(256, (3, channels, found, found), dtype=torch.uint8)
        ours = resize(x, channels, size)
        pictures = [Image.fromarray(i.permute(1, 2, 0).squeeze(2).numpy()) for i in x]
        pil = [np.asarray(p.resize((size, size), Image.Resampling.BILINEAR)) for p in pictures]
        assert np.array_equal(
            ours.permute(0, 2, 3, 1).numpy().reshape(3, size, size, channels).squeeze(), np.stack(pil)
        )
    colour = torch.randint(256, (3, 3, 8, 8), dtype=torch.uint8)
    grey = np.stack([np.asarray(Image.fromarray(x.permute(1, 2, 0).numpy()).convert("L")) for x in colour])
    assert np.array_equal(resize(colour, 1, 8).squeeze(1).numpy(), grey)
    assert torch.equal(resize(resize(colour, 1, 8), 3, 8), torch.from_numpy(grey)[:, None].expand(-1, 3, -1, -1))


def test_a_set_scores_zero_against_itself_and_more_the_more_it_differs(small):
    images = blobs(300)
    extractor = AutoencoderFeatures(small)
    reference = Statistics.of(extractor(images))
    noise = torch.randint(256, images.shape, dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    scores = [fad(x, reference, extractor) for x in (images, blobs(300, seed=1), images // 2, noise)]
    assert scores[0] == pytest.approx(0, abs=1e-9)
    assert scores[0] < scores[1] < min(scores[2:])


def test_scoring_does_not_change_the_autoencoder(small):
    small.train()
    before = {name: value.clone() for name, value in small.state_dict().items()}
    for mode in ("eval", "official"):
        AutoencoderFeatures(small, mode)(blobs(300))
    assert small.training
    assert all(torch.equal(value, before[name]) for name, value in small.state_dict().items())
    small.eval()


def test_official_mode_normalises_by_batches_of_256_and_eval_mode_by_the_image_alone(small):
    images = blobs(300)
    official, own = AutoencoderFeatures(small, "official"), AutoencoderFeatures(small)
    assert torch.allclose(official(images)[:256], official(images[:256]), atol=1e-6)
    assert torch.allclose(official(images)[256:], official(images[256:]), atol=1e-6)  # a last batch of its own
    assert not torch.allclose(official(images)[:100], official(images[:100]), atol=1e-3)
    assert torch.allclose(own(images)[:100], own(images[:100]), atol=1e-5)
    train = Autoencoder(1, 4, 8)
    train.load_state_dict(small.state_dict())
    with torch.no_grad():
        expected = train.train().features(images[:256].float() / 255 * 2 - 1)
    assert torch.allclose(official(images[:256]), expected, atol=1e-6)


def test_strides_of_the_images_do_not_change_official_features(small):
    images = blobs(256)
    odd = images.permute(0, 2, 3, 1).contiguous().permute(0, 3, 1, 2)
    official = AutoencoderFeatures(small, "official")
    assert torch.equal(official(images), official(odd))


def test_official_mode_shuffles_generated_images_and_keeps_whole_batches():
    images = torch.arange(600).view(-1, 1, 1, 1).expand(-1, 1, 2, 2)
    ordered = official_order(images)
    assert len(ordered) == 512 and len(ordered[:, 0, 0, 0].unique()) == 512
    assert not torch.equal(ordered, images[:512])
    assert torch.equal(ordered, official_order(images))
    with pytest.raises(ValueError, match="found 255"):
        official_order(images[:255])


def test_a_reference_of_another_width_is_refused(small):
    with pytest.raises(ValueError, match="64 features"):
        fad(blobs(300), Statistics(np.zeros(64), np.eye(64)), AutoencoderFeatures(small))


def test_cached_statistics_are_reused_until_an_image_a_split_or_the_mode_changes(small, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    images, own = blobs(300), AutoencoderFeatures(small)
    first, file = cached_statistics(images, own, "fingerprint", split="test")
    assert file.parent == tmp_path / "tcja_gen" and np.array_equal(first.mu, Statistics.of(own(images)).mu)
    stamp = file.stat().st_mtime_ns
    again, same = cached_statistics(images, own, "fingerprint", split="test")
    assert same == file and file.stat().st_mtime_ns == stamp and np.array_equal(first.sigma, again.sigma)
    others = [
        cached_statistics(images, own, "another image", split="test")[1],
        cached_statistics(images, own, "fingerprint", split="train")[1],
        cached_statistics(images, AutoencoderFeatures(small, "official"), "fingerprint", split="test")[1],
    ]
    assert len({file, *others}) == 4
    assert sorted(tmp_path.rglob("*.npz")) == sorted([file, *others])  # and no temporary file is left


def test_the_autoencoder_of_a_data_set_is_trained_once(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    first, file = cached_autoencoder(blobs(64), "a", size=8, steps=2)
    stamp = file.stat().st_mtime_ns
    second, _ = cached_autoencoder(blobs(64), "a", size=8, steps=2)
    assert first.hash == second.hash and file.stat().st_mtime_ns == stamp
    assert cached_autoencoder(blobs(64), "b", size=8, steps=2)[1] != file
    assert cached_autoencoder(blobs(64), "a", size=8, steps=3)[1] != file
