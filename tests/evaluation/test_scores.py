import json
import os

import pytest
import torch
from torch import Tensor

from tcja_gen.data import load_images
from tcja_gen.evaluation import METRICS, compare, evaluate, read_record, reference, table, write_record
from tcja_gen.metrics import AutoencoderFeatures, Statistics, load_autoencoder, train_autoencoder


class Smudge:
    """A generator of digits: picks a training digit by its seed and darkens it; reconstructs by darkening."""

    image_size, image_channels, time_steps = 8, 1, 4

    def __init__(self, step: int = 7):
        self.provenance = {"weights": "EMA", "step": step}
        self.images = load_images("digits", "train").images.float() / 255

    def sample(self, seeds: Tensor) -> Tensor:
        return self.images[[int(seed) * 7 % len(self.images) for seed in seeds]] * 0.8

    def reconstruct(self, images: Tensor, seeds: Tensor) -> Tensor:
        assert len(images) == len(seeds)
        return images * 0.8


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    file = tmp_path_factory.mktemp("weights") / "small.safetensors"
    train_autoencoder(load_images("digits").images, size=8, width=4, steps=20).save(file)
    return file


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def test_a_model_gets_every_score_with_the_protocol_that_defines_it(weights, tmp_path):
    record = evaluate(Smudge(), "digits", METRICS, n=270, autoencoder=weights, batch=100, seed=5)
    assert set(record["scores"]) == set(METRICS) == set(record["protocol"])
    originals = load_images("digits", "test").images[:270].double() / 255
    squared = float((originals * 0.2).square().mean())
    assert record["scores"]["reconstruction"] == pytest.approx(squared, rel=1e-5)
    wanted = {
        "extractor": "fsvae-autoencoder", "extractor_hash": load_autoencoder(weights).hash,
        "mode": "official",
        "n": 256, "n_reference": 299, "data": "digits", "split": "test", "size": 8, "channels": 1,
        "quantised": "rounded to uint8", "seeds": [5, 274], "time_steps": 4, "weights": "EMA", "step": 7,
        "reference": load_images("digits", "test").fingerprint, "resize": "PIL bilinear on uint8 to 8x8",
    }  # fmt: skip
    found = record["protocol"]["fad-official"]
    assert {name: found[name] for name in wanted} == wanted
    assert found["versions"]["torch"] and found["command"]
    assert record["protocol"]["fad"]["n"] == 270
    assert any("256 of 270" in note for note in record["notes"])
    write_record(tmp_path / "deep" / "scores.json", record)
    assert read_record(tmp_path / "deep" / "scores.json") == record


def test_the_test_images_themselves_score_zero_and_training_images_little(weights):
    test, train = (load_images("digits", split).images for split in ("test", "train"))
    zero = evaluate(test, "digits", n=1000, autoencoder=weights)
    little = evaluate(train.float() / 255, "digits", n=299, autoencoder=weights)
    noise = evaluate(torch.rand(299, 1, 8, 8), "digits", n=299, autoencoder=weights)
    assert zero["scores"]["fad"] == pytest.approx(0, abs=1e-9)
    assert any("299 images where 1000" in note for note in zero["notes"])
    assert 0 < 5 * little["scores"]["fad"] < noise["scores"]["fad"]
    assert little["protocol"]["fad"]["quantised"] == "rounded to uint8" and zero["protocol"]["fad"]["seeds"] is None


def test_a_folder_of_pictures_scores_like_the_tensor_they_were_made_of(weights, tmp_path):
    from PIL import Image

    images = load_images("digits", "train").images[:40]
    (tmp_path / "pictures").mkdir()
    for i, image in enumerate(images):
        Image.fromarray(image[0].numpy()).save(tmp_path / "pictures" / f"{i:03}.png")
    folder = evaluate(tmp_path / "pictures", "digits", n=40, autoencoder=weights)
    tensor = evaluate(images, "digits", n=40, autoencoder=weights)
    assert folder["scores"]["fad"] == pytest.approx(tensor["scores"]["fad"], abs=1e-6)
    assert folder["source"] == {"images": str(tmp_path / "pictures")}


def test_without_files_an_autoencoder_is_trained_once_on_the_training_split(tmp_path):
    from PIL import Image

    (tmp_path / "set").mkdir()
    for i, image in enumerate(load_images("digits", "train").images[:120]):
        Image.fromarray(image[0].numpy()).save(tmp_path / "set" / f"{i:03}.png")
    images = load_images("digits", "test").images[:64]
    first = evaluate(images, tmp_path / "set", n=64)
    kept = {file: file.stat().st_mtime_ns for file in (tmp_path / "cache").rglob("*.*")}
    assert sorted(file.suffix for file in kept) == [".npz", ".safetensors"]
    assert evaluate(images, tmp_path / "set", n=64)["scores"] == first["scores"]
    assert {file: file.stat().st_mtime_ns for file in (tmp_path / "cache").rglob("*.*")} == kept
    assert any("biased" in note for note in first["notes"])


def test_mistakes_are_told_in_one_line_before_any_work(weights, tmp_path):
    images = load_images("digits", "test").images
    for metrics, match in (
        (["fid"], "known are fad"),
        ("fad", "wanted a list"),
        (["reconstruction"], "only a model"),
    ):
        with pytest.raises(ValueError, match=match):
            evaluate(images, "digits", metrics)
    with pytest.raises(ValueError, match=r"-1 to 1; wanted floats in \[0, 1\]"):
        evaluate(images / 127.5 - 1, "digits", autoencoder=weights, n=299)
    with pytest.raises(ValueError, match="from nan"):
        evaluate(torch.full((9, 1, 8, 8), float("nan")), "digits", autoencoder=weights)
    with pytest.raises(ValueError, match="at least 256"):
        evaluate(images, "digits", ["fad-official"], n=100)
    with pytest.raises(FileNotFoundError, match="none.pth"):
        evaluate(images, "digits", autoencoder=tmp_path / "none.pth")


def test_a_reference_file_is_used_if_it_fits_and_refused_if_it_does_not(weights, tmp_path):
    images, real = (load_images("digits", split).images for split in ("train", "test"))
    plain = Statistics.of(AutoencoderFeatures(load_autoencoder(weights))(real))
    plain.save(tmp_path / "plain.npz")
    by_file = evaluate(images, "digits", n=99, reference=tmp_path / "plain.npz", autoencoder=weights)
    built = evaluate(images, "digits", n=99, autoencoder=weights)
    assert by_file["scores"] == built["scores"] and any("plain.npz" in note for note in by_file["notes"])
    with pytest.raises(ValueError, match="plain.npz: does not say which autoencoder"):
        evaluate(images, "digits", n=99, size=8, reference=tmp_path / "plain.npz")
    ours = reference("digits", autoencoder=weights)["statistics"]["fad"]
    again = evaluate(images, "digits", n=99, reference=ours, autoencoder=weights)
    assert compare({"built": built, "file": again})
    with pytest.raises(ValueError, match="eval mode by .* wanted official mode"):
        evaluate(images, "digits", ["fad-official"], n=299, reference=ours, autoencoder=weights)


def test_the_reference_of_a_set_comes_with_its_floor(weights):
    made = reference("digits", n=299, autoencoder=weights)
    assert made["n_reference"] == 299 and made["autoencoder_hash"] == load_autoencoder(weights).hash
    assert all(os.path.exists(file) for file in made["statistics"].values())
    images = load_images("digits", "train").images
    assert made["floor"]["fad"]["score"] == evaluate(images, "digits", n=299, autoencoder=weights)["scores"]["fad"]
    assert made["floor"]["fad-official"]["n"] == 256
    json.dumps(made)


def test_unlike_protocols_are_not_compared_and_the_field_is_named(weights, tmp_path):
    few, later = (evaluate(Smudge(step), "digits", n=50, autoencoder=weights, seed=step) for step in (1, 2))
    more = evaluate(Smudge(), "digits", n=60, autoencoder=weights)
    rows = compare({"a": few, "b": later})
    assert rows == [{"metric": "fad", "a": few["scores"]["fad"], "b": later["scores"]["fad"]}]
    assert table(rows).splitlines()[0].split() == ["metric", "a", "b"]
    with pytest.raises(ValueError, match="fad of a and of c are not comparable: n 50 and 60"):
        compare({"a": few, "c": more})
    (tmp_path / "x.json").write_text("[1]")
    with pytest.raises(ValueError, match="x.json"):
        read_record(tmp_path / "x.json")


def _process(rank: int, folder: str, weights: str) -> None:
    torch.set_num_threads(1)
    torch.distributed.init_process_group("gloo", f"file://{folder}/meet", rank=rank, world_size=2)
    record = evaluate(Smudge(), "digits", ["fad", "reconstruction"], n=75, autoencoder=weights, batch=16)
    write_record(f"{folder}/{rank}.json", record)
    torch.distributed.destroy_process_group()


def test_two_processes_give_the_record_of_one(weights, tmp_path):
    torch.multiprocessing.spawn(_process, (str(tmp_path), str(weights)), nprocs=2)
    alone = evaluate(Smudge(), "digits", ["fad", "reconstruction"], n=75, autoencoder=weights, batch=16)
    for rank in range(2):
        record = read_record(tmp_path / f"{rank}.json")
        assert record["scores"] == alone["scores"]
        assert compare({"alone": alone, "two": record})
