"""The command line as a user meets it."""

import contextlib
import json
import os
import pickle
import shutil
import subprocess
import sys
import zipfile
from importlib.metadata import version
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import tcja_gen as tg
from tcja_gen.cli import main
from tcja_gen.data import even, load_images, moving, record, write_events
from tcja_gen.metrics import train_classifier
from tcja_gen.nn.kernels.cpu import library
from tcja_gen.shipped import weights

pytestmark = pytest.mark.usefixtures("quick_networks")
TINY = ["--steps", "20", "--batch", "16", "--compile", "off", "--device", "cpu", "--log-every", "5"]
TINY += ["--model.encoder", "8C3s2-TCJA-16C3s2-TCJA", "--model.latent.channels", "16"]
CODES = ["--model.encoder", "8C3s2-8C3s2", "--model.decoder", "8T4s2-8T4s2", "--model.latent.kind", "codes"]
CODES += ["--model.latent.rounds", "4"]
COMMANDS = ["demo", "train", "sample", "reconstruct", "interpolate"]
COMMANDS += ["predict", "evaluate", "reference", "check", "show", "list"]
CLASSIFY = ["--task", "classify", "--steps", "40", "--batch", "24", "--lr", "0.01", "--warmup", "5"]
CLASSIFY += ["--compile", "off", "--device", "cpu", "--log-every", "10", "--model.encoder", "8C3-TCJA-MP2-8C3-TCJA-MP2"]


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    out = tmp_path_factory.mktemp("runs") / "tiny"
    assert main(["train", *TINY, "--out", str(out)]) == 0
    return out


@pytest.fixture(scope="module")
def classifier(tmp_path_factory):
    out = tmp_path_factory.mktemp("runs") / "classifier"
    assert main(["train", *CLASSIFY, "--data", "digits", "--out", str(out)]) == 0
    return out


@pytest.fixture(scope="module")
def recordings(tmp_path_factory):
    """Three digits filmed by a sensor of 12 x 12 pixels, in SpikingJelly's layout; the classes have names."""
    folder = tmp_path_factory.mktemp("data") / "moving-digits"
    digits = load_images("digits", "all")
    for name, digit in {"nought": 0, "one": 1, "seven": 7}.items():
        for i, image in enumerate(digits.images[digits.labels == digit][:24]):
            film = moving(image[0].numpy(), (12, 12), frames=13, reach=2)
            write_events(folder / "events_np" / name / f"r{i}.npz", record(film))
    return folder


@pytest.fixture(scope="module")
def event_run(recordings, tmp_path_factory):
    out, size = tmp_path_factory.mktemp("runs") / "events", ["--model.image-size", "12", "--model.time-steps", "5"]
    settings = ["--data", str(recordings), *size, "--events-by", "time", "--model.head", "30FC-Voting10"]
    assert main(["train", *CLASSIFY, *settings, "--out", str(out)]) == 0
    return out


@pytest.fixture(scope="module")
def conditional(tmp_path_factory):
    out = tmp_path_factory.mktemp("runs") / "conditional"
    assert main(["train", *TINY, "--model.latent.conditional", "--model.head", "10L", "--out", str(out)]) == 0
    return out


SAMPLE = ["--number", "70", "--device", "cpu"]
SCORE = ["--number", "70", "--device", "cpu", "--metrics"]
SCORE += ["fad,reconstruction,fid-classifier,kid-classifier,is-classifier"]
ACCURACY = ["--device", "cpu", "--metrics", "accuracy,accuracy-by-step"]
ONE_AFTER_ANOTHER = """
import json, sys
from tcja_gen import commands
from tcja_gen.cli import main
*first, last = json.loads(sys.argv[1])
for command, *words in first:
    commands.parse(command, words).run()
sys.exit(main(last))  # which leaves the group of processes
"""


@pytest.fixture(scope="module")
def of_two_processes(run, classifier, tmp_path_factory):
    """Images, scores.json and accuracy.json of commands that two processes have worked on together."""
    out = tmp_path_factory.mktemp("two")
    (out / "go.py").write_text(ONE_AFTER_ANOTHER)
    asked = [
        ["sample", run, *SAMPLE, "--out", out],
        ["evaluate", run, *SCORE, "--out", out / "scores.json"],
        ["evaluate", classifier, *ACCURACY, "--out", out / "accuracy.json"],
    ]
    words = json.dumps([[str(word) for word in command] for command in asked])
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    command = [*launch, str(out / "go.py"), words]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, env=environment)
    assert done.returncode == 0, done.stderr
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


def test_a_short_h_asks_for_help(capsys):
    with pytest.raises(SystemExit) as end:
        main(["train", "-h"])
    assert not end.value.code and "--steps-scale" in capsys.readouterr().out


@pytest.mark.parametrize("command", COMMANDS)
def test_help_has_two_examples(command, capsys):
    with pytest.raises(SystemExit) as end:
        main([command, "--help"])
    text = capsys.readouterr().out
    assert end.value.code == 0 and text.count(f"tcja-gen {command}") >= 3  # the usage and two examples


def test_help_comes_without_importing_torch():
    code = "import sys; sys.argv = ['x', 'sample', '--help']; from tcja_gen.cli import main\n"
    code += "try: main()\nexcept SystemExit: pass\nassert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)


def test_samples_come_as_files_grid_and_film(run, tmp_path, capsys):
    assert main(["sample", str(run), "--seeds", "3,5-7", "--out", str(tmp_path)]) == 0
    assert sorted(p.name for p in tmp_path.glob("*.png")) == ["000003.png", "000005.png", "000006.png", "000007.png"]
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


@pytest.mark.parametrize("kind", ["poisson", "gaussian"])
def test_a_run_with_another_latent_does_all_that_a_run_does(kind, tmp_path, capsys):
    out, model = tmp_path / "run", ["--model.latent.kind", kind]
    model += ["--model.neuron", "relu", "--model.time-steps", "1"] if kind == "gaussian" else []
    assert main(["train", *TINY, *model, "--out", str(out)]) == 0
    assert ("rate 0." in capsys.readouterr().err) == (kind == "poisson")
    for command in (["sample", "--n", "4", "--grid", "--film"], ["reconstruct", "--n", "4"], ["interpolate"]):
        name, *flags = command
        assert main([name, str(out), *flags, "--out", str(tmp_path / "pictures")]) == 0
    assert {p.name for p in (tmp_path / "pictures").iterdir()} >= {"samples.png", "film.gif", "interpolations.png"}
    assert main(["evaluate", str(out), "--metrics", "reconstruction", "--n", "64"]) == 0
    capsys.readouterr()
    assert main(["show", str(out), "--energy", "--out", str(tmp_path / "figures")]) == 0
    text = capsys.readouterr().out
    assert "latent" in text and "ANN twin" in text and ("firing rate" in text) == (kind == "poisson")


def test_scores_are_printed_kept_and_compared(run, folder, tmp_path, capsys):
    metrics = "fad,fad-reconstruction,reconstruction"
    assert main(["evaluate", str(run), "--metrics", metrics, "--n", "128"]) == 0
    assert "fad-reconstruction" in capsys.readouterr().out
    kept = next((run / "scores").glob("*/*.json"))
    again = ["evaluate", str(run), "--metrics", metrics, "--n", "128", "--json", "--out", str(tmp_path / "a.json")]
    assert main([*again, "--compare", str(kept)]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["scores"] == json.loads(kept.read_text())["scores"]
    assert [row[str(kept)] for row in told["compared"]] == list(told["scores"].values())
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


def test_scores_are_told_though_their_record_cannot_be_written(run, tmp_path, capsys):
    copy = shutil.copytree(run, tmp_path / "copy", ignore=shutil.ignore_patterns("scores"))
    words = ["evaluate", str(copy), "--n", "64", "--metrics", "psnr"]
    assert main(words) == 0
    (record,) = copy.rglob("scores/*/*.json")
    record.unlink()
    record.mkdir()
    capsys.readouterr()
    assert main(words) == 2
    told = capsys.readouterr()
    assert told.out.startswith("metric") and "psnr" in told.out
    assert told.err.strip().splitlines()[-1].startswith(f"tcja-gen: {record}: a folder")


def test_a_place_for_a_file_is_looked_at_before_the_work(mistake, run, tmp_path):
    (tmp_path / "file").write_text("not a folder")
    os.mkfifo(tmp_path / "pipe")
    for words in (["evaluate", run], ["export", run, "--part", "decoder"], ["reference", "digits"]):
        assert "a folder; name a file" in mistake(*words, "--out", tmp_path)
        assert "a folder; name a file" in mistake(*words, "--out", f"{tmp_path}/new/")
        assert mistake(*words, "--out", tmp_path / "file" / "a").endswith("Not a directory")
        assert "a device or a pipe" in mistake(*words, "--out", tmp_path / "pipe")
    assert "a device or a pipe" in mistake("show", run, "--html", tmp_path / "pipe")
    assert (tmp_path / "pipe").is_fifo()


def test_scores_that_cannot_be_kept_in_their_run_are_told_before_the_work_and_kept_elsewhere(
    mistake, run, tmp_path, capsys
):
    copy = shutil.copytree(run, tmp_path / "copy", ignore=shutil.ignore_patterns("scores"))
    (copy / "scores").write_text("not a folder")
    words = ["evaluate", str(copy), "--n", "64", "--metrics", "psnr"]
    assert "--out FILE keeps the scores elsewhere" in mistake(*words)
    assert main([*words, "--out", str(tmp_path / "a.json")]) == 0
    assert (
        tg.evaluate(copy, "digits", ["psnr"], n=64)["scores"] == json.loads((tmp_path / "a.json").read_text())["scores"]
    )


def test_a_full_disk_is_told_with_the_file_and_leaves_no_half_of_it(run, tmp_path):
    """The limit is that of the size of a file, which fails in the same way."""
    flags = {"samples/samples.png": ["sample", str(run), "--n", "900", "--grid", "--out", "samples"]}
    flags |= {"page.html": ["show", str(run), "--html", "page.html"]}
    flags |= {"part.pt2": ["export", str(run), "--part", "decoder", "--out", "part.pt2"]}
    flags |= {"run": ["train", *TINY, "--steps", "200", "--log-every", "1", "--sample-every", "0", "--out", "run"]}
    limited = "import json, resource, sys; from tcja_gen.cli import main; "
    limited += "resource.setrlimit(resource.RLIMIT_FSIZE, (5000, 5000)); print([*map(main, json.loads(sys.argv[1]))])"
    called = [sys.executable, "-c", limited, json.dumps([*flags.values()])]
    done = subprocess.run(called, cwd=tmp_path, capture_output=True, encoding="utf-8")
    told = [line for line in done.stderr.splitlines() if line.startswith("tcja-gen: ")]
    assert done.stdout == "[2, 2, 2, 2]\n" and told == [f"tcja-gen: {file}: File too large" for file in flags]
    assert "Traceback" not in done.stderr  # of TensorBoard's thread
    assert not [file for file in tmp_path.rglob("*") if file.is_file() and "run" not in file.parts]


def test_images_are_shown_whatever_folder_they_are_in(mistake, folder, run, tmp_path, capsys):
    assert main(["show", str(folder), "--out", str(tmp_path / "pictures")]) == 0
    assert (tmp_path / "pictures" / "images.png").exists()
    Image.new("L", (9, 9)).save(folder / "odd.png")
    assert f"tcja-gen check {folder} --size 32 --picture a" in mistake("show", folder, "--out", "a")
    assert "checkpoint" in mistake("show", run.parent)  # a folder of runs, with pictures in it


def test_a_model_is_scored_at_its_own_size(mistake, run, folder, capsys):
    assert "--size 16: the model's own is 8" in mistake("evaluate", run, "--size", "16", "--metrics", "psnr")
    assert "--channels 3" in mistake("evaluate", run, "--channels", "3", "--metrics", "psnr")
    assert main(["evaluate", str(run), "--size", "8", "--n", "32", "--metrics", "psnr"]) == 0


@pytest.mark.parametrize("seed", [2**63, 10**20])
def test_a_seed_of_too_many_digits_is_a_mistake(mistake, run, seed, tmp_path):
    assert "--seed" in mistake("evaluate", run, "--seed", seed, "--n", "16", "--metrics", "psnr")
    if seed > 2**64:
        assert "seeds have 64 bits" in mistake("reconstruct", run, "--seed", seed, "--n", "4", "--out", tmp_path)


def test_a_single_image_is_no_reference(mistake, run, tmp_path):
    for i in range(3):
        Image.new("L", (8, 8), i).save(tmp_path / f"{i}.png")
    assert "at least 2 are needed" in mistake("reference", tmp_path)
    assert "at least 2 images to compare with, found 1" in mistake("evaluate", run, "--reference", tmp_path)


def test_weights_on_their_own_are_scored_in_any_folder_and_leave_no_record_of_others(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    shutil.copyfile(weights()["digits"], "small.safetensors")
    assert main(["evaluate", "small.safetensors", "--metrics", "psnr", "--n", "64"]) == 0
    assert "psnr" in capsys.readouterr().out and [path.name for path in tmp_path.iterdir()] == ["small.safetensors"]
    (tmp_path / "model.safetensors").hardlink_to("small.safetensors")
    assert main(["evaluate", ".", "--metrics", "psnr", "--n", "64", "--out", "scores.json"]) == 0
    assert Path("scores.json").exists() and main(["show", "."]) == 0


def test_a_score_that_is_not_finite_is_left_out_and_the_others_are_kept(folder, tmp_path, capsys):
    """All images of the data are the same one, so nothing is as far from training images as held-out ones are."""
    digits, judge, out = load_images("digits"), tmp_path / "judge.safetensors", tmp_path / "a.json"
    train_classifier(digits.images, digits.labels, size=8, steps=2).save(judge)
    (tmp_path / "same").mkdir()
    for i in range(40):
        Image.fromarray(digits.images[0, 0].numpy()).save(tmp_path / "same" / f"{i}.png")
    ask = ["evaluate", str(folder), "--reference", str(tmp_path / "same"), "--classifier", str(judge), "--n", "12"]
    capsys.readouterr()
    metrics = "fid-classifier,memorisation-classifier"
    assert main([*ask, "--metrics", metrics, "--out", str(out)]) == 0
    told = capsys.readouterr()
    assert "fid-classifier" in told.out and "memorisation" not in told.out
    assert "note: memorisation-classifier is left out: it is inf, not a number" in told.err
    assert list(json.loads(out.read_text())["scores"]) == ["fid-classifier"]
    assert main([*ask, "--metrics", "memorisation-classifier"]) == 2
    assert "none of the metrics could be computed" in capsys.readouterr().err


def test_other_seeds_have_another_record_and_any_number_of_metrics_a_short_name(run, capsys):
    ask, found = ["evaluate", str(run), "--n", "64", "--metrics"], set()
    names = "fad,fad-reconstruction,reconstruction,psnr,ssim,fid-classifier,kid-classifier,is-classifier,"
    names += "precision-classifier,recall-classifier,density-classifier,coverage-classifier,memorisation-classifier"
    for metrics, seed in ((names, 0), ("psnr", 0), ("psnr", 64), ("psnr", 0)):
        capsys.readouterr()
        assert main([*ask, metrics, "--seed", str(seed)]) == 0
        (line,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("record: ")]
        found.add(line)
        assert len(os.path.basename(line)) < 60
    assert len(found) == 3


def test_a_record_is_kept_though_it_cannot_be_compared_or_its_reader_has_gone(run, tmp_path, capsys):
    other, mine = tmp_path / "other.json", tmp_path / "mine.json"
    assert main(["evaluate", str(run), "--n", "64", "--metrics", "psnr", "--out", str(other)]) == 0
    assert (
        main(["evaluate", str(run), "--n", "70", "--metrics", "psnr", "--out", str(mine), "--compare", str(other)]) == 2
    )
    told = capsys.readouterr()
    assert "not comparable: n 70 and 64" in told.err and mine.exists() and "psnr" in told.out
    mine.unlink()
    reader, writer = os.pipe()
    os.close(reader)
    with open(writer, "w", buffering=1) as gone, contextlib.redirect_stdout(gone):
        assert main(["evaluate", str(run), "--n", "72", "--metrics", "psnr", "--out", str(mine)]) == 1
    assert json.loads(mine.read_text())["scores"]["psnr"] > 0


def test_a_run_is_described(run, tmp_path, capsys):
    assert main(["show", str(run), "--out", str(tmp_path)]) == 0
    text = capsys.readouterr().out
    assert "digits" in text and "T = 4" in text and "parameters" in text and "rate" in text
    assert (tmp_path / "curves.png").exists() and (tmp_path / "gates.png").exists()


def test_the_energy_of_a_run_is_shown_and_data_that_nothing_reads_is_refused(
    run, classifier, mistake, tmp_path, capsys
):
    for folder, layer in ((run, "latent.prior.blocks.0"), (classifier, "encoder.stages.0")):
        assert main(["show", str(folder), "--energy", "--out", str(tmp_path)]) == 0
        text = capsys.readouterr().out
        assert layer in text and "ANN twin" in text and "4.6 pJ x MAC + 0.9 pJ x AC" in text and "firing rate" in text
    assert main(["show", str(run), "--out", str(tmp_path)]) == 0
    assert "pJ" not in capsys.readouterr().out
    assert "only --energy and --html read data" in mistake("show", run, "--data-root", tmp_path)
    assert "is named twice" in mistake("show", run, run)
    assert "needs no data" in mistake("show", run, "--energy", "--data-root", tmp_path)


def test_the_environment_tells_what_the_neurons_run_on_and_why(run, mistake, capsys, monkeypatch):
    assert main(["show", "--environment", "--device", "cpu"]) == 0
    text = capsys.readouterr().out
    assert f"torch         {version('torch')}\n" in text and "bf16" in text and "threads" in text
    monkeypatch.setenv("PATH", "")
    monkeypatch.delenv("CXX", raising=False)
    library.cache_clear()  # as in a new process
    try:
        assert main(["show", "--environment", "--device", "cpu"]) == 0
    finally:
        library.cache_clear()
    assert "neurons       plain: there is no C++ compiler" in capsys.readouterr().out
    assert "leave the run" in mistake("show", run, "--environment")
    assert "--environment (which takes --device)" in mistake("show", run, "--device", "cpu")
    assert "show needs a RUN" in mistake("show")


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


def test_a_few_images_of_a_folder_are_read_alone_and_their_conversion_is_told(run, folder, tmp_path, capsys):
    for i in range(40):
        Image.new("RGB", (9, 9), (i, 0, 0)).save(folder / f"{i}.png")
    wanted = {f"{i}.png" for i in even(4, 40).tolist()}
    for file in folder.iterdir():
        if file.name not in wanted | {"0.png"}:  # the first tells the size of all
            file.write_bytes(b"broken")
    assert main(["reconstruct", str(run), "--images", str(folder), "--n", "4", "--out", str(tmp_path)]) == 0
    told = capsys.readouterr()
    assert "over 4 images" in told.out
    assert "colour, 9 x 9 pixels, converted to grey, 8 x 8 pixels" in told.err


def test_metrics_are_known_in_capitals_too(run, capsys):
    assert main(["evaluate", str(run), "--metrics", "Reconstruction,PSNR", "--n", "4"]) == 0
    assert "psnr" in capsys.readouterr().out


def test_mistakes_in_settings_are_one_line(mistake, run, tmp_path):
    toml = tmp_path / "a.toml"
    toml.write_text("stepz = 3\n")
    assert "a.toml: unknown key 'stepz'; did you mean 'steps'?" in mistake("train", toml)
    toml.write_text("steps = \n")
    assert "a.toml: not TOML" in mistake("train", toml)
    assert "cannot read 'TCJ'" in mistake("train", *TINY, "--model.encoder", "8C3s2-TCJ", "--out", tmp_path / "r")
    assert "there is a run in this folder" in mistake("train", *TINY, "--out", run)
    assert "model.time_steps: 4 -> 8" in mistake("train", "--resume", run, "--model.time-steps", "8")
    assert "unknown metric" in mistake("evaluate", run, "--metrics", "fidelity")
    assert "--reference" in mistake("evaluate", tmp_path)
    assert "unknown command 'smaple'" in mistake("smaple")
    assert "--seeds" in mistake("sample", run, "--seeds", "1-b")
    assert "--n 0" in mistake("sample", run, "--n", "0")
    if not torch.cuda.is_available():
        assert "no CUDA device" in mistake("sample", run, "--device", "cuda")
    assert "runs on cpu and cuda" in mistake("sample", run, "--device", "mps")


@pytest.mark.parametrize(
    ("flags", "says"),
    [
        ("--steps-scale nan", "--steps-scale is nan, it must be positive"),
        ("--steps-scale -1", "--steps-scale is -1.0"),
        ("--model 3", "--model is a table of settings: --model.image-size,"),
        ("--objective.perceptual 3", "--objective.perceptual is a table of settings: --objective.perceptual.weight"),
        ("--objective.adversarial None", "--objective.adversarial is a table of settings"),
        ("--stages 3", "no flag --stages"),
        ("--epochs 3", "no flag --epochs: training is counted in steps of --batch images, by --steps"),
        ("--learning-rate 1e-3", "no flag --learning-rate; did you mean --lr?"),
        ("--objective.perceptual.weight 1 --objective.no-perceptual", "one of the two"),
        ("--objective.no-perceptual --objective.perceptual.weight 1", "one of the two"),
        ("--plugin", "--plugin wants a Python file"),
        ("--plugin --steps 3", "--plugin wants a Python file"),
        ("--model.head 10L --objective.classification.kind tet --model.encoder XYZ", "cannot read 'XYZ'"),
    ],
)
def test_flags_that_cannot_be_given_so_are_told(mistake, flags, says):
    assert says in mistake("train", *flags.split())


def test_a_mistake_in_a_flag_is_one_line_on_a_terminal_without_unicode():
    asked = [sys.executable, "-m", "tcja_gen", "train", "--steps", "2.5"]
    plain = os.environ | {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0", "PYTHONIOENCODING": "ascii"}
    said = subprocess.run(asked, capture_output=True, text=True, env=plain).stderr
    assert said.startswith("tcja-gen: Error parsing --steps: ") and "---" not in said


def test_flags_that_need_each_other_come_in_any_order(tmp_path):
    flags = ["--objective.classification.kind", "tet", "--model.head", "10L", "--out", tmp_path / "run"]
    assert main([str(word) for word in ["train", *TINY, *flags, "--objective.classification.tet-mean", "-1"]]) == 0
    assert "tet_mean = -1.0" in (tmp_path / "run" / "config.toml").read_text()


def test_a_term_of_the_recipe_is_left_out_by_a_flag(tmp_path):
    toml, out = tmp_path / "sharp.toml", tmp_path / "run"
    toml.write_text("[objective.perceptual]\nweight = 0.5\n")
    assert main(["train", str(toml), *TINY, "--objective.no-perceptual", "--out", str(out)]) == 0
    assert "perceptual" not in (out / "config.toml").read_text()


def test_a_run_goes_on_though_what_it_started_from_is_gone(run, tmp_path):
    start, out = tmp_path / "start", tmp_path / "out"
    shutil.copytree(run, start)
    assert main(["train", *TINY, "--init-from", str(start), "--out", str(out)]) == 0
    shutil.rmtree(start)
    assert main(["train", "--resume", str(out)]) == 0


def test_flags_go_with_the_settings_of_the_file_not_with_the_defaults(mistake, tmp_path):
    toml = tmp_path / "codes.toml"
    toml.write_text(
        'steps = 1\nbatch = 4\n[model]\nencoder = "8C3s2-8C3s2"\ndecoder = "8T4s2-8T4s2"\n'
        '[model.latent]\nkind = "codes"\nchannels = 1\nprior = "8C3-8R3"\nrounds = 1\n'
    )
    assert main(["train", str(toml), "--model.latent.rounds", "2", "--out", str(tmp_path / "run")]) == 0
    assert "rounds = 2" in (tmp_path / "run" / "config.toml").read_text()
    assert "--model.latent.rounds" in mistake("train", "--model.latent.rounds", "2")
    assert "--model.rounds is called --model.latent.rounds now" in mistake("train", "--model.rounds", "2")


@pytest.mark.slow
def test_a_prior_of_codes_is_sampled_in_fewer_rounds_or_at_another_temperature(mistake, run, classifier, tmp_path):
    codes, pictures = tmp_path / "codes", tmp_path / "pictures"
    words = [*CODES, "--model.latent.channels", "2", "--model.latent.prior", "32C3-32R3"]
    assert main(["train", *TINY[:-4], *words, "--steps", "150", "--lr", "0.02", "--out", str(codes)]) == 0
    ways = {"own": [], "same": ["--rounds", "4"], "fewer": ["--rounds", "1"], "varied": ["--temperature", "9"]}
    for name, way in ways.items():
        assert main(["sample", str(codes), "--n", "64", "--grid", "--out", str(pictures / name), *way]) == 0
    made = {name: (pictures / name / "samples.png").read_bytes() for name in ways}
    assert made["own"] == made["same"] and len({*made.values()}) == 3
    score = ["evaluate", str(codes), "--n", "64"]
    for way in ([], ["--rounds", "1"]):
        assert main([*score, *way]) == 0
    kept = {file: json.loads(file.read_text())["protocol"]["fad"] for file in (codes / "scores").rglob("*.json")}
    assert sorted((x["rounds"], x["temperature"]) for x in kept.values()) == [(1, 1.0), (4, 1.0)]
    assert all(main([*score, "--compare", str(file)]) == 0 for file in kept)
    assert "17 rounds for 4 places" in mistake("sample", codes, "--rounds", "17")
    assert "has no temperature" in mistake("sample", run, "--temperature", "0.9")
    assert "is no generator" in mistake("evaluate", classifier, "--rounds", "2")


@pytest.mark.slow
def test_a_conditional_prior_of_long_tokens_is_guided_and_filled_in_by_another_order(mistake, tmp_path):
    codes, pictures = tmp_path / "codes", tmp_path / "pictures"
    words = [*CODES, "--model.latent.channels", "4", "--model.latent.prior", "16C3-16R3"]
    words += ["--model.time-steps", "4", "--model.latent.conditional", "--model.latent.class-dropout", "0.2"]
    words += ["--model.latent.random-masks", "0.5", "--model.latent.noise", "0.1"]
    assert main(["train", *TINY[:-4], *words, "--steps", "60", "--lr", "0.02", "--out", str(codes)]) == 0
    ways = {"own": [], "zero": ["--guidance", "0"], "guided": ["--guidance", "3"], "rows": ["--order", "rows"]}
    ways["again"] = ["--sweeps", "2"]
    for name, way in ways.items():
        assert main(["sample", str(codes), "--n", "20", "--grid", "--out", str(pictures / name), *way]) == 0
    made = {name: (pictures / name / "samples.png").read_bytes() for name in ways}
    assert made["own"] == made["zero"] and len({*made.values()}) == 4
    assert main(["show", str(codes), "--energy", "--out", str(tmp_path)]) == 0
    assert "unknown order 'spiral'" in mistake("sample", codes, "--order", "spiral")
    assert "guidance is -1.0, it must be positive, or 0" in mistake("sample", codes, "--guidance", "-1")


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


@pytest.mark.slow
def test_two_processes_make_and_score_the_same_images(run, of_two_processes, tmp_path):
    assert main(["sample", str(run), *SAMPLE, "--out", str(tmp_path)]) == 0
    made = [*tmp_path.glob("*.png")]
    for path in made:
        assert Image.open(path).tobytes() == Image.open(of_two_processes / path.name).tobytes()
    assert len(made) == 70 and main(["evaluate", str(run), *SCORE, "--out", str(tmp_path / "scores.json")]) == 0
    one, two = (json.loads((out / "scores.json").read_text())["scores"] for out in (tmp_path, of_two_processes))
    assert one == two


def test_images_are_scored_by_all_that_is_there_and_inception_by_name_is_asked_for(
    folder, mistake, monkeypatch, tmp_path, capsys
):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    monkeypatch.delenv("TCJA_GEN_INCEPTION", raising=False)
    ask = ["evaluate", str(folder), "--reference", "digits", "--device", "cpu", "--n", "12"]
    capsys.readouterr()
    assert main([*ask, "--metrics", "all", "--is-splits", "2", "--out", str(tmp_path / "a.json")]) == 0
    told = capsys.readouterr()
    assert "fid-classifier" in told.out and "coverage-classifier" in told.out
    (note,) = [line for line in told.err.splitlines() if "Inception" in line]
    assert note.startswith("note: fid, kid") and "fetch https://" in note and str(tmp_path / "torch") in note
    record = json.loads((tmp_path / "a.json").read_text())
    assert record["spread"]["is-classifier"] >= 0 and "±" in told.out
    line = mistake(*ask, "--metrics", "fad,fid")
    assert (
        "Inception's weights are missing: fetch https://" in line
        and "--download fetches them, --inception names" in line
    )
    assert "gone.pth: no such file" in mistake(*ask, "--metrics", "fid", "--inception", "gone.pth")
    assert "fad takes no --resize" in mistake(*ask, "--metrics", "fad", "--resize", "tf1")
    assert "--is-splits is -1" in mistake(*ask, "--is-splits", "-1")


def test_a_reference_file_scores_images_where_the_data_are_not(folder, mistake, tmp_path, capsys):
    file = tmp_path / "digits.npz"
    assert main(["reference", "digits", "--n", "40", "--device", "cpu", "--out", str(file)]) == 0
    capsys.readouterr()
    ask = ["evaluate", str(folder), "--reference", str(file), "--device", "cpu", "--n", "12"]
    assert main([*ask, "--metrics", "fad,kid-classifier", "--data-root", str(tmp_path / "nowhere")]) == 0
    assert "kid-classifier" in capsys.readouterr().out
    assert "digits.npz has nothing of the inception" in mistake(*ask, "--metrics", "fid")
    assert "digits.npz: of the test split; train was asked for" in mistake(*ask, "--split", "train")
    assert "digits.json: a reference is an .npz" in mistake("reference", "digits", "--out", "digits.json")


def test_sets_of_seeds_have_a_spread(mistake, run, folder, capsys):
    ask = ["--metrics", "fad", "--n", "64", "--device", "cpu", "--repeats", "2"]
    assert main(["evaluate", str(run), *ask]) == 0
    told = capsys.readouterr()
    assert "±" in told.out and "fad-test-64x2-" in told.err
    assert "images are one set" in mistake("evaluate", folder, "--reference", "digits", *ask)


def test_weights_that_cannot_be_fetched_are_one_line(run, mistake, monkeypatch, tmp_path):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    monkeypatch.setenv("https_proxy", "http://127.0.0.1:9")  # where nothing listens
    monkeypatch.delenv("TCJA_GEN_INCEPTION", raising=False)
    ask = ["evaluate", run, "--device", "cpu", "--n", "256", "--download", "--metrics"]
    for metric, place in (("fid", "https://github.com/toshas"), ("is-fsvae", "https://download.pytorch.org")):
        line = mistake(*ask, metric)
        assert place in line and "failed (" in line and str(tmp_path / "torch") in line


@pytest.mark.slow
def test_the_demo_ends_with_pictures_and_scores(tmp_path, capsys):
    assert main(["demo", "--steps", "5", "--out", str(tmp_path / "demo")]) == 0
    told = capsys.readouterr().out
    assert "fad" in told
    for name in ("samples.png", "film.gif", "reconstructions.png", "interpolations.png"):
        assert str(tmp_path / "demo" / "pictures" / name) in told
        assert (tmp_path / "demo" / "pictures" / name).exists()


def test_how_to_sample_is_refused_where_nothing_is_sampled(run, capsys):
    assert (
        main(["evaluate", str(run), "--metrics", "reconstruction,psnr", "--temperature", "0.9", "--rounds", "2"]) == 2
    )
    assert "--rounds, --temperature: reconstruction,psnr draws no samples" in capsys.readouterr().err


def test_records_with_a_dot_in_their_names_have_pictures_of_their_own(classifier, tmp_path, capsys):
    for name in ("t0.75", "t0.80"):
        assert main(["evaluate", str(classifier), "--n", "16", "--out", str(tmp_path / name)]) == 0
    names = {file.name for file in tmp_path.iterdir()}
    assert names == {"t0.75", "t0.80", "t0.75.confusion.png", "t0.80.confusion.png"}


def test_a_classifier_is_scored_with_a_table_a_picture_and_a_record(classifier, tmp_path, capsys):
    capsys.readouterr()
    assert main(["evaluate", str(classifier)]) == 0
    told = capsys.readouterr()
    assert "accuracy" in told.out and "precision" in told.out and len(told.out.strip().splitlines()) == 14
    (path,) = (classifier / "scores").glob("*/*.json")
    picture = path.with_suffix(".confusion.png")
    assert (
        f"record: {path}" in told.err
        and f"picture: {picture}" in told.err
        and path.name.startswith("accuracy-test-299-")
    )
    assert Image.open(picture).size[0] > 200
    again = ["evaluate", str(classifier), "--metrics", "accuracy,accuracy-by-step", "--json", "--compare", str(path)]
    assert main([*again, "--out", str(tmp_path / "a.json")]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["scores"]["accuracy"] == json.loads(path.read_text())["scores"]["accuracy"] > 0.3
    assert len(found["scores"]["accuracy-by-step"]) == 4 and sum(map(sum, found["confusion"])) == 299


def test_files_folders_and_zips_are_given_their_classes(classifier, tmp_path, capsys):
    folder, digits = tmp_path / "some", load_images("digits", "test")
    folder.mkdir()
    for i in (2, 0, 11, 1):
        Image.fromarray(digits.images[i, 0].numpy()).convert("RGB").resize((24, 16)).save(folder / f"d{i}.png")
    (folder / "notes.txt").write_text("not an image")
    with zipfile.ZipFile(tmp_path / "some.zip", "w") as archive:
        archive.write(folder / "d2.png", "inside/d2.png")
    capsys.readouterr()
    assert main(["predict", str(classifier), str(folder / "d1.png"), str(folder), str(tmp_path / "some.zip")]) == 0
    lines = [line.split("\t") for line in capsys.readouterr().out.splitlines()]
    inside = tmp_path / "some.zip" / "inside" / "d2.png"
    assert [line[0] for line in lines] == [str(folder / f"d{i}.png") for i in (1, 0, 1, 2, 11)] + [str(inside)]
    assert lines[0] == lines[2] and lines[3][1:] == lines[5][1:]
    assert main(["predict", str(classifier), str(folder / "d1.png"), "--json"]) == 0
    (row,) = json.loads(capsys.readouterr().out)
    assert row["class"] == lines[0][1] == str(row["number"]) and lines[0][2] == f"probability {row['probability']:.4f}"


def test_a_classifier_is_described(classifier, tmp_path, capsys):
    capsys.readouterr()
    assert main(["show", str(classifier), "--out", str(tmp_path)]) == 0
    text = capsys.readouterr().out
    assert "SpikingClassifier" in text and "head" in text and "accuracy 0." in text and "rate" in text
    assert (tmp_path / "curves.png").exists() and (tmp_path / "gates.png").exists()


def test_a_classifier_is_not_asked_for_images(mistake, classifier, run, tmp_path):
    assert "a classifier, which makes no images" in mistake("sample", "--pretrained", "n-mnist-classifier")
    for command in ("sample", "reconstruct", "interpolate"):
        assert "a classifier, which makes no images; tcja-gen predict" in mistake(command, classifier)
    assert "fad: a classifier makes no images" in mistake("evaluate", classifier, "--metrics", "fad")
    assert "takes no --autoencoder" in mistake("evaluate", classifier, "--autoencoder", "a.pth")
    assert "names no classes" in mistake("evaluate", run, "--metrics", "accuracy")
    assert "names no classes" in mistake("predict", run, tmp_path)


def test_files_that_cannot_be_predicted_are_named(mistake, classifier, folder, tmp_path):
    assert "no files" in mistake("predict", classifier)
    assert "nothing.png: no such file" in mistake("predict", classifier, tmp_path / "nothing.png")
    (tmp_path / "empty").mkdir()
    assert "empty: nothing to predict" in mistake("predict", classifier, tmp_path / "empty")
    (folder / "5.png").write_bytes((folder / "5.png").read_bytes()[:40])
    assert "5.png: " in mistake("predict", classifier, folder)
    (tmp_path / "a.zip").write_bytes(b"PK")
    assert "a.zip is neither a folder nor a readable zip" in mistake("predict", classifier, tmp_path / "a.zip")


def test_a_class_is_asked_of_a_conditional_generator(mistake, conditional, run, tmp_path, capsys):
    ask = ["sample", str(conditional), "--seeds", "3-4", "--out"]
    assert main([*ask, str(tmp_path / "own")]) == 0
    assert main([*ask, str(tmp_path / "three"), "--class", "3"]) == 0
    own, three = (sorted((tmp_path / name).glob("*.png")) for name in ("own", "three"))
    assert own[0].read_bytes() == three[0].read_bytes()  # seed 3 has class 3 anyway
    assert main([*ask, str(tmp_path), "--class", "4", "--grid", "--film"]) == 0
    assert main(["reconstruct", str(conditional), "--n", "4", "--out", str(tmp_path)]) == 0
    assert "--class 10: no such class; wanted 0 to 9, or a name: 0, 1" in mistake("sample", conditional, "--class", 10)
    assert "no such class" in mistake("sample", conditional, "--class", "cat")
    assert "trained without classes" in mistake("sample", run, "--class", "3")


def test_a_joint_generator_predicts_and_is_shown(conditional, tmp_path, capsys):
    Image.new("L", (8, 8), 90).save(tmp_path / "grey.png")
    capsys.readouterr()
    assert main(["predict", str(conditional), str(tmp_path / "grey.png")]) == 0
    assert "probability" in capsys.readouterr().out
    assert main(["evaluate", str(conditional), "--metrics", "accuracy,reconstruction", "--n", "40"]) == 0
    assert "reconstruction" in capsys.readouterr().out
    assert main(["show", str(conditional), "--out", str(tmp_path)]) == 0
    text = capsys.readouterr().out
    assert "decoder" in text and "head" in text and "accuracy" in text and "divergence" in text


def test_classes_of_samples_are_judged_and_their_nearest_training_images_drawn(conditional, tmp_path, capsys):
    digits, judge, out = load_images("digits"), tmp_path / "judge.safetensors", tmp_path / "a.json"
    train_classifier(digits.images, digits.labels, size=8, steps=60).save(judge)
    ask = ["evaluate", str(conditional), "--metrics", "recognition-classifier,memorisation-classifier", "--n", "40"]
    capsys.readouterr()
    assert main([*ask, "--classifier", str(judge), "--out", str(out)]) == 0
    told, record = capsys.readouterr(), json.loads(out.read_text())
    assert "else taken for" in told.out and "note: the classifier that scores names " in told.err
    assert [row["count"] for row in record["recognition"]["classes"]] == [4] * 10
    assert Image.open(out.with_suffix(".recognition.png")).width > 100
    picture = Image.open(out.with_suffix(".nearest.png"))
    assert picture.width > 10 * picture.height / 4 and len(record["nearest"]) == 10


def test_recordings_are_learned_scored_and_predicted(event_run, recordings, tmp_path, capsys):
    capsys.readouterr()
    assert main(["evaluate", str(event_run), "--metrics", "accuracy,accuracy-by-step", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["scores"]["accuracy"] > 0.5 and len(found["scores"]["accuracy-by-step"]) == 5
    assert [row["class"] for row in found["classes"]] == ["nought", "one", "seven"]
    whole = tg.evaluate(tg.load(event_run), recordings, split="all")
    events = recordings / "events_np"
    assert main(["predict", str(event_run), str(events / "one" / "r3.npz"), str(events)]) == 0
    lines = [line.split("\t") for line in capsys.readouterr().out.splitlines()]
    assert len(lines) == 73 and lines[0][2].startswith("rate ") and lines[0] in lines[1:]
    right = sum(name == path.split("/")[-2] for path, name, _ in lines[1:])
    assert right / 72 == whole["scores"]["accuracy"]  # cut by time, as in training
    assert main(["show", str(event_run), "--out", str(tmp_path)]) == 0
    assert "2 x 12 x 12" in capsys.readouterr().out and (tmp_path / "gates.png").exists()


def test_a_set_is_cut_into_the_frames_of_each_model(recordings, event_run, tmp_path, capsys):
    other = [*CLASSIFY, "--data", str(recordings), "--model.image-size", "12", "--model.time-steps", "2"]
    assert main(["train", *other, "--events-by", "time", "--out", str(tmp_path / "two")]) == 0
    for run, name in ((event_run, "five"), (tmp_path / "two", "two")):
        assert main(["evaluate", str(run), "--out", str(tmp_path / f"{name}.json")]) == 0
    capsys.readouterr()
    assert main(["evaluate", str(event_run), "--compare", str(tmp_path / "two.json")]) == 0
    assert len(capsys.readouterr().out.splitlines()[1].split()) == 3  # the same recordings, so they compare


def test_bad_recordings_are_named(mistake, event_run, recordings, classifier, tmp_path, capsys):
    sound = recordings / "events_np" / "one" / "r0.npz"
    with np.load(sound) as archive:
        arrays = dict(archive)
    bad = tmp_path / "bad.npz"
    for changed, words in (
        ({"x": arrays["x"] + 9}, "x from "),
        ({"p": arrays["p"][:-1]}, "unequal shape"),
        ({"t": arrays["t"] * 1.0}, "t is float64"),
    ):
        np.savez(bad, **(arrays | changed))
        line = mistake("predict", event_run, bad)
        assert "bad.npz: " in line and words in line
    np.savez(bad, time=arrays["t"])
    assert "bad.npz: arrays time, wanted t, x, y, p" in mistake("predict", event_run, bad)
    np.savez(bad, frames=np.zeros((4, 2, 12, 12)))
    assert "bad.npz: frames are (4, 2, 12, 12), wanted (T, 2, H, W) = (5, 2, 12, 12)" in mistake(
        "predict", event_run, bad
    )
    bad.write_bytes(sound.read_bytes()[:300])
    assert "bad.npz: not a readable npz" in mistake("predict", event_run, bad)
    assert "gone.npz: no such file" in mistake("predict", event_run, tmp_path / "gone.npz")
    assert "r0.npz: not an image" in mistake("predict", classifier, sound)
    assert main(["check", str(recordings)]) == 0
    assert "--size and --channels are for images" in mistake("check", recordings, "--size", "8")
    assert "trained on images" in mistake("evaluate", classifier, "--reference", recordings)
    assert "trained on event recordings" in mistake("evaluate", event_run, "--reference", "digits")


def test_recordings_are_shown_as_pictures_and_as_a_film(recordings, mistake, tmp_path, capsys):
    out = tmp_path / "pictures"
    assert main(["show", str(recordings), "--frames", "5", "--events-by", "number", "--out", str(out)]) == 0
    assert "3 classes from top to bottom: nought, one, seven" in capsys.readouterr().out
    with Image.open(out / "events.png") as picture, Image.open(out / "events.gif") as film:
        assert picture.width > picture.height and film.n_frames == 5
    assert main(["check", str(recordings), "--picture", str(tmp_path / "checked")]) == 0
    with Image.open(tmp_path / "checked/events.gif") as film:
        assert film.n_frames == 10
    assert main(["check", "digits", "--picture", str(tmp_path / "checked")]) == 0
    assert (tmp_path / "checked/images.png").exists()
    assert "--energy and --html are for a run" in mistake("show", recordings, "--energy")
    assert "--energy and --html are for a run" in mistake("show", recordings, "--html", tmp_path / "a.html")
    assert "--frames and --events-by are for" in mistake("show", "digits", "--frames", "3")
    assert "time_steps -1: at least 1 frame" in mistake("show", recordings, "--frames", "-1", "--out", out)


def test_gates_are_drawn_without_the_data(classifier, tmp_path, capsys):
    gone = tmp_path / "run"
    shutil.copytree(classifier, gone)
    text = (gone / "config.toml").read_text().replace('data = "digits"', 'data = "gone/away"')
    (gone / "config.toml").write_text(text)
    assert main(["show", str(gone)]) == 0
    assert (gone / "figures" / "gates.png").exists()


@pytest.mark.slow
def test_two_processes_classify_as_one_does(classifier, of_two_processes, tmp_path):
    assert main(["evaluate", str(classifier), *ACCURACY, "--out", str(tmp_path / "accuracy.json")]) == 0
    one, two = (json.loads((out / "accuracy.json").read_text()) for out in (tmp_path, of_two_processes))
    assert all(one[part] == two[part] for part in ("scores", "classes", "confusion"))


def test_a_trained_generator_that_comes_with_the_package_needs_no_run(tmp_path, capsys, monkeypatch):
    (tmp_path / "here" / "digits").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "here")
    shutil.copyfile(weights()["n-mnist-classifier"], "digits/model.safetensors")  # of that name, and another model
    assert main(["sample", "--pretrained", "digits", "--n", "4", "--grid", "--out", str(tmp_path)]) == 0
    assert Image.open(tmp_path / "samples.png").size[0] > 8
    assert main(["sample", "--pretrained", "nothing", "--n", "4", "--out", str(tmp_path)]) == 2
    assert "pretrained model (cifar10, digits" in capsys.readouterr().err
    for wrong in (["sample", "--n", "4"], ["sample", str(tmp_path), "--pretrained", "digits"]):
        assert main(wrong) == 2
        assert "a RUN or --pretrained NAME" in capsys.readouterr().err


@pytest.mark.parametrize("command", ["sample", "reconstruct", "interpolate"])
def test_a_place_that_cannot_be_written_to_is_told_before_images_are_made(tmp_path, capsys, command):
    (tmp_path / "file").write_text("")
    (tmp_path / "run").mkdir()  # without a model, which is not looked for
    assert main([command, str(tmp_path / "run"), "--out", str(tmp_path / "file" / "pictures")]) == 2
    assert capsys.readouterr().err == f"tcja-gen: {tmp_path / 'file' / 'pictures'}: Not a directory\n"
