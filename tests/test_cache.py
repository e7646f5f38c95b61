"""What is kept between runs must never stand in the way of one, and processes that share it must agree."""

import json
import subprocess
import sys

import numpy as np
import pytest
import torch

from tcja_gen.cache import Entry, cache_file, entry
from tcja_gen.data import load_images
from tcja_gen.evaluation import evaluate, reference
from tcja_gen.metrics import cached_autoencoder, extractors, fit, load_autoencoder, train_autoencoder, train_classifier

IMAGES = torch.randint(256, (64, 1, 8, 8), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "tcja_gen"


@pytest.fixture(scope="module")
def networks(tmp_path_factory):
    """Files of a small autoencoder and a small classifier of the digits."""
    folder, digits = tmp_path_factory.mktemp("networks"), load_images("digits")
    train_autoencoder(digits.images, size=8, width=4, steps=2).save(folder / "a.safetensors")
    train_classifier(digits.images, digits.labels, size=8, steps=2).save(folder / "c.safetensors")
    return dict(autoencoder=folder / "a.safetensors", classifier=folder / "c.safetensors")


def text_entry(version: int = 1, **facts) -> Entry[dict]:
    return entry("thing", ".json", version, lambda file: json.loads(file.read_text()), **facts)


def test_a_file_cut_off_anywhere_is_made_anew_with_a_note_that_names_it(networks, cache, capsys):
    """Floors, statistics and features; a floor that is cut off must not pass for another number."""
    metrics = ["fad", "kid-classifier"]
    made = reference("digits", n=64, **networks)["floor"]
    test = load_images("digits", "test").images // 2
    wanted = evaluate(test, "digits", metrics, n=64, **networks)
    assert wanted["floor"] == {name: made[name]["score"] for name in metrics}
    kinds = set()
    for file in sorted(cache.iterdir()):
        whole = file.read_bytes()
        kind = file.name.split("-")[0]
        if kind == "floor" and not any(repr(score) in whole.decode() for score in wanted["floor"].values()):
            continue
        kinds.add(kind)
        for length in (0, len(whole) // 2, len(whole) - 1):
            file.write_bytes(whole[:length])
            record = evaluate(test, "digits", metrics, n=64, **networks)
            assert record["scores"] == wanted["scores"], (file.name, length)
            told = capsys.readouterr().err
            if file.name.startswith("floor"):  # is told by `reference` alone
                assert record["floor"].items() <= wanted["floor"].items()
                file.write_bytes(whole)
            elif str(file) in told:  # read by these two metrics
                assert f"note: {file} cannot be read and is made anew" in told and len(file.read_bytes()) == len(whole)
            else:
                file.write_bytes(whole)
    assert kinds == {"floor", "statistics", "features"}


def test_a_network_cut_off_in_the_cache_is_trained_again(capsys):
    first, file = cached_autoencoder(IMAGES, "a", size=8, steps=2)
    for content in (b"", file.read_bytes()[:1000]):
        file.write_bytes(content)
        again, same = cached_autoencoder(IMAGES, "a", size=8, steps=2)
        assert again.hash == first.hash == load_autoencoder(same).hash and same == file
        assert f"note: {file} cannot be read and is made anew" in capsys.readouterr().err


def test_the_version_of_the_code_that_makes_a_thing_is_part_of_its_name(monkeypatch):
    first = cached_autoencoder(IMAGES, "a", size=8, steps=2)[1]
    monkeypatch.setattr(fit, "VERSION", fit.VERSION + 1)
    assert cached_autoencoder(IMAGES, "a", size=8, steps=2)[1] != first
    network = train_autoencoder(IMAGES, size=8, width=4, steps=1)
    features = extractors.AutoencoderFeatures(network)
    files = [
        extractors.cached_features(IMAGES, features, "a")[1],
        extractors.cached_statistics(IMAGES, features, "a")[1],
    ]
    monkeypatch.setattr(extractors, "VERSION", extractors.VERSION + 1)
    assert extractors.cached_features(IMAGES, features, "a")[1] != files[0]
    assert extractors.cached_statistics(IMAGES, features, "a")[1] != files[1]


def test_networks_kept_before_there_were_versions_are_still_found():
    facts = dict(fingerprint="a", size=8, width=64, steps=2, seed=0)
    train_autoencoder(IMAGES, size=8, steps=1, seed=7).save(cache_file("autoencoder", ".safetensors", **facts))
    assert (
        cached_autoencoder(IMAGES, "a", size=8, steps=2)[0].hash
        == train_autoencoder(IMAGES, size=8, steps=1, seed=7).hash
    )


def test_the_first_to_finish_wins_and_later_ones_take_its_thing():
    cached = text_entry(a=1)
    assert cached.get() is None
    for mine in ({"mine": 1}, {"mine": 2}):
        assert cached.try_store(mine, lambda file, mine=mine: file.write_text(json.dumps(mine))) == {"mine": 1}
    assert [path.name for path in cached.file.parent.iterdir()] == [cached.file.name]


RACE = """
import os, sys, time
from tcja_gen.cache import entry
mine, marks = sys.argv[1], sys.argv[2:]
cached = entry("thing", ".txt", 1, lambda file: file.read_text())
assert cached.get() is None
open(mine, "w").close()
while not all(map(os.path.exists, marks)):  # none has found anything
    time.sleep(0.001)
print(cached.try_store(mine, lambda file: file.write_text(mine)))
"""


def test_processes_that_make_a_thing_at_once_end_with_one_thing(tmp_path):
    marks = [str(tmp_path / f"mark-{i}") for i in range(6)]
    run = dict(stdout=subprocess.PIPE, text=True)
    racers = [subprocess.Popen([sys.executable, "-c", RACE, mark, *marks], **run) for mark in marks]
    found = [racer.communicate(timeout=60)[0].strip() for racer in racers]
    assert len(set(found)) == 1 and found[0] in marks


def test_scores_are_had_where_nothing_can_be_kept(networks, cache, capsys):
    test = load_images("digits", "test").images // 2
    wanted = evaluate(test, "digits", ["fad", "kid-classifier"], n=64, **networks)
    for file in cache.iterdir():
        file.unlink()
    cache.rmdir()
    cache.write_text("a file where the folder should be")
    capsys.readouterr()
    found = evaluate(test, "digits", ["fad", "kid-classifier"], n=64, **networks)
    assert found["scores"] == wanted["scores"]
    assert f"note: {cache}: not kept there, and made anew next time" in capsys.readouterr().err
    assert cached_autoencoder(IMAGES, "a", size=8, steps=2)[0].size == 8
    assert reference("digits", n=64, **networks)["floor"]["fad"]["score"] >= 0


def test_a_folder_in_the_place_of_a_kept_file_is_worked_around():
    cached = text_entry(a=2)
    (cached.file / "a folder").mkdir(parents=True)
    assert cached.get() is None and cached.try_store({"a": 1}, lambda file: file.write_text("{}")) == {"a": 1}


def test_features_that_were_kept_are_read_and_not_made_again():
    network = train_autoencoder(IMAGES, size=8, width=4, steps=1)
    made, file = extractors.cached_features(IMAGES, extractors.AutoencoderFeatures(network), "a")
    np.save(file, made.numpy() + 1)
    assert torch.equal(
        extractors.cached_features(IMAGES[:0], extractors.AutoencoderFeatures(network), "a")[0], made + 1
    )
