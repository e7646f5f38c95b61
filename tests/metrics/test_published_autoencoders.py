"""FSVAE's autoencoders are fetched by name, and taken only if they are the published ones."""

import hashlib
from dataclasses import replace

import pytest
import torch

import tcja_gen as tg
from tcja_gen.errors import MissingFile, UserError
from tcja_gen.metrics import AUTOENCODERS, load_autoencoder
from tcja_gen.metrics.autoencoder import Autoencoder


@pytest.fixture
def home(tmp_path, monkeypatch):
    """An empty folder of torch hub's checkpoints."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    return tmp_path / "hub" / "checkpoints"


def test_a_fetched_file_is_kept_if_its_hash_is_right(home, tmp_path):
    file = tmp_path / "published" / "mnist_64.pth"
    file.parent.mkdir()
    torch.save(Autoencoder().state_dict(), file)
    sha256 = hashlib.sha256(file.read_bytes()).hexdigest()
    published = replace(AUTOENCODERS["fsvae-mnist"], url=file.as_uri(), hash=sha256)
    assert load_autoencoder(published.find(download=True)).width == 64
    (home / file.name).unlink()
    with pytest.raises(MissingFile, match="invalid hash value"):
        replace(published, hash="0" * 64).find(download=True)
    assert not (home / file.name).exists()


def test_a_missing_or_damaged_file_is_told_in_one_line(home):
    images, asked = torch.zeros(4, 1, 8, 8), {"metrics": "fad", "n": 4, "autoencoder": "fsvae-mnist"}
    with pytest.raises(MissingFile, match="fetch https://.*/kamata1729/FullySpikingVAE/.*mnist_64.pth .* download"):
        tg.evaluate(images, "digits", **asked)
    home.mkdir(parents=True)
    (home / "mnist_64.pth").write_bytes(b"half of it")
    with pytest.raises(UserError, match="damaged or not what its name says .* fetch it again"):
        tg.evaluate(images, "digits", **asked)
