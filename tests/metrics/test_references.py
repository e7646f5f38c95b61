import numpy as np
import pytest
import torch

from tcja_gen.metrics import Part, ReferenceFile, Statistics, train_autoencoder, write_reference
from tcja_gen.metrics import load_autoencoder as load

FACTS = dict(data="digits", split="test", size=8, channels=1, n=20, fingerprint="f", floors={})


@pytest.fixture
def features():
    return torch.rand(20, 4, generator=torch.Generator().manual_seed(0))


def test_one_file_brings_statistics_features_and_networks_to_another_place(features, tmp_path):
    images = torch.randint(256, (20, 1, 8, 8), dtype=torch.uint8)
    network, made = train_autoencoder(images, size=8, width=4, steps=2), Statistics.of(features)
    parts = {"classifier": Part({"name": "c"}, made, features), "autoencoder": Part({"name": "a"}, made, None)}
    write_reference(tmp_path / "r.npz", FACTS, parts, {"autoencoder": network.state_dict()})
    read = ReferenceFile(tmp_path / "r.npz")
    assert torch.equal(read.features("classifier"), features) and read.extractor("classifier") == {"name": "c"}
    assert np.array_equal(read.statistics("autoencoder").sigma, made.sigma) and read.statistics("autoencoder").n == 20
    assert read.fingerprint == "f" and not read.published and read.facts["data"] == "digits"
    assert load(tmp_path / "r.npz").hash == network.hash
    assert read.holds("autoencoder", "weights") and not read.holds("classifier", "weights")
    with pytest.raises(ValueError, match="r.npz: no features of the autoencoder in it"):
        read.features("autoencoder")
    with pytest.raises(ValueError, match="r.npz: nothing of the inception in it; it holds autoencoder, classifier"):
        read.statistics("inception")


def test_published_statistics_are_of_whichever_network_is_asked_for(features, tmp_path):
    Statistics.of(features).save(tmp_path / "s.npz")
    read = ReferenceFile(tmp_path / "s.npz")
    assert read.published and read.extractor("inception") is None and len(read.fingerprint) == 64
    assert np.array_equal(read.statistics("inception").mu, read.statistics("autoencoder").mu)
    assert read.holds("inception") and not read.holds("inception", "features")


def test_files_of_another_kind_and_of_the_future_are_named(features, tmp_path):
    with pytest.raises(FileNotFoundError, match="gone.npz: no such file"):
        ReferenceFile(tmp_path / "gone.npz")
    (tmp_path / "text.npz").write_text("no numbers")
    with pytest.raises(ValueError, match="text.npz: not an .npz of tcja-gen reference, nor one with mu and sigma"):
        ReferenceFile(tmp_path / "text.npz")
    np.savez(tmp_path / "later.npz", metadata=np.array('{"format": 2}'))
    with pytest.raises(ValueError, match="later.npz: a reference of format 2; this version reads format 1"):
        ReferenceFile(tmp_path / "later.npz")
    broken = Part({}, Statistics.of(features), features / 0)
    write_reference(tmp_path / "broken.npz", FACTS, {"classifier": broken}, {})
    with pytest.raises(ValueError, match="broken.npz: classifier/features are no finite"):
        ReferenceFile(tmp_path / "broken.npz").features("classifier")
