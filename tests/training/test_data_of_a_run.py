"""Runs whose data are a folder: used from elsewhere, moved, or with another folder of that name in the way."""

import json
import shutil

import numpy as np
import pytest
from PIL import Image

import tcja_gen as tg
from tcja_gen.cli import main
from tcja_gen.data import load_images

SETTINGS = {"batch": 8, "compile": "off", "device": "cpu", "quiet": True, "checkpoint_every": 2}
MODEL = {"encoder": "8C3s2-TCJA-8C3s2-TCJA", "latent": {"channels": 4, "k": 2}, "time_steps": 2}


def pictures(folder, seed, n=80):
    draw = np.random.RandomState(seed)
    folder.mkdir(parents=True)
    for i in range(n):
        Image.fromarray(draw.randint(0, 256, (8, 8), np.uint8)).save(folder / f"{i}.png")
    return folder


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A run of 2 of 4 steps, started in the folder `home` on the relative folder `pics`."""
    home = tmp_path_factory.mktemp("work") / "home"
    pictures(home / "pics", 0)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(home)
        tg.train(data="pics", out="r", steps=2, model=MODEL, **SETTINGS)
    longer = home / "r" / "config.toml"
    longer.write_text(longer.read_text().replace("steps = 2\n", "steps = 4\n", 1))
    return home


@pytest.fixture
def home(made, tmp_path, monkeypatch):
    """Its copy, whose pictures are those of the original; the working directory is another one."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    shutil.copytree(made / "r", tmp_path / "home" / "r")
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    return tmp_path / "home"


@pytest.fixture
def gone(home, made):
    """The pictures have been moved."""
    (made / "pics").rename(made / "moved")
    yield home
    (made / "moved").rename(made / "pics")


def commands(run):
    flags = ["--metrics", "reconstruction", "--n", "8", "--out", "record.json"]
    yield ["evaluate", str(run), *flags]
    yield ["reconstruct", str(run), "--n", "4", "--out", "out"]


def test_a_run_finds_its_pictures_from_another_directory(home, made, capsys):
    for command in commands(home / "r"):
        assert main(command) == 0, capsys.readouterr().err
    test = load_images(made / "pics", "test").fingerprint
    assert json.loads(open("record.json").read())["protocol"]["reconstruction"]["reference"] == test
    assert tg.resume(home / "r", quiet=True).finished


def test_another_folder_of_that_name_is_never_taken_for_it(gone, tmp_path, capsys):
    pictures(tmp_path / "elsewhere/pics", 1)
    for command in [*commands(gone / "r"), ["train", "--resume", str(gone / "r")]]:
        assert main(command) == 2
        (line,) = capsys.readouterr().err.strip().splitlines()
        assert "pics" in line and "trained on" in line
    assert not (tmp_path / "elsewhere/record.json").exists()


def test_the_folder_under_its_name_is_taken_where_the_first_is_gone(gone, made, tmp_path, capsys):
    shutil.copytree(made / "moved", tmp_path / "elsewhere/pics")
    for command in commands(gone / "r"):
        assert main(command) == 0, capsys.readouterr().err
    assert tg.resume(gone / "r", quiet=True).finished


def test_pictures_that_are_gone_are_asked_for(gone, made, capsys):
    for command in [*commands(gone / "r"), ["train", "--resume", str(gone / "r")]]:
        assert main(command) == 2
        (line,) = capsys.readouterr().err.strip().splitlines()
        assert str(made / "pics") in line


def test_a_run_whose_pictures_moved_goes_on_with_them_and_with_no_others(gone, made, tmp_path, capsys):
    pictures(tmp_path / "others", 2)
    assert main(["train", "--resume", str(gone / "r"), "--data", str(tmp_path / "others")]) == 2
    assert "not those that this run was trained on" in capsys.readouterr().err
    assert main(["train", "--resume", str(gone / "r"), "--data", str(made / "moved")]) == 0
    (gone / "r/scores").mkdir(exist_ok=True)
    assert main(["evaluate", str(gone / "r"), "--metrics", "reconstruction", "--n", "8"]) == 0  # where they are now


def test_pictures_that_have_changed_are_not_scored_in_silence(home, made, capsys):
    extra = made / "pics" / "extra.png"
    Image.new("L", (8, 8)).save(extra)
    try:
        for command in commands(home / "r"):
            assert main(command) == 2
            assert "not the samples that this run was trained on" in capsys.readouterr().err
        assert main([*next(commands(home / "r")), "--reference", str(made / "pics")]) == 0  # by name they are
    finally:
        extra.unlink()
