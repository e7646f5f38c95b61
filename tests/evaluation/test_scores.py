import json
import os
import shutil

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from tcja_gen.data import load_images
from tcja_gen.errors import UserError
from tcja_gen.evaluation import (
    METRICS,
    Request,
    compare,
    evaluate,
    nearest_picture,
    read_record,
    reference,
    score,
    table,
    write_record,
)
from tcja_gen.evaluation.real_images import RealImages
from tcja_gen.metrics import (
    AutoencoderFeatures,
    ClassifierFeatures,
    Statistics,
    autoencoder,
    autoencoder_side,
    fit,
    inception,
    kid,
    load_autoencoder,
    load_classifier,
    side,
    train_autoencoder,
    train_classifier,
)
from tcja_gen.models import build

SMALL = 75  # the side of Inception's images where only their number matters: a sixteenth of the time


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


BY_NETWORK = ("-classifier", "-autoencoder")
OWN = [metric for metric in METRICS if metric.startswith("fad") or metric.endswith(BY_NETWORK)]
OWN.remove("recognition-classifier")  # of samples of known classes alone
OWN += ["reconstruction", "psnr", "ssim"]  # all that need no weights from elsewhere


@pytest.fixture(scope="module")
def judge(tmp_path_factory):
    file, digits = tmp_path_factory.mktemp("weights") / "judge.safetensors", load_images("digits")
    train_classifier(digits.images, digits.labels, size=16, steps=120).save(file)
    return file


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    file = tmp_path_factory.mktemp("weights") / "small.safetensors"
    train_autoencoder(load_images("digits").images, size=8, width=4, steps=20).save(file)
    return file


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))  # torch hub's folder is there, too
    monkeypatch.delenv("TCJA_GEN_INCEPTION", raising=False)
    monkeypatch.delenv("TORCH_HOME", raising=False)


@pytest.fixture
def pictures(tmp_path):
    """A folder of two classes with 12 digits each."""
    from PIL import Image

    digits = load_images("digits", "train")
    for label in (0, 1):
        (tmp_path / "pictures" / str(label)).mkdir(parents=True)
        for i, image in enumerate(digits.images[digits.labels == label][:12]):
            Image.fromarray(image[0].numpy()).save(tmp_path / "pictures" / str(label) / f"{i:02}.png")
    return tmp_path / "pictures"


def test_a_model_gets_every_score_with_the_protocol_that_defines_it(weights, judge, tmp_path):
    record = evaluate(Smudge(), "digits", OWN, n=270, autoencoder=weights, classifier=judge, batch=100, seed=5)
    assert set(record["scores"]) == set(OWN) == set(record["protocol"])
    assert set(record["spread"]) == {"kid-classifier", "is-classifier", "kid-autoencoder"}
    assert record["scores"]["psnr"] > 10 and 0 < record["scores"]["ssim"] < 1
    found = record["protocol"]["kid-classifier"]
    assert found["extractor_hash"] == load_classifier(judge).hash and found["kid_subset_size"] == 270
    assert record["protocol"]["is-classifier"]["is_splits"] == 10 and found["n_reference"] == 299
    originals = load_images("digits", "test").images
    originals = (
        originals[torch.randperm(len(originals), generator=torch.Generator().manual_seed(0))[:270]].double() / 255
    )
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


def test_without_files_an_autoencoder_is_trained_once_on_the_training_split(tmp_path, monkeypatch):
    from PIL import Image

    monkeypatch.setattr(autoencoder, "default_steps", lambda n: 8)
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


@pytest.mark.slow
def test_the_whole_inception_path_runs_and_says_what_it_was(pictures, inception_file):
    images = load_images("digits", "test").images[:20]
    names = ["fid", "kid", "is", "precision", "recall", "density", "coverage"]
    how = dict(n=20, split="train", inception=inception_file, resize="tf1", is_splits=2)
    record = evaluate(images, pictures, names, **how)
    found = record["protocol"]["fid"]
    assert list(record["scores"]) == names and found["resize"] == "tf1 to 299x299"
    assert found["extractor"] == "inception-other" and found["n"] == 20 and found["n_reference"] >= 6
    assert record["protocol"]["is"]["is_splits"] == 2 and 1 - 1e-5 <= record["scores"]["is"] < 1008
    assert any("20 images for 2048 features: FID" in note for note in record["notes"])
    plain = evaluate(images[:4], pictures, ["is"], **how | {"resize": "torch"})
    with pytest.raises(ValueError, match="resize tf1 to 299x299 and torch to 299x299; n 20 and 4"):
        compare({"a": record, "b": plain})


def test_the_distance_of_dinov2s_features_is_scored_by_a_file_of_weights(pictures, dinov2_file):
    images = load_images("digits", "test").images[:12]
    names, how = ["fd-dinov2", "kid-dinov2", "precision-dinov2"], dict(n=12, split="train", dinov2=dinov2_file)
    record = evaluate(images, pictures, names, **how)
    found = record["protocol"]["fd-dinov2"]
    assert list(record["scores"]) == names and record["scores"]["fd-dinov2"] > 0
    assert found["extractor"] == "dinov2-128" and found["resize"] == "PIL bicubic on uint8 to 224x224"
    with pytest.raises(ValueError, match="fad takes no dinov2: leave it out"):
        evaluate(images, pictures, ["fad"], **how)
    with pytest.raises(FileNotFoundError, match="gone.pth: no such file; wanted the weights of DINOv2"):
        evaluate(images, pictures, names, **how | {"dinov2": "gone.pth"})


def test_without_inception_all_else_is_scored_and_a_note_says_which_file_is_wanted(weights, judge, pictures):
    images = load_images("digits", "test").images[:30]
    files = dict(autoencoder=weights, classifier=judge)
    record = evaluate(images, "digits", ["all"], n=30, **files)
    assert set(record["scores"]) == {name for name in OWN if name == "fad" or name.endswith(BY_NETWORK)}
    (told,) = [note for note in record["notes"] if "Inception" in note]
    assert "fetch https://" in told and "6726825d.pth" in told and told.startswith("fid, kid, is, ")
    assert any("fad-official is left out: it needs at least 256 images, " in note for note in record["notes"])
    with pytest.raises(FileNotFoundError, match="Inception's weights are missing"):
        evaluate(images, "digits", ["fid"], n=30)
    shutil.copytree(pictures / "0", pictures.parent / "plain")
    few = evaluate(images, pictures.parent / "plain", ["all"], n=30, autoencoder=weights)
    assert set(few["scores"]) == {"fad", "kid-autoencoder", "memorisation-autoencoder"}  # 2 images suffice
    assert any("no classes to train the scoring" in x for x in few["notes"])
    with pytest.raises(FileNotFoundError, match="gone.pth"):
        evaluate(images, "digits", ["all"], n=30, inception="gone.pth", **files)


def test_scores_of_the_classifier_tell_good_images_from_bad_ones(judge):
    test, train = load_images("digits", "test"), load_images("digits", "train")
    names = [name for name in OWN if name.endswith("-classifier")]
    noise = torch.randint(256, (299, 1, 8, 8), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    one_class = train.images[train.labels == 1]
    good, bad, narrow, same, copies = (
        evaluate(x, "digits", names, n=299, classifier=judge, is_splits=1)["scores"]
        for x in (test.images.flip(0), noise, one_class, test.images, train.images)
    )
    assert good["fid-classifier"] == pytest.approx(0, abs=1e-4) and same == pytest.approx(good, abs=1e-4)
    assert copies["fid-classifier"] < narrow["fid-classifier"] and copies["fid-classifier"] < bad["fid-classifier"]
    assert copies["kid-classifier"] < min(narrow["kid-classifier"], bad["kid-classifier"])
    assert narrow["is-classifier"] < 2 < 7 < copies["is-classifier"]
    assert bad["precision-classifier"] < 0.5 < narrow["precision-classifier"]
    assert narrow["recall-classifier"] < 0.5 < copies["recall-classifier"]
    assert narrow["coverage-classifier"] < 0.5 < copies["coverage-classifier"] and copies["density-classifier"] > 0.5
    assert copies["memorisation-classifier"] == 0 and same["memorisation-classifier"] == 1


def test_samples_of_a_class_are_recognised_or_named_as_what_they_are_taken_for(judge, weights, pictures, tmp_path):
    name, how = "recognition-classifier", dict(n=24, classifier=judge)
    record = evaluate(pictures, "digits", [name, "fid-classifier"], **how)
    assert record["scores"][name] > 0.9 and record["protocol"][name]["classifier_accuracy"] > 0.9
    assert any(note.startswith("the classifier that scores names 9") for note in record["notes"])
    rows = record["recognition"]["classes"]
    assert [(row["class"], row["count"]) for row in rows[:3]] == [("0", 12), ("1", 12), ("2", 0)]
    assert rows[2]["recognised"] is None and sum(record["recognition"]["confusion"][0]) == 12
    (pictures / "0").rename(tmp_path / "x")
    (pictures / "1").rename(pictures / "0")
    (tmp_path / "x").rename(pictures / "1")
    swapped = evaluate(pictures, "digits", name, **how)
    assert swapped["scores"][name] < 0.1 and swapped["recognition"]["classes"][0]["else taken for"] == "1"
    twelve = train_classifier(load_images("digits", "train").images[:100], torch.arange(100) % 12, steps=2)
    twelve.save(tmp_path / "twelve.safetensors")
    with pytest.raises(ValueError, match="the classifier names 12 classes, the data have 10"):
        evaluate(pictures, "digits", name, n=24, classifier=tmp_path / "twelve.safetensors")
    made = reference("digits", n=64, autoencoder=weights, classifier=judge, out=tmp_path / "ref.npz")
    assert made["classifier_accuracy"] == record["protocol"][name]["classifier_accuracy"]
    by_file = evaluate(pictures, None, name, n=24, reference=tmp_path / "ref.npz")
    assert by_file["recognition"] == swapped["recognition"] and compare({"data": swapped, "file": by_file})
    with pytest.raises(ValueError, match="needs to know which class a sample was made for: a conditional model"):
        evaluate(load_images("digits", "test").images, "digits", name, **how)


def test_memorisation_names_the_samples_that_are_nearest_to_training_images(weights):
    train = load_images("digits", "train").images
    images = load_images("digits", "test").images[:40].clone()
    images[7], images[20] = train[5], train[300]
    nearest = evaluate(images, "digits", "memorisation-autoencoder", n=40, autoencoder=weights)["nearest"]
    assert {(row["image"], row["training"]) for row in nearest[:2]} == {(7, 5), (20, 300)} and len(nearest) == 10
    assert nearest[1]["distance"] == 0 < nearest[2]["distance"]
    assert torch.equal(RealImages(Request(data="digits")).training_images([300, 5, 300]), train[[300, 5, 300]])


def test_the_nearest_of_some_images_have_their_numbers_among_all(weights):
    images = torch.full((60, 1, 8, 8), 255, dtype=torch.uint8)
    images[50] = load_images("digits", "train").images[5]
    request = Request(data="digits", metrics="memorisation-autoencoder", n=58, autoencoder=weights, seed=1)
    record = score(images, request)
    assert (record["nearest"][0]["image"], record["nearest"][0]["training"]) == (50, 5)
    tiles = nearest_picture(record, images, request).float()
    assert (tiles[0] < 250).float().mean() > 0.2  # the digit is there twice, not a white sample


def test_a_split_with_training_images_has_neither_memorisation_nor_floors(weights, judge):
    images = load_images("digits", "test").images[:64]
    with pytest.raises(UserError, match="images that were not trained on; the split train.validation has others"):
        evaluate(images, "digits", "memorisation-autoencoder", split="train+validation", n=64, autoencoder=weights)
    prepared = reference("digits", split="train", n=64, autoencoder=weights, classifier=judge)
    assert prepared["floor"] == {} and any("no floors" in note for note in prepared["notes"])
    scored = evaluate(images, "digits", "fad", split="train", n=64, autoencoder=weights)
    assert scored["scores"]["fad"] > 0 and not scored["floor"]


def test_of_all_metrics_those_that_lack_labels_are_left_out(quick_networks, judge, weights, tiny, tmp_path):
    for name, images in zip("ab", load_images("digits", "test").images.split(32), strict=False):
        (tmp_path / "sorted" / name).mkdir(parents=True)
        for i, pixels in enumerate(images):
            Image.fromarray(pixels[0].numpy()).save(tmp_path / "sorted" / name / f"{i}.png")
    known = dict(autoencoder=weights, classifier=judge, n=64)
    record = evaluate(tmp_path / "sorted", "digits", "all", **known)
    assert "recognition-classifier" not in record["scores"] and "fad" in record["scores"]
    assert any("recognition-classifier left out: the samples: class 'a'" in note for note in record["notes"])
    with pytest.raises(UserError, match="class 'a' is not one of the classifier's 10"):
        evaluate(tmp_path / "sorted", "digits", "recognition-classifier", classifier=judge, n=64)

    two_tasks = build(tiny | {"head": "10L", "classes": 10}).eval()
    two_tasks.provenance = {"weights": "EMA", "step": 1}
    shutil.copytree(tmp_path / "sorted" / "a", tmp_path / "flat")
    record = evaluate(two_tasks, tmp_path / "flat", "all", split="train", autoencoder=weights, n=16)
    assert any(note.startswith("accuracy") and "left out" in note for note in record["notes"])
    assert "reconstruction" in record["scores"]


def test_metrics_are_a_list_or_names_with_commas_between(weights, judge):
    images, how = load_images("digits", "train").images, dict(n=256, autoencoder=weights)
    for names, files in (("fad", {}), ("fad, fad-official", {}), ("all", {"classifier": judge})):
        as_list = evaluate(images, "digits", [name.strip() for name in names.split(",")], **how, **files)
        assert evaluate(images, "digits", names, **how, **files) == as_list and as_list["scores"]["fad"] > 0


def test_whole_numbers_of_numpy_are_taken_and_the_record_is_json():
    record = evaluate(Smudge(), "digits", "psnr", n=np.int64(8), seed=np.int64(3))
    assert json.loads(json.dumps(record))["protocol"]["psnr"]["seeds"] == [3, 10]


def test_messages_name_arguments_in_python_and_flags_in_the_shell(pictures):
    images = load_images("digits", "test").images
    for how, in_python, in_shell in (
        (dict(n=0), "n is 0, it must", "--n is 0, it must"),
        (dict(n=2.5), "n is 2.5, it must be a whole", "--n is 2.5, it must be a whole"),
        (dict(metrics="is-classifier", n=10), "n is 10; is-classifier needs", "--n is 10; is-classifier needs"),
        (dict(is_splits=0), "is_splits is 0", "--is-splits is 0"),
        (dict(is_splits=5, size=8), "fad takes no is_splits: leave", "fad takes no --is-splits: leave"),
        (dict(size=3), "size is 3", "--size is 3"),
        (dict(resize="best"), "unknown resize 'best'", "unknown --resize 'best'"),
        (dict(repeats=3), "repeats 3: images", "--repeats 3: images"),
        (dict(data=None), "name the data set, too: data", "name the data set, too: --data"),
        (dict(metrics="fid", n=9), "; download fetches them, inception", "; --download fetches them, --inception"),
        (dict(data=pictures / "0", metrics="fid-classifier"), "weights by classifier", "weights by --classifier"),
    ):
        for from_shell, told in ((False, in_python), (True, in_shell)):
            with pytest.raises(ValueError) as error:
                score(images, Request(**{"data": "digits"} | how, from_shell=from_shell))
            assert told in str(error.value) and (from_shell or "--" not in str(error.value))


def test_an_option_that_plays_no_part_is_refused(weights):
    images = load_images("digits", "test").images
    for metrics, option in (
        (["fad"], dict(inception="x.pth")),
        (["fad"], dict(resize="tf1")),
        (["fad"], dict(classifier="x.safetensors")),
        (["fid-classifier"], dict(is_splits=5)),
        (["fid-classifier"], dict(autoencoder=weights)),
    ):
        (name,) = option
        with pytest.raises(ValueError, match=f"{metrics[0]} takes no {name}: leave it out"):
            evaluate(images, "digits", metrics, n=299, **option)
    with pytest.raises(ValueError, match="n is 10; is-classifier needs at least 20"):
        evaluate(images, "digits", ["is-classifier"], n=10)


def test_mistakes_are_told_in_one_line_before_any_work(weights, tmp_path):
    images = load_images("digits", "test").images
    for metrics, match in (
        (["fid "], "known are fad"),
        ("fad,speed", "unknown metric speed; known are fad"),
        (["fad", "all"], "all stands for all others"),
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


def test_a_reference_file_is_used_if_it_fits_and_refused_if_it_does_not(weights, judge, tmp_path):
    images, real = (load_images("digits", split).images for split in ("train", "test"))
    plain = Statistics.of(AutoencoderFeatures(load_autoencoder(weights))(real))
    plain.save(tmp_path / "plain.npz")
    by_file = evaluate(images, "digits", n=99, reference=tmp_path / "plain.npz", autoencoder=weights)
    built = evaluate(images, "digits", n=99, autoencoder=weights)
    assert by_file["scores"] == built["scores"] and any("plain.npz" in note for note in by_file["notes"])
    with pytest.raises(ValueError, match="plain.npz does not say which autoencoder"):
        evaluate(images, "digits", n=99, size=8, reference=tmp_path / "plain.npz")
    ours = reference("digits", autoencoder=weights, classifier=judge)["statistics"]["fad"]
    again = evaluate(images, "digits", n=99, reference=ours, autoencoder=weights)
    assert compare({"built": built, "file": again})
    other = tmp_path / "other.safetensors"
    train_autoencoder(real, size=8, width=4, steps=3, seed=1).save(other)
    with pytest.raises(ValueError, match=f"eval mode by {load_autoencoder(weights).hash[:12]}, .* wanted eval mode by"):
        evaluate(images, "digits", n=99, reference=ours, autoencoder=other)
    with pytest.raises(ValueError, match="eval mode by .* wanted official mode"):
        evaluate(images, "digits", ["fad-official"], n=299, reference=ours, autoencoder=weights)


@pytest.mark.slow
def test_published_statistics_are_read_if_they_are_of_the_network(inception_file, tmp_path, monkeypatch):
    monkeypatch.setattr(inception, "SIDE", SMALL)
    images = load_images("digits", "test").images[:3]
    rows = torch.rand(4, 2048, generator=torch.Generator().manual_seed(0))
    Statistics.of(rows).save(tmp_path / "published.npz")
    how = dict(n=3, reference=tmp_path / "published.npz", inception=inception_file)
    record = evaluate(images, None, ["fid"], **how)
    assert record["scores"]["fid"] > 1 and any("does not say how it was made" in note for note in record["notes"])
    with pytest.raises(ValueError, match="published.npz has no features of the inception to compare with"):
        evaluate(images, None, ["fid", "kid"], **how)
    told = " ".join(evaluate(images, None, ["all"], **how)["notes"])
    assert "kid left out: " in told and "precision is left out: it needs" in told
    assert "does not say which classifier" in told and "reconstruction" not in told
    Statistics.of(rows[:, :9]).save(tmp_path / "published.npz")
    with pytest.raises(ValueError, match="published.npz: 9 features, inception-other has 2048"):
        evaluate(images, "digits", ["fid"], **how)


def test_one_file_takes_a_reference_to_a_machine_without_the_data(weights, judge, tmp_path, monkeypatch):
    files, test = dict(autoencoder=weights, classifier=judge), load_images("digits", "test").images // 2
    made = reference("digits", n=299, **files, out=tmp_path / "ref.npz")
    names = [x for x in OWN if (x.startswith("fad") or x.endswith(BY_NETWORK)) and x[:4] != "memo" and x[-4:] != "tion"]
    here = evaluate(test, "digits", names, n=299, **files)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "elsewhere"))
    there = evaluate(test, None, names, n=299, reference=tmp_path / "ref.npz")
    assert there["scores"] == here["scores"] and there["floor"] == here["floor"] and len(here["floor"]) == len(names)
    assert compare({"here": here, "there": there}) and made["file"] == str(tmp_path / "ref.npz")
    assert there["protocol"]["fad"]["data"] == "digits" and not (tmp_path / "elsewhere").exists()
    every = evaluate(test, None, ["all"], n=299, reference=tmp_path / "ref.npz")
    assert set(every["scores"]) == set(names)
    assert any("memorisation-classifier" in x and "no training images" in x for x in every["notes"])
    assert any(x.startswith("fid, kid, ") and "nothing of the inception" in x for x in every["notes"])
    for option, match in (
        (dict(metrics=["memorisation-classifier"]), "ref.npz has no training images to compare"),
        (dict(metrics=["fid"]), "ref.npz has nothing of the inception"),
        (dict(split="train"), "ref.npz: of the test split; train was asked for"),
    ):
        with pytest.raises(ValueError, match=match):
            evaluate(test, None, n=299, reference=tmp_path / "ref.npz", **option)
    with pytest.raises(
        ValueError, match="made of images 8 pixels a side with 1 channels, those to score have 16 and 1"
    ):
        evaluate(test.repeat(1, 1, 2, 2), None, n=299, reference=tmp_path / "ref.npz")
    with pytest.raises(ValueError, match="ref.npz: has no images of the test split; name the data set, too"):
        evaluate(Smudge(), None, ["psnr"], n=50, reference=tmp_path / "ref.npz")
    with pytest.raises(ValueError, match="ref.json: a reference is an .npz"):
        reference("digits", out=tmp_path / "ref.json")


def test_a_reference_file_is_of_the_images_that_are_reconstructed(weights, pictures, tmp_path):
    file = tmp_path / "ref.npz"
    reference("digits", n=99, autoencoder=weights, out=file)
    asked = {"n": 32, "reference": file, "autoencoder": weights}
    assert evaluate(Smudge(), "digits", ["fad-reconstruction"], **asked)["scores"]
    with pytest.raises(ValueError, match="ref.npz is of other images than .*, which are reconstructed"):
        evaluate(Smudge(), pictures, ["fad-reconstruction", "psnr"], **asked)


def test_a_score_has_no_floor_where_training_images_are_missing(weights, tmp_path):
    (tmp_path / "data" / "test").mkdir(parents=True)
    for i, image in enumerate(load_images("digits", "test").images[:40]):
        Image.fromarray(image[0].numpy()).save(tmp_path / "data" / "test" / f"{i}.png")
    images = load_images("digits", "test").images[40:80]
    record = evaluate(images, tmp_path / "data", ["fad"], n=40, autoencoder=weights)
    assert record["scores"]["fad"] > 0 and record["floor"] == {}


def test_fsvaes_is_is_marked_as_its_own_and_takes_whole_splits_of_256(torchvision_file, monkeypatch):
    monkeypatch.setattr(inception, "SIDE", SMALL)
    images = load_images("digits", "train").images[:260]
    record = evaluate(images, "digits", ["is-fsvae"], n=260, torchvision=torchvision_file)
    found = record["protocol"]["is-fsvae"]
    assert (found["n"], found["is_splits"]) == (256, 1) and found["standard"].startswith("no: FSVAE's")
    assert 1 - 1e-5 <= record["scores"]["is-fsvae"] < 1000 and any("256 of 260 images" in x for x in record["notes"])
    with pytest.raises(ValueError, match="n is 255; is-fsvae needs at least 256"):
        evaluate(images, "digits", ["is-fsvae"], n=255, torchvision=torchvision_file)
    with pytest.raises(FileNotFoundError, match="torchvision's Inception v3's weights are missing: fetch https://"):
        evaluate(images, "digits", ["is-fsvae"], n=256)
    with pytest.raises(ValueError, match="is-fsvae takes no is_splits"):
        evaluate(images, "digits", ["is-fsvae"], n=256, is_splits=2)


def test_several_sets_of_seeds_give_a_mean_and_its_spread(weights):
    names, how = ["fad-official", "fad", "psnr"], dict(n=256, autoencoder=weights)
    record = evaluate(Smudge(), "digits", names, repeats=3, seed=5, **how)
    alone = [evaluate(Smudge(), "digits", names, seed=5 + i * 256, **how) for i in range(3)]
    for name in names:
        values = [one["scores"][name] for one in alone]
        assert record["repeats"][name] == values
        assert record["scores"][name] == pytest.approx(sum(values) / 3)
        assert record["spread"][name] == pytest.approx(torch.tensor(values, dtype=torch.float64).std().item(), abs=1e-9)
    assert record["spread"]["fad"] > 0 and record["protocol"]["fad"]["seeds"] == [5, 772]
    assert record["protocol"]["fad"]["n"] == 256 and record["protocol"]["fad"]["repeats"] == 3
    assert compare({"three": record, "one": alone[0]})
    with pytest.raises(ValueError, match="repeats 3: images are one set; only a model makes others"):
        evaluate(load_images("digits", "test").images, "digits", repeats=3, **how)
    with pytest.raises(ValueError, match="repeats is 1, it must be at least 2"):
        evaluate(Smudge(), "digits", repeats=1, **how)


def test_the_reference_of_a_set_comes_with_its_floor(weights, judge):
    made = reference("digits", n=299, autoencoder=weights, classifier=judge)
    assert made["n_reference"] == 299 and made["autoencoder_hash"] == load_autoencoder(weights).hash
    assert all(os.path.exists(file) for file in made["statistics"].values())
    images = load_images("digits", "train").images
    assert made["floor"]["fad"]["score"] == evaluate(images, "digits", n=299, autoencoder=weights)["scores"]["fad"]
    assert made["floor"]["fad-official"]["n"] == 256
    of_networks = {name for name in OWN if name.endswith(BY_NETWORK) and not name.startswith("memorisation")}
    assert set(made["floor"]) == {"fad", "fad-official"} | of_networks
    assert made["classifier_hash"] == load_classifier(judge).hash and "spread" in made["floor"]["is-classifier"]
    scored = evaluate(images // 2, "digits", ["fad", "is-classifier"], n=299, autoencoder=weights, classifier=judge)
    assert scored["floor"] == {name: made["floor"][name]["score"] for name in ("fad", "is-classifier")}
    assert not evaluate(images, "digits", ["fad"], n=298, autoencoder=weights)["floor"]  # another n, another floor
    json.dumps(made)


def test_a_floor_is_that_of_the_training_images_that_are_there(weights, tmp_path):
    images = load_images("digits", "train").images
    for name, first in (("a", 0), ("b", 300)):
        for split, part in (("train", images[first : first + 300] // (1 + first)), ("test", images[600:900])):
            (tmp_path / name / split).mkdir(parents=True)
            for i, image in enumerate(part):
                Image.fromarray(image[0].numpy()).save(tmp_path / name / split / f"{i}.png")
    how = dict(n=256, autoencoder=weights)
    floors = {name: reference(tmp_path / name, **how)["floor"]["fad"]["score"] for name in ("a", "b")}
    assert floors["a"] != floors["b"]
    for name, floor in floors.items():
        assert evaluate(images, tmp_path / name, ["fad"], **how)["floor"]["fad"] == floor


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


SHARED = ["fad", "reconstruction", "fid-classifier", "kid-classifier", "is-classifier", "recall-classifier"]
SHARED += ["fid", "kid", "is", "recall"]


def _process(rank: int, folder: str, data: str, how: dict) -> None:
    torch.set_num_threads(1)
    inception.SIDE = SMALL
    torch.distributed.init_process_group("gloo", f"file://{folder}/meet", rank=rank, world_size=2)
    record = evaluate(Smudge(), data, SHARED, **how)
    write_record(f"{folder}/{rank}.json", record)
    torch.distributed.destroy_process_group()


@pytest.mark.slow
def test_two_processes_give_the_record_of_one(weights, judge, inception_file, pictures, tmp_path, monkeypatch):
    """Neither number of images is a multiple of a batch; Inception's is 32."""
    monkeypatch.setattr(inception, "SIDE", SMALL)
    files = dict(autoencoder=str(weights), classifier=str(judge), inception=str(inception_file))
    how = dict(n=37, split="train", batch=16, is_splits=2, **files)
    torch.multiprocessing.spawn(_process, (str(tmp_path), str(pictures), how), nprocs=2)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "alone"))
    alone = evaluate(Smudge(), pictures, SHARED, **how)
    for rank in range(2):
        record = read_record(tmp_path / f"{rank}.json")
        assert record["scores"] == alone["scores"] and record["spread"] == alone["spread"]
        assert compare({"alone": alone, "two": record})


def test_too_few_images_for_a_score_are_told_before_any_work(judge, pictures):
    few = load_images("digits", "test").images[:12]
    with pytest.raises(ValueError, match="only 12 images to score; is-classifier needs at least 20"):
        evaluate(few, "digits", ["is-classifier"], classifier=judge)  # 5120 are asked for, 12 are there
    with pytest.raises(ValueError, match="density-classifier needs at least 6 images to compare with, found"):
        evaluate(few, pictures, ["density-classifier"], split="validation", classifier=judge)
    with pytest.raises(ValueError, match="reconstruction needs at least 256 images to compare with, found"):
        evaluate(Smudge(), pictures, ["fad-official-reconstruction"], n=256, split="train")
    assert not list(pictures.parent.rglob("*.safetensors"))  # no autoencoder has been trained


def test_the_protocol_of_kid_tells_the_subsets_that_were_drawn(judge):
    images, real = (load_images("digits", split).images for split in ("train", "test"))
    features = [ClassifierFeatures(load_classifier(judge))(x) for x in (images // 2, real)]
    record = evaluate(images // 2, "digits", ["kid-classifier"], classifier=judge)
    facts = record["protocol"]["kid-classifier"]
    assert (facts["kid_subsets"], facts["kid_subset_size"]) == (100, 299)
    wanted = kid(*features, facts["kid_subsets"], facts["kid_subset_size"], facts["kid_seed"])
    assert record["scores"]["kid-classifier"] == pytest.approx(wanted.mean, rel=1e-9)
    assert record["spread"]["kid-classifier"] == pytest.approx(wanted.std, rel=1e-9)


def test_images_of_48_pixels_and_more_are_judged_at_their_own_size_and_smaller_ones_as_ever(tmp_path):
    """A checkerboard is as grey as its mean at half of its size."""
    from PIL import Image

    board = (torch.arange(64)[:, None] + torch.arange(64)) % 2 * 255
    for label, image in enumerate((board, torch.full((64, 64), 127))):
        (tmp_path / "set" / str(label)).mkdir(parents=True)
        for i in range(20):
            shown = (image + i % 3 - (image > 200) * 3).clamp(0, 255).to(torch.uint8)
            Image.fromarray(shown.numpy()).save(tmp_path / "set" / str(label) / f"{i}.png")
    train = load_images(tmp_path / "set", "train")
    facts, how = dict(fingerprint=train.fingerprint, size=64, seed=0), dict(size=64, steps=1)
    fit.kept(
        "autoencoder",
        lambda state: train_autoencoder(train.images, **how),
        load_autoencoder,
        **facts,
        width=64,
        steps=autoencoder.default_steps(len(train)),
    )
    boards, grey = train.images[train.labels == 0], train.images[train.labels == 1]
    network = load_autoencoder(next((tmp_path / "cache").rglob("autoencoder-*")))
    record = evaluate(boards, tmp_path / "set", ["fad"], split="train")
    found = record["protocol"]["fad"]
    assert found["extractor"] == "fsvae-autoencoder-64" and found["resize"].endswith("to 64x64")
    assert found["extractor_hash"] == network.hash
    extract = AutoencoderFeatures(network)
    apart = (extract(boards).mean(0) - extract(grey).mean(0)).norm()
    assert apart > 10 * (extract(grey) - extract(grey).mean(0)).norm(dim=1).mean()
    sizes = {8: (32, 32), 32: (32, 32), 47: (32, 32), 48: (64, 48), 64: (64, 64), 65: (128, 65), 300: (128, 300)}
    for size, wanted in sizes.items():
        images = torch.zeros(1, 1, size, size)
        assert (autoencoder_side(images), side(images)) == wanted
