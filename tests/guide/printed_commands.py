"""Every command, Python snippet and recipe that a page prints runs.

Each page is followed from its top to its end, as a reader would, in a folder that has what pages take for granted:
small MNIST files in `data`, FSVAE's autoencoders with random weights in `fsvae`, pictures in `my_pictures`, runs in
`runs`. What would take long is shortened by further flags (`SHORTER`) and by networks for scores that are trained for a
few steps only. A command that several pages print runs once. What stays long is read by its own command line and not
run (`ONLY_READ`, each with its reason).
"""

import argparse
import contextlib
import functools
import io
import itertools
import re
import runpy
import shutil
import sys
import tomllib
import types
from pathlib import Path

import numpy as np
import pytest
import torch
from event_bytes import bin_file
from PIL import Image
from printed import PAGES, ROOT, Printed, printed, words
from scripts import given, on_path, run_script
from sklearn.datasets import load_digits

import tcja_gen as tg
from tcja_gen import commands
from tcja_gen.cli import main
from tcja_gen.metrics import autoencoder, classifier
from tcja_gen.metrics.frechet import Statistics
from tcja_gen.training import recipes

TRAIN = "--steps 2 --batch 8 --device cpu --log-every 1 --sample-every 0"
SHORTER = {  # flags that follow those that are printed
    "train": TRAIN,
    "sample": "--number 2",
    "reconstruct": "--number 2",
    "interpolate": "--pairs 1 --steps 3",
    "evaluate": "--number 64",
    "reference": "--number 64",
    "sampling.py": "--n 64 --metrics fad --rounds 2 --temperatures 1",
    "prior_limit.py": "--n 64 --metrics fad",
    "quality_vs_t.py": "--n 64 --metrics fad",
    "spikingjelly_network.py": "--epochs 1 --batch 4",
}
ONLY_READ = {
    "demo": "has a test of its own",
    "--html": "a minute; reports have tests of their own",
    "fad_check.py": "wants the files of FSVAE and all of MNIST",
    "networks_check.py": "12 GB and minutes",
    "metric_sanity.py": "minutes",
    "cpu.py": "minutes",
    "gpu.py": "a GPU",
    "spikes.py": "minutes",
    "equivalence.py": "minutes",
    "kills.py": "hours",
    "faults.py": "minutes",
    "bad_inputs.py": "a minute; it has a test",
    "processes.py": "minutes",
    "busy.py": "minutes",
    "memory.py": "hours",
    "push": "the Hugging Face Hub; sharing has tests of its own",
    "hf:owner/name": "the Hugging Face Hub",
    "tf1": "Inception's weights",
    "--dinov2": "DINOv2's weights",
}
CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")  # of CIFAR-10
OTHER_PROGRAMS = (
    "pip",
    "pytest",
    "ruff",
    "mkdocs",
    "tensorboard",
    "hf",
)  # which have tests of their own, or want a network
WORDS_FOR = {
    "NAME": "digits",
    "DATA_ROOT": "data",
    "AUTOENCODER_DIR": "fsvae",
    "FOLDER": "kept",
    "COMMAND": "sample",
    "RUN": "runs/mnist",
}


# the folder


def write_idx(file: Path, values: np.ndarray) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    axes = b"".join(n.to_bytes(4, "big") for n in values.shape)
    file.write_bytes(bytes([0, 0, 8, values.ndim]) + axes + values.tobytes())


def write_digits(folder: Path) -> None:
    """Files like MNIST's, of scikit-learn's digits at 28 x 28."""
    digits = load_digits()
    images = (np.kron(digits.images, np.ones((3, 3))) * 255 / 16).astype(np.uint8)
    images = np.pad(images, ((0, 0), (2, 2), (2, 2)))
    for part, rows in {"train": slice(0, 600), "t10k": slice(600, 900)}.items():
        write_idx(folder / f"{part}-images-idx3-ubyte", images[rows])
        write_idx(folder / f"{part}-labels-idx1-ubyte", digits.target[rows].astype(np.uint8))


def write_recordings(folder: Path) -> None:
    draw = np.random.default_rng(0)
    for split in ("Train", "Test"):
        for label in range(10):
            for i in range(3):
                t, (x, y) = np.sort(draw.integers(0, 300_000, 200)), draw.integers(0, 34, (2, 200))
                file = folder / split / str(label) / f"{i:05}.bin"
                file.parent.mkdir(parents=True, exist_ok=True)
                file.write_bytes(bin_file([*zip(t.tolist(), x.tolist(), y.tolist(), [1] * 200, strict=True)]))


def write_pictures(folder: Path) -> None:
    draw = np.random.default_rng(0)
    (folder / "my_pictures").mkdir()
    for i in range(60):
        pixels = draw.integers(0, 256, (70, 80, 3), np.uint8)
        Image.fromarray(pixels).save(folder / "my_pictures" / f"{i}.png")
    (folder / "images" / "0").mkdir(parents=True)
    for i in range(260):
        Image.fromarray(draw.integers(0, 256, (32, 32), np.uint8)).save(folder / "images" / "0" / f"{i}.png")
    for name in ("my_images", "training-images"):
        shutil.make_archive(str(folder / name), "zip", folder / "images")
    Image.fromarray(draw.integers(0, 256, (8, 8), np.uint8)).save(folder / "my_digit.png")
    for split, i in itertools.product(("train", "test"), range(300)):
        kind = folder / "data" / "cifar10-png" / split / CLASSES[i % 10]
        kind.mkdir(parents=True, exist_ok=True)
        Image.fromarray(draw.integers(0, 256, (32, 32, 3), np.uint8)).save(kind / f"{i:05}.png")
        faces = folder / "data" / "celeba" / split
        faces.mkdir(parents=True, exist_ok=True)
        if i < 60:
            Image.fromarray(draw.integers(0, 256, (109, 89, 3), np.uint8)).save(faces / f"{i:06}.png")


def write_autoencoders(folder: Path) -> None:
    (folder / "fsvae").mkdir()
    for name in ("mnist", "fashion"):
        network = autoencoder.Autoencoder(channels=1, width=64, size=32)
        statistics = Statistics.of(torch.randn(300, 64))
        for place in (folder, folder / "fsvae"):
            torch.save(network.state_dict(), place / f"{name}_64.pth")
            statistics.save(place / f"{name}_test_64.npz")


RUNS = {  # that pages take for granted, by recipe and flags
    "mnist": "mnist --data-root data",
    "tcja": "mnist-tcja --data-root data",
    "digits": "classify/digits",
    "conditional": "mnist-conditional --data-root data",
}


@pytest.fixture(scope="module")
def networks_of_few_steps():
    """Networks for scores and losses are trained for 8 steps."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(autoencoder, "default_steps", lambda n: 8)
        patched.setattr(classifier, "classifier_steps", lambda n, network="plain": 8)
        yield


@pytest.fixture(scope="module")
def place(tmp_path_factory, cache_of_the_session, networks_of_few_steps):
    """A folder in which every page can be followed."""
    folder = tmp_path_factory.mktemp("place")
    for name in ("MNIST", "FashionMNIST"):
        write_digits(folder / "data" / name / "raw")
    write_recordings(folder / "data" / "n-mnist")
    write_pictures(folder)
    write_autoencoders(folder)
    for name in ("experiments", "tests", "tcja_gen", "pyproject.toml"):
        (folder / name).symlink_to(ROOT / name)
    with contextlib.chdir(folder):
        for name, recipe in RUNS.items():
            assert main(["train", *recipe.split(), *TRAIN.split(), "--out", f"runs/{name}"]) == 0
    shutil.copytree(folder / "runs/mnist", folder / "runs/mnist-generator-spikes/seed-0")
    shutil.copytree(folder / "runs/mnist", folder / "runs/longer")
    shutil.copyfile(next(folder.glob("runs/tcja/checkpoints/*/model.safetensors")), folder / "mnist-tcja.safetensors")
    return folder


@pytest.fixture(scope="module")
def ran() -> set:
    """What has run already."""
    return set()


# what runs a command


def run_shell(command: str) -> None:
    """Runs a printed command, shortened. AssertionError or UserError if it does not do what it should."""
    program, *rest = [WORDS_FOR.get(word, word) for word in words(command)]
    {"tcja-gen": run_tcja_gen, "python": run_python, "torchrun": run_torchrun}.get(program, look)(program, rest)


def run_tcja_gen(_: str, arguments: list[str]) -> None:
    command, *rest = arguments
    assert command in commands.COMMANDS, command
    if {command, *rest} & {*ONLY_READ}:
        commands.parse(command, rest)
    elif rest or command == "list":  # else the text speaks of a command by its name
        if command == "train" and "--out" in rest:
            shutil.rmtree(rest[rest.index("--out") + 1], ignore_errors=True)
        assert exit_code([command, *rest, *shorter(command, rest)]) == 0


def shorter(command: str, rest: list[str]) -> list[str]:
    """Further flags for a command."""
    if "--seeds" in rest or "--resume" in rest and "--stage" not in rest:  # which has its own settings
        return []
    if any("official" in word for word in rest):  # of batches of 256 images
        return ["--number", "256", *(["--repeats", "2"] if "--repeats" in rest else [])]
    return SHORTER.get(command, "").split()


def exit_code(arguments: list[str]) -> int:
    try:
        return main(arguments)
    except SystemExit as end:  # after --help
        return end.code or 0


def run_torchrun(_: str, arguments: list[str]) -> None:
    """The command that torchrun would start, in this process alone."""
    from torch.distributed.run import get_args_parser

    asked = get_args_parser().parse_args(arguments)
    assert asked.module and asked.training_script == "tcja_gen"
    run_tcja_gen("tcja-gen", asked.training_script_args)


def run_python(_: str, arguments: list[str]) -> None:
    script, *rest = arguments
    file = ROOT / script
    assert file.is_file(), script
    if script == "experiments/run" and not is_quick(rest):
        look_up(rest)
    elif file.name in ONLY_READ:
        read(file, rest)
    else:
        try:
            run_script(file, *rest, *SHORTER.get(file.name, "").split())
        except SystemExit as end:
            assert end.code in (0, None), end.code


def read(file: Path, arguments: list[str]) -> None:
    """Has a script's own parser read the arguments. No arguments: the text speaks of the script by its name."""
    if not arguments or "parse_args" not in file.read_text(encoding="utf-8"):
        return
    parse = argparse.ArgumentParser.parse_args

    def parse_and_end(self, *words):
        parse(self, *words)
        raise EndOfReading

    with on_path(file.parent), given(file.name, *arguments):
        with pytest.MonkeyPatch.context() as patched, pytest.raises(EndOfReading):
            patched.setattr(argparse.ArgumentParser, "parse_args", parse_and_end)
            runpy.run_path(str(file), run_name="read")["main"]()


class EndOfReading(Exception):
    """A script's arguments have been read."""


def is_quick(arguments: list[str]) -> bool:
    """Whether `experiments/run` does what is asked in seconds; `test_run.py` runs small experiments of each kind."""
    return arguments == ["--list"] or arguments[:1] == ["digits"] and "--again" not in arguments


def look_up(arguments: list[str]) -> None:
    """The flags and the names of experiments that `experiments/run` is given are known."""
    asked = book()["arguments"](arguments)
    known = plan(asked.scale)
    for name in asked.names:
        assert name in known.records or known.named(name)


@functools.cache
def book() -> dict:
    """What `experiments/run` defines."""
    with on_path(ROOT / "experiments"):
        return runpy.run_path(str(ROOT / "experiments" / "run"))


@functools.cache
def plan(scale: str):
    """The book's experiments. It is read once, as pages print a hundred commands."""
    return book()["plan"].read(ROOT / "experiments" / "book.toml", scale)


def look(program: str, arguments: list[str]) -> None:
    """A program that is not ours: the files and extras that it names are there."""
    assert program in OTHER_PROGRAMS, f"{program} is unknown: say in this test how it is run"
    for word in arguments:
        if extras := re.fullmatch(r"\.\[([\w,-]+)\]", word):
            project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
            assert {*extras[1].split(",")} <= {*project["optional-dependencies"]}, word
        elif "/" in word and "://" not in word:
            assert (ROOT / word).exists(), word


def run_python_block(code: str, monkeypatch) -> None:
    """Runs a snippet with shorter trainings and fewer images."""
    from tcja_gen import evaluation, training

    train, evaluate = training.train, evaluation.evaluate

    def short_train(*arguments, **settings):
        if "out" in settings:
            shutil.rmtree(settings["out"], ignore_errors=True)
        return train(*arguments, **settings | {"steps": 2, "batch": 8, "device": "cpu", "sample_every": 0})

    def short_evaluate(*arguments, **settings):
        return evaluate(*arguments, **settings | {"n": 64})

    monkeypatch.setattr(training, "train", functools.wraps(train)(short_train))
    monkeypatch.setattr(evaluation, "evaluate", functools.wraps(evaluate)(short_evaluate))
    if "import wandb" in code:  # is no dependency; these are the two names that the page uses
        monkeypatch.setitem(sys.modules, "wandb", types.SimpleNamespace(init=lambda project, sync_tensorboard: None))
    exec(compile(code, "page", "exec"), {"tg": tg})


def run(one: Printed, monkeypatch) -> None:
    if one.kind == "shell":
        run_shell(one.text)
    elif one.kind == "python":
        run_python_block(one.text, monkeypatch)
    elif one.kind == "toml":
        names = re.findall(r"as `([\w.-]+\.toml)`:\s*$", one.before)
        file = Path(names[0] if names else "printed.toml")
        file.write_text(one.text, encoding="utf-8")
        recipes.load(file)


def named(page: Path) -> str:
    return str(page.relative_to(ROOT))


@pytest.mark.slow
@pytest.mark.parametrize("page", [page for page in PAGES if printed(page)], ids=named)
def test_all_that_a_page_prints_runs(page, place, ran, monkeypatch):
    monkeypatch.chdir(place)
    for one in printed(page):
        if (one.kind, one.text) in ran:
            continue
        ran.add((one.kind, one.text))
        errors = io.StringIO()
        with contextlib.redirect_stderr(errors), contextlib.redirect_stdout(io.StringIO()):
            try:
                with monkeypatch.context() as patched:
                    run(one, patched)
                failed = None
            except (Exception, SystemExit) as error:
                failed = error
        assert failed is None, f"{named(page)}:{one.line}: {one.text}\n{failed!r}\n{errors.getvalue()[-2000:]}"
