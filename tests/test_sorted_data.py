"""A folder is sorted by class: whatever is shown or judged by a part of it must see all classes."""

import numpy as np
import pytest
import torch
from PIL import Image

import tcja_gen as tg
from tcja_gen.cli import main
from tcja_gen.data import even, load_events, moving, record, write_events
from tcja_gen.evaluation import energy
from tcja_gen.report.subject import shown_samples
from tcja_gen.training import samples

MODEL = {"encoder": "8C3s2-TCJA-8C3s2-TCJA", "latent": {"channels": 4, "k": 2}, "time_steps": 2}
SETTINGS = {"steps": 1, "batch": 8, "compile": "off", "device": "cpu", "quiet": True}
GREYS = {"a": 10, "b": 90, "c": 170, "d": 250}


@pytest.fixture(scope="module")
def greys(tmp_path_factory):
    """Four classes, each of one grey: 40 images of 8 x 8 each for training, 20 for validation, 10 for testing."""
    folder = tmp_path_factory.mktemp("data") / "greys"
    for part, n in {"train": 40, "validation": 20, "test": 10}.items():
        for label, grey in GREYS.items():
            (folder / part / label).mkdir(parents=True)
            for i in range(n):
                Image.new("L", (8, 8), grey).save(folder / part / label / f"{i}.png")
    return folder


@pytest.fixture(scope="module")
def run(greys, tmp_path_factory):
    return tg.train(data=str(greys), out=str(tmp_path_factory.mktemp("runs") / "r"), model=MODEL, **SETTINGS).folder


def originals(picture, columns) -> set[int]:
    """Greys of the first, third, ... row of images, which have a border of 2; labels are to the left of them."""
    pixels = np.asarray(Image.open(picture).convert("L"))
    tile = max(512 // columns, 32) + 2
    pixels = pixels[:, -(columns * tile + 2) :]
    return {int(cell) for cell in pixels[tile // 2 :: 2 * tile, tile // 2 :: tile].flatten()}


def test_a_draw_is_even_fixed_and_never_takes_one_twice():
    for n, total in ((1, 7), (7, 7), (9, 7), (5, 12), (1024, 3472), (64, 640)):
        chosen = even(n, total)
        assert len(chosen) == min(n, total) == len(chosen.unique()) and 0 <= chosen.min() and chosen.max() < total
        assert torch.equal(chosen, even(n, total)) and torch.equal(chosen, chosen.sort().values)
    assert even(0, 5).tolist() == even(5, 0).tolist() == []
    assert (even(1024, 3472) * 10 // 3472).bincount().tolist() == pytest.approx([102.4] * 10, abs=1)
    assert len((even(64, 640) % 10).unique()) > 5  # of a set whose classes take turns, too


def test_a_runs_pictures_and_its_validation_see_all_classes(run, greys, monkeypatch):
    assert originals(run / "reconstructions/step-000001.png", 16) >= {*GREYS.values()}
    monkeypatch.setattr(samples, "VALIDATION", 8)
    few = tg.train(data=str(greys), out=str(run.parent / "few"), model=MODEL, **SETTINGS).model.provenance
    monkeypatch.setattr(samples, "VALIDATION", 80)
    every = tg.train(data=str(greys), out=str(run.parent / "all"), model=MODEL, **SETTINGS).model.provenance
    assert few["validation"]["reconstruction"] == pytest.approx(every["validation"]["reconstruction"], rel=0.2)


def test_reconstruct_and_interpolate_show_all_classes(run, greys, tmp_path):
    assert main(["reconstruct", str(run), "--images", str(greys), "--n", "8", "--out", str(tmp_path)]) == 0
    assert originals(tmp_path / "reconstructions.png", 8) == {*GREYS.values()}
    assert main(["interpolate", str(run), "--images", str(greys), "--pairs", "4", "--out", str(tmp_path)]) == 0
    assert main(["reconstruct", str(run), "--n", "8", "--out", str(tmp_path)]) == 0
    assert originals(tmp_path / "reconstructions.png", 8) == {*GREYS.values()}


def test_energy_and_gates_of_recordings_are_of_all_classes(tmp_path, monkeypatch):
    """Class 0 has one edge, class 1 has many: a share of both has the mean of all."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    for label, film in {"0": np.eye(8)[:, :1] * np.ones((8, 8)), "1": np.indices((8, 8)).sum(0) % 2.0}.items():
        for i in range(70):
            events = record(moving(film * (1 - i / 200), (12, 12), reach=2))
            for part in ("train", "validation", "test") if i < 8 else ("validation",):
                write_events(tmp_path / "set/events_np" / part / label / f"{i}.npz", events)
    settings = {**SETTINGS, "task": "classify", "data": str(tmp_path / "set"), "out": str(tmp_path / "run")}
    model = {"encoder": "4C3-TCJA-MP2", "time_steps": 2, "image_size": 12}
    folder = tg.train(**settings, model=model).folder
    everything = load_events(tmp_path / "set", "validation", time_steps=2, size=12).frames.float()
    model, rows = energy.of_run(folder)
    assert rows[0].rate == pytest.approx(energy.count(model, everything)[0].rate, rel=0.05)
    assert shown_samples(model)[0].mean().item() == pytest.approx(everything.mean().item(), rel=0.05)
