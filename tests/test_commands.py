"""The command line as a user meets it."""

import json
import os
import pickle
import subprocess
import sys
import zipfile

import pytest
import torch
from PIL import Image

from tcja_gen.cli import main

TINY = ["--steps", "20", "--batch", "16", "--compile", "off", "--device", "cpu", "--log-every", "5"]
TINY += ["--model.encoder", "8C3s2-TCJA-16C3s2-TCJA", "--model.latent", "16"]
COMMANDS = ["demo", "train", "sample", "reconstruct", "interpolate", "evaluate", "reference", "check", "show"]


def tcja(*arguments, processes=1, cwd=None):
    launch = ["-m", "tcja_gen"]
    if processes > 1:
        launch = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(processes), *launch]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, *launch, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=180, env=environment, cwd=cwd)


@pytest.fixture(scope="module", autouse=True)
def cache(tmp_path_factory):
    before = os.environ.get("XDG_CACHE_HOME")
    os.environ["XDG_CACHE_HOME"] = str(tmp_path_factory.mktemp("cache"))
    yield
    os.environ.pop("XDG_CACHE_HOME") if before is None else os.environ.update(XDG_CACHE_HOME=before)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    out = tmp_path_factory.mktemp("runs") / "tiny"
    assert main(["train", *TINY, "--out", str(out)]) == 0
    return out


@pytest.fixture
def folder(tmp_path):
    path = tmp_path / "pictures"
    path.mkdir()
    for i in range(12):
        Image.new("L", (8, 8), i * 20).save(path / f"{i}.png")
    return path


@pytest.fixture
def mistake(capsys):
    """Runs a command that must fail as a user's mistake; its one line."""

    def check(*arguments) -> str:
        capsys.readouterr()
        assert main([str(a) for a in arguments]) == 2
        lines = capsys.readouterr().err.strip().splitlines()
        assert len(lines) == 1 and lines[0].startswith("tcja-gen: "), lines
        return lines[0]

    return check


@pytest.mark.parametrize("command", COMMANDS)
def test_help_has_two_examples(command, capsys):
    with pytest.raises(SystemExit) as end:
        main([command, "--help"])
    text = capsys.readouterr().out
    assert end.value.code == 0 and text.count(f"tcja-gen {command}") >= 3  # the usage and two examples


def test_help_comes_without_importing_torch():
    code = "import sys; sys.argv = ['x', 'train', '--help']; from tcja_gen.cli import main\n"
    code += "try: main()\nexcept SystemExit: pass\nassert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)


def test_samples_come_as_files_grid_and_film(run, tmp_path, capsys):
    assert main(["sample", str(run), "--seeds", "3,5-7", "--out", str(tmp_path)]) == 0
    assert sorted(p.name for p in tmp_path.iterdir()) == ["000003.png", "000005.png", "000006.png", "000007.png"]
    assert main(["sample", str(run), "--n", "4", "--grid", "--film", "--out", str(tmp_path)]) == 0
    assert Image.open(tmp_path / "samples.png").size[0] > 64
    assert Image.open(tmp_path / "film.gif").n_frames > 1


def test_reconstruction_and_interpolation_draw_their_pictures(run, folder, tmp_path, capsys):
    assert main(["reconstruct", str(run), "--n", "4", "--out", str(tmp_path)]) == 0
    assert main(["reconstruct", str(run), "--images", str(folder), "--n", "4", "--out", str(tmp_path)]) == 0
    assert "mean squared error" in capsys.readouterr().out
    assert main(["interpolate", str(run), "--pairs", "2", "--steps", "3", "--out", str(tmp_path)]) == 0
    assert main(["interpolate", str(run), "--images", "digits", "--pairs", "2", "--out", str(tmp_path)]) == 0
    assert (tmp_path / "reconstructions.png").exists() and (tmp_path / "interpolations.png").exists()


def test_scores_are_printed_kept_and_compared(run, folder, tmp_path, capsys):
    metrics = "fad,fad-reconstruction,reconstruction"
    assert main(["evaluate", str(run), "--metrics", metrics, "--n", "128"]) == 0
    assert "fad-reconstruction" in capsys.readouterr().out
    kept = next((run / "scores").glob("*/*.json"))
    again = ["evaluate", str(run), "--metrics", metrics, "--n", "128", "--json", "--out", str(tmp_path / "a.json")]
    assert main([*again, "--compare", str(kept)]) == 0
    assert json.loads(capsys.readouterr().out)["scores"] == json.loads(kept.read_text())["scores"]
    assert main(["evaluate", str(run), "--n", "96", "--compare", str(kept)]) == 2
    assert "not comparable: n 96 and 128" in capsys.readouterr().err
    archive = tmp_path / "pictures.zip"
    with zipfile.ZipFile(archive, "w") as file:
        for path in folder.iterdir():
            file.write(path, path.name)
    assert main(["evaluate", str(folder), "--reference", "digits"]) == 0
    plain = capsys.readouterr().out
    assert main(["evaluate", str(archive), "--reference", "digits"]) == 0
    assert plain.split()[-1] == capsys.readouterr().out.split()[-1]


def test_a_run_is_described(run, tmp_path, capsys):
    assert main(["show", str(run), "--out", str(tmp_path)]) == 0
    text = capsys.readouterr().out
    assert "digits" in text and "T = 4" in text and "parameters" in text and "rate" in text
    assert (tmp_path / "curves.png").exists() and (tmp_path / "gates.png").exists()


def test_bad_files_are_named(folder, capsys):
    assert main(["check", str(folder)]) == 0
    (folder / "5.png").write_bytes((folder / "5.png").read_bytes()[:40])
    with pytest.raises(SystemExit) as end:
        main(["check", str(folder)])
    assert end.value.code == 1 and "5.png" in capsys.readouterr().out


def test_mistakes_with_data_are_one_line(mistake, folder, tmp_path):
    line = mistake("train", *TINY, "--data", "mnist", "--data-root", tmp_path, "--out", tmp_path / "r")
    assert "MNIST" in line and str(tmp_path) in line
    (tmp_path / "empty").mkdir()
    assert "empty" in mistake("train", *TINY, "--data", tmp_path / "empty", "--out", tmp_path / "r")
    for i in range(6):
        (folder / f"{i}.png").write_bytes((folder / f"{i}.png").read_bytes()[:40])
    assert ".png" in mistake("train", *TINY, "--data", folder, "--out", tmp_path / "r")
    for i in range(6):
        Image.new("RGB", (8, 8)).save(folder / f"{i}.png")
    assert ".png" in mistake("train", *TINY, "--data", folder, "--out", tmp_path / "r")
    assert not (tmp_path / "r").exists()


def test_mistakes_in_settings_are_one_line(mistake, run, tmp_path):
    toml = tmp_path / "a.toml"
    toml.write_text("stepz = 3\n")
    assert "a.toml: unknown key 'stepz'; did you mean 'steps'?" in mistake("train", toml)
    toml.write_text("steps = \n")
    assert "a.toml: not TOML" in mistake("train", toml)
    assert "cannot read 'TCJ'" in mistake("train", *TINY, "--model.encoder", "8C3s2-TCJ", "--out", tmp_path / "r")
    assert "there is a run in this folder" in mistake("train", *TINY, "--out", run)
    assert "model.time_steps: 4 -> 8" in mistake("train", "--resume", run, "--model.time-steps", "8")
    assert "unknown metric" in mistake("evaluate", run, "--metrics", "fid")
    assert "--reference" in mistake("evaluate", tmp_path)
    assert "unknown command 'smaple'" in mistake("smaple")
    assert "--seeds" in mistake("sample", run, "--seeds", "1-b")
    assert "--n 0" in mistake("sample", run, "--n", "0")
    if not torch.cuda.is_available():
        assert "no CUDA device" in mistake("sample", run, "--device", "cuda")


def test_files_with_code_are_refused_and_not_run(mistake, run, tmp_path):
    class Bomb:
        def __reduce__(self):
            return open, (str(tmp_path / "ran"), "w")

    path = tmp_path / "model.safetensors"
    path.write_bytes(pickle.dumps(Bomb()))
    assert str(path) in mistake("sample", path)
    path = tmp_path / "autoencoder.pth"
    torch.save({"weights": Bomb()}, path)
    assert str(path) in mistake("evaluate", run, "--n", "64", "--autoencoder", path)
    assert not (tmp_path / "ran").exists()
    assert "no such run" in mistake("sample", tmp_path / "nothing")


def test_two_processes_make_and_score_the_same_images(run, tmp_path, capsys):
    done = tcja("sample", run, "--number", "70", "--out", tmp_path / "two", "--device", "cpu", processes=2)
    assert done.returncode == 0, done.stderr
    assert main(["sample", str(run), "--n", "70", "--out", str(tmp_path / "one"), "--device", "cpu"]) == 0
    for path in (tmp_path / "one").iterdir():
        assert path.read_bytes() == (tmp_path / "two" / path.name).read_bytes()
    score = ["evaluate", str(run), "--number", "70", "--metrics", "fad,reconstruction", "--device", "cpu"]
    assert main([*score, "--out", str(tmp_path / "one.json")]) == 0
    done = tcja(*score, "--out", tmp_path / "two.json", processes=2)
    assert done.returncode == 0, done.stderr
    one, two = (json.loads((tmp_path / f"{name}.json").read_text())["scores"] for name in ("one", "two"))
    assert one == two


def test_the_demo_ends_with_pictures_and_scores(tmp_path):
    done = tcja("demo", "--steps", "5", "--out", tmp_path / "demo")
    assert done.returncode == 0, done.stderr
    assert "fad" in done.stdout
    for name in ("samples.png", "film.gif", "reconstructions.png", "interpolations.png"):
        assert str(tmp_path / "demo" / "pictures" / name) in done.stdout
        assert (tmp_path / "demo" / "pictures" / name).exists()
