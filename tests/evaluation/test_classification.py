import json

import pytest
import torch
from PIL import Image
from sklearn import metrics

import tcja_gen as tg
from tcja_gen.data import load_images
from tcja_gen.evaluation import compare, evaluate, predict, read_record, table, write_record
from tcja_gen.evaluation.asked_classes import numbered_as
from tcja_gen.metrics import train_autoencoder
from tcja_gen.models import Classifier, build

SMALL = {"encoder": "8C3-TCJA-MP2-8C3-TCJA-MP2", "time_steps": 3}
QUICK = {"steps": 40, "batch": 32, "lr": 0.01, "warmup": 5, "compile": "off", "device": "cpu", "quiet": True}
BOTH = ["accuracy", "accuracy-by-step"]


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    out = tmp_path_factory.mktemp("runs") / "digits"
    return tg.train(task="classify", model=SMALL, out=str(out), **QUICK)


@pytest.fixture
def model(run):
    return run.model


def pictures(folder, digits, number=6):
    """A folder for each class of digits; the classes are called as told."""
    data = load_images("digits", "all")
    for name, digit in digits.items():
        (folder / name).mkdir(parents=True)
        for i, image in enumerate(data.images[data.labels == digit][:number]):
            Image.fromarray(image[0].numpy()).save(folder / name / f"{i}.png")
    return folder


def test_accuracy_and_the_table_of_classes_are_those_of_the_predictions(model, tmp_path):
    record = evaluate(model, "digits", BOTH)
    test = load_images("digits", "test")
    named = model.predict(test.images / 255)
    assert record["scores"]["accuracy"] == float((named == test.labels).double().mean()) > 0.3
    assert record["confusion"] == metrics.confusion_matrix(test.labels, named, labels=range(10)).tolist()
    precision, recall, _, count = metrics.precision_recall_fscore_support(
        test.labels, named, labels=range(10), zero_division=0
    )
    for row, *wanted in zip(record["classes"], count, recall, precision, strict=True):
        found = [row["count"], row["recall"] or 0, row["precision"] or 0]
        assert found == pytest.approx(wanted)
    facts = record["protocol"]["accuracy"]
    wanted = {"data": "digits", "split": "test", "reference": test.fingerprint, "n": 299, "time_steps": 3, "step": 40}
    assert {name: facts[name] for name in wanted} == wanted and facts["weights"] == "EMA" and facts["command"]
    write_record(tmp_path / "a.json", record)
    assert read_record(tmp_path / "a.json") == record
    assert [row["class"] for row in record["classes"]] == [str(digit) for digit in range(10)]
    assert len(table(record["classes"]).splitlines()) == 11


def test_the_readout_of_all_steps_is_the_accuracy_and_that_of_one_step_the_first_output(model):
    record = evaluate(model, "digits", BOTH)
    test = load_images("digits", "test")
    outputs = model.classify(test.images / 255)
    by_step = record["scores"]["accuracy-by-step"]
    first = float((outputs[:, 0].argmax(1) == test.labels).double().mean())
    assert len(by_step) == 3 and by_step[-1] == record["scores"]["accuracy"] and by_step[0] == pytest.approx(first)
    rows = compare({"here": record})
    names = [row["metric"] for row in rows]
    assert names == ["accuracy", "accuracy-by-step 1", "accuracy-by-step 2", "accuracy-by-step 3"]
    shorter = json.loads(json.dumps(record))
    shorter["scores"]["accuracy-by-step"].pop()
    rows = compare({"short": shorter, "here": record})
    assert [row["metric"] for row in rows] == names and rows[-1]["short"] is None
    assert rows[-1]["here"] == by_step[-1] and "-" in table(rows).splitlines()[-1].split()


def test_classes_are_matched_by_their_names_and_not_by_their_order(model, tmp_path):
    folder = pictures(tmp_path / "two", {"3": 3, "7": 7}, 12)
    record = evaluate(model, folder, split="all")
    named = predict(model, [folder])
    right = sum(row["class"] == row["file"].split("/")[-2] for row in named)
    assert record["scores"]["accuracy"] == right / 24
    assert [row["count"] for row in record["classes"]] == [0, 0, 0, 12, 0, 0, 0, 12, 0, 0]
    assert record["classes"][0]["recall"] is None


def test_classes_are_matched_by_their_names_or_all_of_them_by_number_with_a_note():
    labels, notes = torch.tensor([0, 2, 1]), []
    for names, wanted, found in (
        (["cat", "dog", "cow"], ["dog", "cow", "cat"], [2, 1, 0]),
        (None, ["2", "1", "0"], [2, 0, 1]),
    ):
        assert numbered_as(labels, names, wanted, "mine", notes).tolist() == found and not notes
    assert torch.equal(numbered_as(labels, None, ["cat", "dog", "cow"], "mine", notes), labels)
    assert notes == ["classes of mine taken by number: '0' for the classifier's 'cat', and so on"]
    for names in (["cat", "dog", "owl"], ["a", "b", "c", "d"], ["a", "b"]):
        with pytest.raises(ValueError, match="mine: class '(owl|a)' is not one of the classifier's 3"):
            numbered_as(labels, names, ["dog", "cow", "cat"], "mine", [])


def test_some_samples_are_scored_if_some_are_asked_for(model):
    some, again, other = (evaluate(model, "digits", n=50, seed=seed) for seed in (0, 0, 1))
    assert some["scores"] == again["scores"] and sum(map(sum, some["confusion"])) == 50
    assert some["confusion"] != other["confusion"] and "by seed 1" == other["protocol"]["accuracy"]["drawn"]
    with pytest.raises(ValueError, match="drawn by seed 0 and by seed 1"):
        compare({"a": some, "b": other})


def test_what_cannot_be_scored_is_told_in_one_line(model, tmp_path):
    folder = pictures(tmp_path / "odd", {"3": 3, "cat": 7})
    flat = folder / "3"
    for arguments, match in (
        ((model, "digits", ["fad"]), "fad: a classifier makes no images; it takes accuracy"),
        ((model, "digits", ["purity"]), "unknown metric purity; known are fad.*accuracy-by-step"),
        ((torch.zeros(4, 1, 8, 8), "digits", ["accuracy"]), "images name no classes"),
        ((model, folder), r"class 'cat' is not one of the classifier's 10 \(0, 1"),
        ((model, flat), "3: no labels; accuracy wants"),
    ):
        with pytest.raises(ValueError, match=match):
            evaluate(*arguments)
    for options, match in (
        ({"autoencoder": "a.pth", "size": 8}, "accuracy takes no autoencoder or size: leave it out"),
        ({"seed": 3}, "seed 3 draws nothing"),
        ({"n": -1}, "n is -1"),
    ):
        with pytest.raises(ValueError, match=match):
            evaluate(model, "digits", **options)
    events = build(Classifier(image_size=8, image_channels=2, time_steps=2, encoder="4C3", head="3L"))
    with pytest.raises(ValueError, match="digits: images, the model was trained on event recordings"):
        evaluate(events, "digits")


def test_a_generator_with_a_head_gets_scores_of_both_kinds(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    train_autoencoder(load_images("digits").images, size=8, width=4, steps=20).save(tmp_path / "a.safetensors")
    shape = SMALL | {"encoder": "8C3s2-TCJA-8C3s2-TCJA", "head": "10L"}
    shape["latent"] = {"channels": 8, "k": 4, "conditional": True}
    run = tg.train(model=shape, out=str(tmp_path / "joint"), **QUICK)
    record = evaluate(run.model, "digits", n=40, autoencoder=tmp_path / "a.safetensors")
    assert [*record["scores"]] == ["fad", "accuracy"] == [*record["protocol"]]
    images = load_images("digits", "test").images
    assert torch.equal(run.model.classify(images[:3] / 255), run.model.classify(images / 255)[:3])
    assert record["protocol"]["fad"]["classes"] == "seed mod classes" and len(record["confusion"]) == 10
    plain = {"model": shape | {"head": "", "latent": {"channels": 8, "k": 4}}, "out": str(tmp_path / "g")}
    plain = tg.train(**QUICK | plain | {"steps": 2})
    with pytest.raises(ValueError, match="accuracy: this generator names no classes"):
        evaluate(plain.model, "digits", ["accuracy"])
    with pytest.raises(ValueError, match="this generator names no classes"):
        predict(plain.model, [tmp_path])
    with pytest.raises(ValueError, match="this generator names no classes"):
        plain.model.classify(images[:1] / 255)


def test_spikes_are_answered_with_a_rate_and_logits_with_a_probability(model, tmp_path):
    folder = pictures(tmp_path / "some", {"1": 1}, 3)
    (row,) = predict(model, [folder / "1" / "0.png"])
    outputs = model.classify(load_images(folder, "all").images[:1] / 255).mean(1)[0]
    assert row["probability"] == pytest.approx(float(outputs.softmax(0).max())) and "rate" not in row
    torch.manual_seed(0)
    spiking = build(Classifier(image_size=8, encoder="4C3", head="20FC-Voting5", neuron="tet"))
    rows = predict(spiking, [folder, folder / "1"])
    assert len(rows) == 6 and all(0 <= row["rate"] <= 1 and "probability" not in row for row in rows)
    assert {row["class"] for row in rows} <= {"0", "1", "2", "3"}
