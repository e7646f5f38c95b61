import json
import pickle

import numpy as np
import pytest
import torch

from tcja_gen.metrics import Statistics, frechet_distance


def test_two_gaussians_have_the_distance_of_the_closed_form():
    a, b = (
        np.array([1.0, 4.0, 9.0]),
        np.array([4.0, 1.0, 0.25]),
    )  # commuting covariances: sum of (sqrt a - sqrt b)^2
    rotation, _ = np.linalg.qr(np.random.default_rng(0).normal(size=(3, 3)))
    s1, s2 = ((rotation * v) @ rotation.T for v in (a, b))
    expected = 9.0 + ((np.sqrt(a) - np.sqrt(b)) ** 2).sum()
    assert frechet_distance(np.zeros(3), s1, np.array([0.0, 3.0, 0.0]), s2) == pytest.approx(expected, abs=1e-10)


def test_covariances_that_do_not_commute_agree_with_scipy():
    from scipy.linalg import sqrtm

    g = np.random.default_rng(1)
    s1, s2 = (np.cov(g.normal(size=(50, 6)) @ g.normal(size=(6, 6)), rowvar=False) for _ in range(2))
    expected = np.trace(s1 + s2 - 2 * sqrtm(s1 @ s2).real)
    assert frechet_distance(np.zeros(6), s1, np.zeros(6), s2) == pytest.approx(expected, rel=1e-9)


def test_a_set_with_itself_scores_zero_even_with_fewer_images_than_features():
    few = Statistics.of(torch.randn(5, 40, generator=torch.Generator().manual_seed(0)))
    assert few.distance(few) == pytest.approx(0, abs=1e-9)
    assert frechet_distance(few.mu, few.sigma, few.mu, few.sigma * 4) == pytest.approx(np.trace(few.sigma))


def test_nonsense_is_refused_not_scored():
    one = np.eye(2)
    with pytest.raises(ValueError, match="shapes"):
        frechet_distance(np.zeros(2), one, np.zeros(3), np.eye(3))
    with pytest.raises(ValueError, match="not finite"):
        frechet_distance(np.zeros(2), one, np.array([0, np.nan]), one)
    with pytest.raises(ValueError, match="1 of 3 images"):
        Statistics.of(torch.tensor([[0.0], [1.0], [float("inf")]]))


def test_statistics_survive_the_disk_with_what_they_say_of_themselves(tmp_path):
    saved = Statistics.of(torch.randn(9, 3), mode="eval", split="test")
    saved.save(tmp_path / "s.npz")
    loaded = Statistics.load(tmp_path / "s.npz")
    assert np.array_equal(saved.mu, loaded.mu) and np.array_equal(saved.sigma, loaded.sigma)
    assert (loaded.n, loaded.metadata) == (9, {"mode": "eval", "split": "test"})
    assert json.loads(str(np.load(tmp_path / "s.npz")["metadata"]))["split"] == "test"


def test_statistics_as_fsvae_publishes_them_load(tmp_path):
    np.savez(tmp_path / "mnist.npz", mu=np.zeros(4, np.float32), sigma=np.eye(4))
    loaded = Statistics.load(tmp_path / "mnist.npz")
    assert loaded.n is None and loaded.mu.dtype == np.float64


@pytest.mark.parametrize("content", ["pickle", "text", "keys", "shape"])
def test_a_file_that_is_no_statistics_is_named_in_one_line(tmp_path, content):
    file = tmp_path / "wrong.npz"
    if content == "pickle":
        np.savez(file, mu=np.array([{}], dtype=object), sigma=np.eye(1))
    elif content == "text":
        file.write_bytes(pickle.dumps([1, 2]))
    else:
        np.savez(file, **({"mu": np.zeros(2)} if content == "keys" else {"mu": np.zeros(2), "sigma": np.eye(3)}))
    with pytest.raises(ValueError, match="wrong.npz") as error:
        Statistics.load(file)
    assert "\n" not in str(error.value)
    with pytest.raises(FileNotFoundError, match="absent.npz"):
        Statistics.load(tmp_path / "absent.npz")


def test_statistics_of_many_features_are_those_of_numpy(monkeypatch):
    from tcja_gen.metrics import frechet

    monkeypatch.setattr(frechet, "ROWS", 7)  # in parts, the last of them smaller
    x = np.random.default_rng(0).normal(size=(50, 3)).astype(np.float32) * [1, 10, 0.1] + 100
    found = Statistics.of(torch.from_numpy(x))
    assert np.allclose(found.mu, x.mean(0), rtol=1e-12) and np.allclose(found.sigma, np.cov(x, rowvar=False), rtol=1e-9)
