"""The command line as a user meets it: what every command makes, and what every mistake is answered with.

One tiny run is trained once and shared. Real processes where the process matters, `main` in this one elsewhere.
"""

import json
import os
import pickle
import shutil
import signal
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import PIL.Image
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

import tcja_gen as tg
from tcja_gen.cli import main

COMMANDS = ("demo", "train", "sample", "reconstruct", "interpolate", "evaluate", "reference", "check", "show")
MODEL = {"encoder": "8C3s2-TCJA-16C3s2-TCJA", "latent": 16, "divergence": "kl", "divergence_weight": 0.001}
QUICK = {"batch": 16, "warmup": 5, "lr": 0.005, "ema": 0.9, "compile": "off", "log_every": 10}


def flags(**settings) -> list[str]:
    """Of the tiny model and of a training short enough for a test."""
    named = {**QUICK, **settings, **{f"model.{name}": value for name, value in MODEL.items()}}
    return [part for name, value in named.items() for part in (f"--{name.replace('_', '-')}", str(value))]


@pytest.fixture(scope="module", autouse=True)
def cache(tmp_path_factory):
    """A cache of these tests' own, and one thread a process."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        patch.setenv("OMP_NUM_THREADS", "1")
        yield


def process(*arguments, module: tuple = ("tcja_gen",), **options) -> subprocess.CompletedProcess:
    """`python -m tcja_gen ...` as a process of its own."""
    command = [sys.executable, "-m", *module, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, **options)


def torchrun(*arguments) -> subprocess.CompletedProcess:
    launcher = ("torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m", "tcja_gen")
    return process(*arguments, module=launcher)


@pytest.fixture(scope="module")
def run(cache, tmp_path_factory) -> Path:
    """The folder of a tiny trained run, whose seeds give unlike images."""
    folder = tmp_path_factory.mktemp("runs") / "tiny"
    done = process("train", *flags(steps=40), "--out", folder)
    assert (done.returncode, done.stdout.splitlines()[-1:]) == (0, [str(folder)]), done.stderr
    assert "tcja-gen show" in done.stderr and "Warning" not in done.stderr
    return folder


@pytest.fixture
def call(capsys, monkeypatch, tmp_path):
    """Runs a command here, in an empty folder: its exit code, stdout and stderr."""
    monkeypatch.chdir(tmp_path)

    def call(*arguments) -> tuple[int, str, str]:
        capsys.readouterr()
        try:
            code = main([str(argument) for argument in arguments])
        except SystemExit as stop:
            code = stop.code
        return code, *capsys.readouterr()

    return call


@pytest.fixture
def succeed(call):
    """Runs a command that must succeed: its stdout."""

    def succeed(*arguments) -> str:
        code, out, err = call(*arguments)
        assert code == 0, err
        return out

    return succeed


@pytest.fixture
def mistake(call):
    """Runs a command that must refuse: the one line it says."""

    def mistake(*arguments) -> str:
        code, out, err = call(*arguments)
        return one_line(code, out, err)

    return mistake


def one_line(code: int, out: str, err: str) -> str:
    assert (code, out, len(err.splitlines())) == (2, "", 1), err
    assert err.startswith("tcja-gen: ")
    return err.removeprefix("tcja-gen: ").strip()


def write_images(folder: Path, n: int = 12, size: tuple = (8, 8), channels: int = 1) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(0).integers(0, 256, (n, *size, channels), dtype=np.uint8)
    for i, image in enumerate(pixels):
        PIL.Image.fromarray(image.squeeze()).save(folder / f"{i}.png")
    return folder


def truncate(file: Path) -> Path:
    file.write_bytes(file.read_bytes()[:60])
    return file


def pixels(path: Path) -> np.ndarray:
    return np.asarray(PIL.Image.open(path))


# help


def test_help_of_every_command_comes_without_loading_torch_and_gives_two_examples():
    script = f"""
import contextlib, io, json, sys
from tcja_gen.cli import main
told = {{}}
for name in {COMMANDS!r}:
    with contextlib.redirect_stdout(io.StringIO()) as text:
        try:
            code = main([name, "--help"])
        except SystemExit as stop:
            code = stop.code
    told[name] = code, text.getvalue()
print(json.dumps([told, "torch" in sys.modules]))
"""
    told, heavy = json.loads(subprocess.check_output([sys.executable, "-c", script]))
    assert not heavy
    for name, (code, text) in told.items():
        assert code == 0
        assert f"usage: tcja-gen {name}" in text
        assert text.count(f"\n  tcja-gen {name}") >= 2


def test_help_lists_every_command(succeed):
    text = succeed("--help")
    assert succeed() == text
    assert all(f"\n  {name} " in text for name in COMMANDS)


def test_version(succeed):
    assert succeed("--version").strip() == f"tcja_gen {tg.__version__}"


def test_help_piped_into_head_complains_about_nothing():
    command = [sys.executable, "-m", "tcja_gen", "train", "--help"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as reading:
        reading.stdout.close()
        assert reading.stderr.read() == b""


# what the commands make


def test_sample_writes_a_picture_a_seed(succeed, run, tmp_path):
    assert succeed("sample", run, "--seeds", "3,5-7", "--out", "few").strip() == "few"
    assert sorted(path.name for path in Path("few").iterdir()) == [f"00000{seed}.png" for seed in (3, 5, 6, 7)]
    assert pixels(tmp_path / "few/000003.png").shape == (8, 8)
    assert (pixels(tmp_path / "few/000003.png") != pixels(tmp_path / "few/000005.png")).any()


def test_a_seed_is_the_same_image_in_any_company(succeed, run):
    succeed("sample", run, "--seeds", "5", "--out", "alone")
    succeed("sample", run, "--n", "9", "--out", "many")
    assert Path("alone/000005.png").read_bytes() == Path("many/000005.png").read_bytes()


def test_sample_makes_a_grid_and_a_film(succeed, run):
    told = succeed("sample", run, "--n", "4", "--grid", "--film", "--which", "best")
    assert told.split() == ["samples/samples.png", "samples/film.gif"]
    assert sorted(path.name for path in Path("samples").iterdir()) == ["film.gif", "samples.png"]
    assert PIL.Image.open("samples/film.gif").n_frames == 4  # T


def test_a_checkpoint_file_alone_is_enough_to_sample(succeed, run, tmp_path):
    shutil.copy(run / "checkpoints" / "step-000040" / "model.safetensors", tmp_path / "alone.safetensors")
    succeed("sample", tmp_path / "alone.safetensors", "--n", "2", "--out", "file")
    succeed("sample", run, "--n", "2", "--out", "run")
    assert Path("file/000001.png").read_bytes() == Path("run/000001.png").read_bytes()


def test_reconstruct_takes_the_runs_own_test_images(succeed, run):
    path, error = succeed("reconstruct", run, "--n", "8").splitlines()
    assert PIL.Image.open(path).width > 8
    assert error.startswith("mean squared error 0.") and error.endswith("over 8 images")


def test_reconstruct_takes_a_folder_and_converts_its_images(succeed, run, tmp_path):
    colour = write_images(tmp_path / "colour", size=(12, 10), channels=3)
    assert "over 12 images" in succeed("reconstruct", run, "--images", colour)


def test_a_run_trained_on_a_folder_finds_its_images_from_anywhere(succeed, run, tmp_path, monkeypatch):
    write_images(tmp_path / "here" / "pictures")
    monkeypatch.chdir(tmp_path / "here")
    assert tg.train(data="pictures", out="run", steps=1, quiet=True, model=MODEL, **QUICK).finished
    monkeypatch.chdir(tmp_path)
    assert "over 2 images" in succeed("reconstruct", "here/run")


def test_interpolate_between_samples_and_between_images(succeed, run):
    drawn = succeed("interpolate", run, "--pairs", "2", "--steps", "5", "--out", "a").strip()
    given = succeed("interpolate", run, "--pairs", "2", "--steps", "5", "--images", "digits", "--out", "b").strip()
    assert PIL.Image.open(drawn).size == PIL.Image.open(given).size
    assert (pixels(drawn) != pixels(given)).any()


def test_evaluate_a_run_prints_a_table_and_keeps_the_record(succeed, run):
    told = succeed("evaluate", run, "--metrics", "fad,fad-reconstruction,reconstruction", "--n", "100")
    names = [line.split()[0] for line in told.splitlines()]
    assert names == ["metric", "fad", "fad-reconstruction", "reconstruction"]
    [file] = run.glob("scores/step-000040/fad-fad-reconstruction-reconstruction-*.json")
    record = json.loads(file.read_text())
    assert list(record["scores"]) == names[1:]
    assert record["protocol"]["fad"]["n"] == 100


def test_evaluate_in_json_prints_json_and_nothing_else(succeed, run):
    record = json.loads(succeed("evaluate", run, "--json", "--n", "80"))
    assert record["scores"]["fad"] > 0
    assert record["protocol"]["fad"]["step"] == 40


def test_another_protocol_does_not_overwrite_the_scores_of_the_first(succeed, run, tmp_path):
    shutil.copytree(run, "mine")
    for options in (["--n", "70"], ["--n", "80"], ["--split", "validation", "--n", "80"]):
        succeed("evaluate", "mine", *options)
    assert len(list(Path("mine/scores/step-000040").glob("fad-[tv]*.json"))) >= 3


def test_a_folder_and_a_zip_of_the_same_images_score_alike(succeed, run, tmp_path):
    succeed("sample", run, "--n", "70", "--out", "pictures")
    with zipfile.ZipFile("pictures.zip", "w") as archive:
        for path in Path("pictures").iterdir():
            archive.write(path)
    options = ("--reference", "digits", "--json", "--n", "70")
    folder, archive, model = (
        json.loads(succeed("evaluate", target, *options))["scores"]["fad"]
        for target in ("pictures", "pictures.zip", run)
    )
    assert folder == archive == pytest.approx(model)


def test_compare_puts_like_records_side_by_side_and_refuses_unlike_ones(succeed, call, run):
    succeed("evaluate", run, "--n", "70", "--out", "like.json")
    succeed("evaluate", run, "--n", "70", "--split", "validation", "--out", "unlike.json")
    header, fad = succeed("evaluate", run, "--n", "70", "--compare", "like.json").splitlines()
    assert header.split() == ["metric", str(run), "like.json"]
    assert fad.split()[1] == fad.split()[2]
    code, out, err = call("evaluate", run, "--n", "70", "--compare", "unlike.json")
    assert (code, out) == (2, "")
    assert "unlike.json are not comparable" in err and "split test and validation" in err


def test_reference_tells_the_floor_and_where_things_are_kept(succeed):
    record = json.loads(succeed("reference", "digits", "--n", "300"))
    assert record["floor"].keys() == {"fad", "fad-official"}
    assert Path(record["autoencoder"]).is_file()
    assert str(Path(record["statistics"]["fad"])).startswith(os.environ["XDG_CACHE_HOME"])


def test_check_is_silent_on_good_images_and_names_bad_ones(call, tmp_path):
    images = write_images(tmp_path / "images")
    assert call("check", images)[:2] == (0, "")
    bad = truncate(images / "7.png")
    code, out, _ = call("check", images)
    assert code == 1
    assert [line.split(":")[0] for line in out.splitlines()] == [str(bad)]


def test_check_names_images_of_another_colour(call, tmp_path):
    images = write_images(tmp_path / "images", n=3, channels=3)
    code, out, _ = call("check", images, "--channels", "1")
    assert code == 1
    assert out.count("RGB with 3 channels, 1 wanted") == 3


def test_show_tells_what_a_run_is_and_draws_it(call, run):
    code, out, err = call("show", run, "--out", "figures")
    assert code == 0
    assert "digits, 1,374 training images" in out
    assert "T = 4" in out and "parameters: encoder" in out
    assert out.count("firing ") == 7  # two stages each, the latent's layers and between
    assert Path("figures/curves.png").is_file() and Path("figures/gates.png").is_file()


def test_demo_trains_samples_and_scores(succeed, monkeypatch):
    monkeypatch.setenv("PATH", "")  # no compiler, which takes longer than five steps
    told = succeed("demo", "--steps", "5")
    assert "fad-reconstruction" in told
    pictures = {path.name for path in Path("demo/pictures").iterdir()}
    assert pictures == {"samples.png", "film.gif", "reconstructions.png", "interpolations.png"}


def test_a_file_of_settings_trains_and_flags_change_it(succeed, tmp_path):
    settings = "\n".join(f"{name} = {json.dumps(value)}" for name, value in QUICK.items())
    model = "\n".join(f"{name} = {json.dumps(value)}" for name, value in MODEL.items())
    (tmp_path / "mine.toml").write_text(f"steps = 9\n{settings}\nflip = true\n[model]\n{model}\n")
    succeed("train", "mine.toml", "--steps", "2", "--no-flip", "--model.time-steps", "3", "--out", "run")
    written = (tmp_path / "run/config.toml").read_text()
    assert "\nsteps = 2\n" in written and "\nflip = false\n" in written
    assert "\ntime_steps = 3\n" in written and "\nlatent = 16\n" in written


def test_the_python_api_goes_from_training_to_a_score(tmp_path):
    trained = tg.train(data="digits", steps=40, out=str(tmp_path / "run"), quiet=True, model=MODEL, **QUICK)
    model = tg.load(trained.folder)
    images = model.sample(seeds=range(5))
    assert images.shape == (5, 1, 8, 8) and 0 <= images.min() <= images.max() <= 1
    record = tg.evaluate(model, "digits", metrics=["fad"], n=70)
    assert record["scores"]["fad"] > 0 and record["protocol"]["fad"]["n"] == 70


# stopping and going on


def test_ctrl_c_saves_says_how_to_go_on_and_is_seen_by_the_shell(run, succeed, tmp_path):
    command = [sys.executable, "-m", "tcja_gen", "train", *flags(steps=100_000, log_every=1), "--out", "stopped"]
    with subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as training:
        for line in training.stderr:
            if line.startswith("step 3/"):
                break
        training.send_signal(signal.SIGINT)
        out, err = training.communicate(timeout=60)
    assert training.returncode == 130
    assert out.strip() == "stopped"
    assert err.splitlines()[-1].endswith("go on with: tcja-gen train --resume stopped")
    assert "Traceback" not in err
    succeed("sample", tmp_path / "stopped", "--n", "1")


def test_a_run_that_is_over_can_be_resumed_and_stays_as_it_is(succeed, run):
    shutil.copytree(run, "mine")
    before = Path("mine/checkpoints/step-000040/model.safetensors").read_bytes()
    assert succeed("train", "--resume", "mine").strip() == "mine"
    tensors = Path("mine/checkpoints/step-000040/model.safetensors").read_bytes()
    assert tensors == before


def test_a_resumed_run_keeps_its_settings(mistake, run):
    told = mistake("train", "--resume", run, "--model.time-steps", "6")
    assert str(run) in told and "model.time_steps: 4 -> 6" in told


@pytest.mark.parametrize("arguments", [["--resume", "nowhere"], ["--resume=nowhere"]])
def test_resuming_what_is_no_run_names_it(mistake, arguments):
    assert "nowhere: no run to resume" in mistake("train", *arguments)


def test_a_run_is_never_trained_over(mistake, run):
    assert f"{run}: there is a run in this folder" in mistake("train", *flags(steps=1), "--out", run)
    assert "there is a run in this folder" in mistake("demo", "--out", run)


# several processes


def test_two_processes_train(tmp_path):
    done = torchrun("train", *flags(steps=3), "--out", tmp_path / "run")
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == [str(tmp_path / "run")]
    assert "in 2 processes" in done.stderr
    assert len(tg.load(tmp_path / "run").sample([0])) == 1


def test_two_processes_sample_the_same_bytes_as_one(succeed, run, tmp_path):
    done = torchrun("sample", run, "--seeds", "0-6", "--out", tmp_path / "two")
    assert done.returncode == 0, done.stderr
    succeed("sample", run, "--seeds", "0-6", "--out", tmp_path / "one")
    one, two = ({path.name: path.read_bytes() for path in (tmp_path / name).iterdir()} for name in ("one", "two"))
    assert one == two and len(one) == 7


def test_two_processes_score_the_same_as_one(succeed, run, tmp_path):
    command = ["evaluate", run, "--metrics", "fad,fad-reconstruction,reconstruction", "--n", "71", "--json"]
    one = json.loads(succeed(*command))
    done = torchrun(*command)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["scores"] == one["scores"]


def test_a_batch_that_processes_cannot_share_is_refused(tmp_path):
    done = torchrun("train", *flags(steps=1, batch=15), "--out", tmp_path / "run")
    assert done.returncode != 0
    assert "tcja-gen: batch 15 is not a positive multiple of the 2 processes" in done.stderr
    assert not (tmp_path / "run").exists()


# bad input: one line, exit code 2, and the thing is named


def test_a_data_set_that_is_not_there_says_which_files_go_where(tmp_path):
    done = process("train", "--data", "mnist", "--data-root", "nowhere", cwd=tmp_path)
    told = one_line(done.returncode, done.stdout, done.stderr)
    assert "train-images-idx3-ubyte" in told and "nowhere/MNIST/raw" in told and "--download" in told


def test_an_empty_folder_is_named(mistake, tmp_path):
    (tmp_path / "empty").mkdir()
    for command in (["train", "--data"], ["reference"]):
        assert mistake(*command, "empty").startswith("empty: no images found")
    assert mistake("evaluate", "empty", "--reference", "digits").startswith("empty: no images found")
    assert mistake("sample", "empty").startswith("empty: no checkpoint in this folder")


def test_a_truncated_image_among_good_ones_is_named(mistake, run, tmp_path):
    truncate(write_images(tmp_path / "images") / "7.png")
    for command in (["train", "--data"], ["reconstruct", run, "--images"], ["evaluate", run, "--reference"]):
        assert "images/7.png: truncated" in mistake(*command, "images")


def test_images_of_several_sizes_say_which_flag_brings_them_to_one(mistake, succeed, tmp_path):
    write_images(tmp_path / "images", n=3, size=(8, 8))
    write_images(tmp_path / "images" / "more", n=3, size=(9, 9))
    shutil.move(tmp_path / "images/more/1.png", tmp_path / "images/9.png")
    shutil.rmtree(tmp_path / "images/more")
    told = mistake("train", "--data", "images")
    assert "9.png is 9 x 9" in told and "--model.image-size 32" in told
    assert "--size 32" in mistake("evaluate", "images", "--reference", "digits")
    succeed("evaluate", "images", "--reference", "digits", "--size", "8")


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("stepz = 3", "unknown key 'stepz'; did you mean 'steps'?"),
        ("[model]\ntime_step = 3", "unknown key 'time_step'; did you mean 'time_steps'?"),
        ("steps = = 3", "not TOML: Invalid value (at line 1, column 9)"),
        ('steps = "3"', "key 'steps' is '3'; int is wanted"),
    ],
)
def test_a_mistake_in_a_file_of_settings_is_named(mistake, tmp_path, text, named):
    (tmp_path / "mine.toml").write_text(text)
    told = mistake("train", "mine.toml")
    assert told.startswith("mine.toml: ") and named in told


def test_a_file_of_settings_that_is_not_there_or_a_folder_is_named(mistake, run):
    assert mistake("train", "mine.toml").startswith("mine.toml: No such file")
    assert f"--resume {run} goes on with a run" in mistake("train", run)


def test_a_checkpoint_of_another_version_is_refused(mistake, run, tmp_path):
    with safe_open(run / "checkpoints" / "step-000040" / "model.safetensors", "pt") as file:
        tensors, metadata = {name: file.get_tensor(name) for name in file.keys()}, file.metadata()
    save_file(tensors, tmp_path / "new.safetensors", {**metadata, "format": "99"})
    told = mistake("sample", "new.safetensors")
    assert told == "new.safetensors: checkpoint of format 99, this version reads format 1"


class Bomb:
    """Makes a folder when it is unpickled: stands for code that a stranger's file wants to run."""

    def __init__(self, target: Path):
        self.target = str(target)

    def __reduce__(self):
        return os.mkdir, (self.target,)


def test_code_hidden_in_a_checkpoint_does_not_run(mistake, tmp_path):
    target = tmp_path / "ran"
    (tmp_path / "bomb.safetensors").write_bytes(pickle.dumps(Bomb(target)))
    assert mistake("sample", "bomb.safetensors").startswith("bomb.safetensors: not a safetensors file")
    assert not target.exists()
    pickle.loads((tmp_path / "bomb.safetensors").read_bytes())
    assert target.exists()  # it is a bomb


def test_code_hidden_in_an_autoencoder_does_not_run(mistake, run, tmp_path):
    torch.save({"encoder.0.0.weight": Bomb(tmp_path / "ran")}, tmp_path / "bomb.pth")
    told = mistake("evaluate", run, "--autoencoder", "bomb.pth")
    assert told.startswith("bomb.pth: not the weights of a FAD autoencoder")
    assert not (tmp_path / "ran").exists()


def test_code_hidden_in_the_state_of_a_run_does_not_run_on_resume(run, tmp_path):
    shutil.copytree(run, tmp_path / "mine")
    state = tmp_path / "mine" / "checkpoints" / "step-000040" / "state.pt"
    torch.save({"format": 1, "model": Bomb(tmp_path / "ran")}, state)
    done = process("train", "--resume", "mine", cwd=tmp_path)
    told = one_line(done.returncode, done.stdout, done.stderr)
    assert "mine/checkpoints/step-000040/state.pt" in told and "code in it" in told
    assert not (tmp_path / "ran").exists()


def test_a_typo_in_the_notation_is_pointed_at_and_leaves_no_folder(mistake):
    told = mistake("train", "--model.encoder", "8C3s2-TCAJ", "--out", "run")
    assert "'TCAJ' at character 7" in told
    assert not Path("run").exists()


@pytest.mark.parametrize("seeds", ["abc", "3,,5", "5-3", "-1", "1.5", "99999999999999999999"])
def test_seeds_that_cannot_be_read_are_shown(mistake, run, seeds):
    told = mistake("sample", run, f"--seeds={seeds}")
    assert told.startswith(f"--seeds {seeds}: cannot read") and "write 0-63 or 3,5,8-11" in told


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["sample", "RUN", "--n", "0"], "--n 0"),
        (["reconstruct", "RUN", "--n", "-5"], "--n -5"),
        (["interpolate", "RUN", "--steps", "1"], "--steps 1"),
        (["interpolate", "RUN", "--pairs", "999", "--images", "digits"], "--pairs 999 needs 1998"),
        (["sample", "RUN", "--device", "toaster"], "unknown device 'toaster'"),
        (["sample", "nowhere"], "nowhere: no such run or checkpoint"),
        (["show", "nowhere"], "nowhere: no such run or checkpoint"),
        (["evaluate", "nowhere"], "nowhere: no such run, checkpoint, folder or zip"),
        (["evaluate", "RUN", "--metrics", "fid"], "unknown metric fid; known are fad, fad-official"),
        (["evaluate", "RUN", "--n", "1"], "n is 1"),
        (["evaluate", "RUN", "--reference", "digit"], "did you mean 'digits'?"),
        (["evaluate", "RUN", "--reference", "nowhere.npz"], "nowhere.npz: no such file"),
        (["evaluate", "RUN", "--compare", "nowhere.json"], "nowhere.json: no such file"),
        (["check", "nowhere"], "unknown data set 'nowhere'"),
        (["train", "--steps", "0"], "steps is 0"),
        (["train", "mine.toml", "--resume", "RUN"], "leave out mine.toml"),
        (["sampel", "RUN"], "unknown command 'sampel'; known: demo, train, sample"),
    ],
)
def test_a_mistake_is_answered_by_one_line_that_names_it(mistake, run, arguments, named):
    assert named in mistake(*(run if argument == "RUN" else argument for argument in arguments))


def test_images_without_a_reference_are_asked_for_one(mistake, tmp_path):
    write_images(tmp_path / "images")
    told = mistake("evaluate", "images")
    assert told.startswith("images:") and "--reference DATA is missing" in told


@pytest.mark.skipif(torch.cuda.is_available(), reason="needs a machine without CUDA")
@pytest.mark.parametrize("command", [["train"], ["sample", "RUN"], ["evaluate", "RUN"]])
def test_a_gpu_that_is_not_there_is_named(mistake, run, command):
    command = [run if argument == "RUN" else argument for argument in command]
    assert mistake(*command, "--device", "cuda") == "device 'cuda': there is no CUDA device on this machine"


@pytest.mark.parametrize("arguments", [["sample", "RUN", "--sedes", "3"], ["train", "--step", "3"], ["sample"]])
def test_unknown_and_missing_flags_end_with_exit_code_2(call, arguments):
    code, out, err = call(*arguments)
    assert (code, out) == (2, "")
    assert f"tcja-gen {arguments[0]} --help" in err
    assert "Traceback" not in err
