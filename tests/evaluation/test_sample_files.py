"""Many samples as files: a job can be stopped at any time and goes on, and never keeps images of another model."""

import shutil
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import torch
from PIL import Image

from tcja_gen.cli import main
from tcja_gen.data import load_images
from tcja_gen.models import Generator, build, store
from tcja_gen.nn.latents import BernoulliSettings


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    """Two models of the same shape with other weights."""
    folder = tmp_path_factory.mktemp("models")
    for seed in (0, 1):
        torch.manual_seed(seed)
        latent = BernoulliSettings(channels=8, k=4)
        settings = Generator(image_size=8, time_steps=2, encoder="8C3s2-8C3s2", latent=latent)
        store.save(folder / f"{seed}.safetensors", build(settings), settings, {})
    return [str(folder / f"{seed}.safetensors") for seed in (0, 1)]


def images(folder) -> dict[str, np.ndarray]:
    return {file.name: np.asarray(Image.open(file)) for file in sorted(folder.glob("*.png"))}


def sample(weights, folder, *arguments) -> None:
    assert main(["sample", weights, "--out", str(folder), "--device", "cpu", *arguments]) == 0


def test_an_interrupted_job_goes_on_where_it_stopped(weights, tmp_path, capsys):
    out = tmp_path / "many"
    command = [sys.executable, "-m", "tcja_gen", "sample", weights[0], "--n", "20000", "--out", str(out)]
    heard = {"preexec_fn": lambda: signal.signal(signal.SIGINT, signal.SIG_DFL)}  # a job in the background ignores it
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, **heard) as child:
        until = time.monotonic() + 60
        while not [*out.glob("*.png")] and time.monotonic() < until:
            time.sleep(0.01)
        child.send_signal(signal.SIGINT)
        told = child.stderr.read()
    made = {file.name: file.stat().st_mtime_ns for file in out.glob("*.png")}
    assert child.returncode == 130 and 0 < len(made) < 20000
    assert "the same command makes the images that are missing" in told and told.endswith("tcja-gen: stopped\n")
    assert [file.name for file in out.iterdir() if file.suffix != ".png"] == [".samples.json"]
    first, last = sorted(int(name[:6]) for name in made)[0], max(int(name[:6]) for name in made)
    (out / f"{last:06d}.png").unlink()
    seeds = [first, last, last + 1, last + 2]
    sample(weights[0], out, "--seeds", ",".join(map(str, seeds)))
    assert (out / f"{first:06d}.png").stat().st_mtime_ns == made[f"{first:06d}.png"]
    assert "1 of 4 images are there" in capsys.readouterr().err
    sample(weights[0], tmp_path / "alone", "--seeds", ",".join(map(str, seeds)))
    both = images(out)
    assert all(np.array_equal(both[name], alone) for name, alone in images(tmp_path / "alone").items())


def test_images_of_another_model_are_made_again_even_if_that_is_cut_short(weights, tmp_path, capsys):
    sample(weights[0], tmp_path / "a", "--n", "6")
    sample(weights[1], tmp_path / "b", "--n", "6")
    assert main(["sample", weights[1], "--n", "3", "--out", str(tmp_path / "a")]) == 2
    assert "3 files of another model, or sampled otherwise, would stay" in capsys.readouterr().err
    assert len(images(tmp_path / "a")) == 6
    sample(weights[1], tmp_path / "a", "--n", "6")
    for seed in (4, 5):
        (tmp_path / "a" / f"{seed:06d}.png").unlink()  # as a job that was stopped after four
    sample(weights[1], tmp_path / "a", "--n", "6")
    found, wanted = images(tmp_path / "a"), images(tmp_path / "b")
    assert found.keys() == wanted.keys() and all(np.array_equal(found[name], wanted[name]) for name in wanted)


def test_pictures_of_ones_own_stay(weights, tmp_path):
    (tmp_path / "a").mkdir()
    for name in ("000007.png", "mine.png"):
        Image.new("L", (8, 8)).save(tmp_path / "a" / name)
    sample(weights[0], tmp_path / "a", "--n", "2")  # before this nothing told that pictures there are samples
    sample(weights[1], tmp_path / "b", "--n", "2")
    assert images(tmp_path / "a").keys() == {"000000.png", "000001.png", "000007.png", "mine.png"}


def test_a_film_beside_samples_is_none_of_them(weights, tmp_path):
    sample(weights[0], tmp_path / "a", "--n", "6", "--film")
    sample(weights[0], tmp_path / "a", "--n", "6", "--grid")
    assert (tmp_path / "a" / "film.gif").exists() and (tmp_path / "a" / "samples.png").exists()
    shutil.make_archive(str(tmp_path / "packed"), "zip", tmp_path, "a")
    for place in (tmp_path / "a", tmp_path / "packed.zip"):
        assert len(load_images(place, "all")) == 6
    assert main(["check", str(tmp_path / "a")]) == 0
    for label in ("cat", "dog"):
        (tmp_path / "classes" / label).mkdir(parents=True)
        Image.new("L", (8, 8)).save(tmp_path / "classes" / label / "one.png")
    shutil.copytree(tmp_path / "a", tmp_path / "classes" / "made")
    shutil.make_archive(str(tmp_path / "classes"), "zip", tmp_path / "classes")
    for place in (tmp_path / "classes", tmp_path / "classes.zip"):
        assert load_images(place, "all").labels.bincount().tolist() == [1, 1, 6]


def test_two_jobs_fill_one_folder(weights, tmp_path):
    command = [sys.executable, "-m", "tcja_gen", "sample", weights[0], "--out", str(tmp_path / "a"), "--seeds"]
    sample(weights[0], tmp_path / "a", "--n", "1")  # the weights of the folder are told
    jobs = [subprocess.Popen([*command, seeds], stderr=subprocess.PIPE) for seeds in ("0-799", "400-1199")]
    assert [(job.communicate()[1], job.returncode)[1] for job in jobs] == [0, 0]
    assert len(images(tmp_path / "a")) == 1200
    assert [file.name for file in (tmp_path / "a").iterdir() if file.suffix != ".png"] == [".samples.json"]


def test_an_empty_file_that_a_power_cut_left_is_made_again(weights, tmp_path):
    sample(weights[0], tmp_path / "a", "--n", "2")
    (tmp_path / "a" / "000001.png").write_bytes(b"")
    sample(weights[0], tmp_path / "a", "--n", "2")
    assert images(tmp_path / "a")["000001.png"].shape == (8, 8)
