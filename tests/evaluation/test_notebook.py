"""What a notebook shows: pictures that are large enough, and words in place of addresses."""

import json

import numpy as np
import pytest
import torch

import tcja_gen as tg


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    codes = dict(kind="codes", channels=2, prior="4C3")
    stages = [dict(name=fit, fit=fit, steps=2) for fit in ("autoencoder", "prior")]
    out = str(tmp_path_factory.mktemp("runs") / "tiny")
    model = dict(encoder="4C3s2-TCJA", decoder="4C3-4T4s2", latent=codes)
    return tg.train(data="digits", batch=8, log_every=1, quiet=True, compile="off", out=out, model=model, stages=stages)


@pytest.mark.parametrize("images", [torch.rand(3, 1, 8, 8), np.zeros((3, 3, 8, 8), np.uint8), torch.rand(1, 8, 8)])
def test_a_grid_is_a_picture_wide_enough_to_be_seen(images):
    assert tg.grid(images).width >= 512


def test_bytes_and_floats_give_the_same_grid_as_the_image_set_that_has_them():
    digits = tg.load_images("digits", "test")
    bytes_, floats, whole = (np.asarray(tg.grid(x)) for x in (digits.images, digits.images / 255, digits))
    assert np.array_equal(bytes_, floats) and np.array_equal(bytes_, whole)


def test_what_is_no_image_is_refused_in_one_line():
    with pytest.raises(ValueError, match=r"\(N, C, H, W\) with 1 or 3 channels is wanted"):
        tg.grid(torch.rand(2, 4, 8, 8))
    with pytest.raises(ValueError, match="images are torch.int64; uint8, or floats in"):
        tg.grid(torch.full((2, 1, 8, 8), 200))
    with pytest.raises(ValueError, match="values from -1 to 1; wanted floats"):
        tg.grid(torch.tensor([-1.0, 1.0]).view(2, 1, 1, 1).expand(2, 1, 8, 8))
    for columns, told in {-1: "columns is -1, it must be at least 1", 2.5: "2.5, it must be a whole number"}.items():
        with pytest.raises(ValueError, match=told):
            tg.grid(torch.rand(2, 1, 8, 8), columns)
    assert tg.grid(torch.rand(2, 1, 8, 8), np.int64(2)).width >= 512


def test_a_run_has_its_model_its_numbers_and_its_curves(run):
    stages = [record["stage"] for record in run.stats if "lr" in record]
    assert stages == ["stage-1-autoencoder"] * 2 + ["stage-2-prior"] * 2
    assert run.curves().width >= 512
    assert f"{run.folder}: step 2, finished, validation loss" in repr(run)
    assert "decoder" in repr(run.model) and "4C3-4T4s2" in repr(run.model) and "trained on digits" in repr(run.model)


def test_sets_and_records_show_what_they_are(run):
    assert repr(tg.load_images("digits")) == "ImageSet(digits, train: 1,374 images, 1 x 8 x 8, 10 classes)"
    record = tg.evaluate(run.model, "digits", metrics="psnr", n=4)
    assert repr(record).splitlines()[0].split() == ["metric", "score"] and "psnr" in repr(record)
    assert json.loads(json.dumps(record)) == record
