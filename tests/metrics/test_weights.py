import hashlib

import pytest
import torch

from tcja_gen.metrics import Published


@pytest.fixture
def published(tmp_path, monkeypatch):
    """Weights in a place that is not the network, published under their hash."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    torch.save({"weight": torch.rand(9)}, tmp_path / "made.pth")
    content = (tmp_path / "made.pth").read_bytes()
    file = tmp_path / f"made-{hashlib.sha256(content).hexdigest()[:8]}.pth"
    file.write_bytes(content)
    return Published("Test", f"file://{file}", 1), file


def test_missing_weights_are_fetched_once_if_that_is_allowed(published, tmp_path):
    weights, file = published
    with pytest.raises(FileNotFoundError, match="Test's weights are missing: fetch file://.*; or download them"):
        weights.find(advice="or download them")
    found = weights.find(download=True)
    assert found == tmp_path / "torch" / "hub" / "checkpoints" / file.name
    assert found.read_bytes() == file.read_bytes() and weights.check(found).startswith(weights.prefix)
    file.unlink()
    assert weights.find() == weights.find(download=True) == found


def test_what_is_fetched_and_damaged_or_not_to_be_had_leaves_nothing_behind(published, tmp_path):
    weights, file = published
    file.write_bytes(file.read_bytes()[:-1])
    with pytest.raises(
        FileNotFoundError, match="Test's weights: file://.* failed .*invalid hash.*by other means"
    ) as told:
        weights.find(download=True)
    assert "\n" not in str(told.value) and not list((tmp_path / "torch").rglob("*.p*"))
    file.unlink()
    with pytest.raises(FileNotFoundError, match="Test's weights: file://.* failed .*; fetch them by other means to"):
        weights.find(download=True)
    assert not list((tmp_path / "torch").rglob("*.p*"))
