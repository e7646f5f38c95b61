"""Parts of one's own: the example trains, is sampled and scored; every mistake in a plugin is one line."""

import ast
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

import tcja_gen as tg
from tcja_gen import registry
from tcja_gen.cli import main
from tcja_gen.data import load_events, load_images, moving, record, write_events

EXAMPLE = Path(__file__).parents[1] / "experiments" / "my_parts.py"
TINY = {"steps": 2, "batch": 8, "compile": "off", "device": "cpu"}
MODEL = {"time_steps": 2, "encoder": "4C3s2-RATE-4C3s2-RATE", "neuron": "eager", "readout": "ramp"}
LATENT = {"kind": "independent", "channels": 4, "flips": 0.1, "firing": 0.3}
SETTINGS = {"data": "bars", **TINY, "model": MODEL | {"latent": LATENT}}


@pytest.fixture(autouse=True)
def no_parts():
    """What a test registers is gone after it."""
    before = [(each, dict(each._parts), dict(each._sources)) for each in registry.REGISTRIES]
    yield
    for each, parts, sources in before:
        each._parts, each._sources = parts, sources


def flags(settings: dict, path: str = "") -> list[str]:
    """A nested table as the flags of a command line."""
    found = []
    for key, value in settings.items():
        name = f"{path}{key}"
        found += flags(value, f"{name}.") if isinstance(value, dict) else ["--" + name.replace("_", "-"), str(value)]
    return found


def shell(command: list[str], folder: Path) -> subprocess.CompletedProcess:
    words = [sys.executable, "-m", "tcja_gen", *map(str, command)]
    return subprocess.run(words, cwd=folder, capture_output=True, encoding="utf-8", env={**os.environ}, timeout=300)


@pytest.fixture(scope="module")
def work(tmp_path_factory) -> Path:
    """A folder with a copy of the example, my_parts.py, and a run that was trained with it from the shell."""
    folder = tmp_path_factory.mktemp("plugins")
    shutil.copy(EXAMPLE, folder)
    done = shell(["train", "--plugin", "my_parts.py", "--out", "run", *flags(SETTINGS)], folder)
    assert done.returncode == 0, done.stderr
    return folder


@pytest.fixture
def place(work, tmp_path, monkeypatch) -> Path:
    """Its copy, as the working directory."""
    shutil.copytree(work, tmp_path / "place")
    monkeypatch.chdir(tmp_path / "place")
    return tmp_path / "place"


def fails(capsys, *command) -> str:
    """The one line by which a command fails."""
    capsys.readouterr()
    assert main(list(map(str, command))) == 2
    told = [line for line in capsys.readouterr().err.splitlines() if line.startswith("tcja-gen: ")]
    assert len(told) == 1 and "fault of tcja_gen" not in told[0]
    return told[0]


# the example


def test_the_example_is_sampled_and_scored_from_the_shell(place, capsys):
    plugin = ["--plugin", "my_parts.py"]
    assert main(["sample", "run", "--n", "4", "--out", "made", *plugin]) == 0, capsys.readouterr().err
    assert len(list(Path("made").rglob("*.png"))) == 4
    scores = ["--metrics", "reconstruction", "--n", "8"]
    assert main(["evaluate", "run", *scores, "--out", "own.json", *plugin]) == 0
    assert main(["evaluate", "run", *scores, "--reference", "bars", "--out", "named.json", *plugin]) == 0
    own, named = (json.loads(Path(name).read_text()) for name in ("own.json", "named.json"))
    assert own["scores"] == named["scores"]
    assert main(["reconstruct", "run", "--images", "bars", "--n", "4", "--out", "made", *plugin]) == 0
    assert main(["check", "bars", *plugin]) == 0
    assert main(["train", "--resume", "run", *plugin]) == 0


def test_list_names_the_parts_of_a_plugin(capsys):
    assert main(["list", f"--plugin={EXAMPLE}"]) == 0
    told = capsys.readouterr().out
    for name in ("bars", "RATE", "independent", "eager", "ramp", "surface", "my_parts.py"):
        assert name in told


@pytest.fixture
def clips(tmp_path, monkeypatch):
    """A folder of recordings in two classes, and a cache of its own."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    for label in "ab":
        for i in range(12):
            film = moving(np.roll(np.eye(8), i + 4 * (label == "b"), 0), frames=5, reach=2)
            write_events(tmp_path / "clips" / label / f"{i}.npz", record(film))
    return tmp_path / "clips"


def test_frames_of_a_plugin_are_learned_and_predicted_and_missed_without_it(clips, tmp_path, capsys):
    plugin = ["--plugin", str(EXAMPLE)]
    model = {"time_steps": 3, "encoder": "4C3s2-TCJA", "head": "2L", "image_size": 12, "image_channels": 2}
    settings = TINY | {
        "task": "classify",
        "data": clips,
        "events_by": "surface",
        "out": tmp_path / "run",
        "model": model,
    }
    assert main(["train", *plugin, *flags(settings)]) == 0
    assert main(["predict", str(tmp_path / "run"), str(clips / "a/3.npz"), *plugin]) == 0
    assert main(["show", str(clips), *plugin, "--events-by", "surface", "--out", str(tmp_path / "pictures")]) == 0
    film = load_events(clips, "all", time_steps=3, by="surface", size=12).frames
    assert film.max() == 255 and (film[:, 2] > 0).sum() > (film[:, 0] > 0).sum()  # what was seen fades, and stays
    registry.FRAMES._parts.pop("surface")  # another shell, which has not run the plugin
    assert main(["predict", str(tmp_path / "run"), str(clips / "a/3.npz")]) == 2
    assert "take number or time; --plugin FILE adds others" in capsys.readouterr().err


def test_frames_of_a_changed_plugin_are_made_anew_and_wrong_ones_are_told(clips, tmp_path):
    def frames(expression):
        (tmp_path / "p.py").write_text(
            "import numpy as np\nimport tcja_gen as tg\n\n\n@tg.register_frames('mine')\n"
            f"def mine(events, time_steps, size):\n    return {expression}\n"
        )
        tg.load_plugin(tmp_path / "p.py")
        return load_events(clips, time_steps=2, by="mine", size=12).frames

    assert (frames("np.ones((time_steps, 2, *size), int)") == 1).all()
    assert (frames("np.full((time_steps, 2, *size), 7)") == 7).all()
    ones = "np.ones((time_steps, 2, *size), int)"
    for wrong in (f"{ones} / 2", f"{ones}[0]", f"-{ones}"):
        with pytest.raises(ValueError, match="frames 'mine' are .* wanted integers .* from 0 on"):
            frames(wrong)


def test_help_tells_the_settings_of_a_plugins_latent(capsys):
    with pytest.raises(SystemExit):
        main(["train", "--plugin", str(EXAMPLE), "--model.latent.kind", "independent", "--help"])
    told = " ".join(capsys.readouterr().out.split())
    assert "--model.latent.flips" in told and "Share of the bits that are flipped" in told


def test_the_example_is_trained_and_scored_from_python(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(EXAMPLE.parent)
    monkeypatch.delitem(sys.modules, "my_parts", raising=False)
    import my_parts

    run = tg.train(**SETTINGS, out=str(tmp_path / "run"), quiet=True)
    model = tg.load(run.folder)
    assert isinstance(model.latent, my_parts.IndependentLatent) and model.sample(range(3)).shape == (3, 1, 16, 16)
    record = tg.evaluate(model, "bars", metrics=["reconstruction"], n=8)
    assert np.isfinite(record["scores"]["reconstruction"])


def test_a_classifier_of_a_registered_set_is_trained_scored_and_asked(tmp_path, capsys):
    command = ["--plugin", str(EXAMPLE)]
    network = flags({**TINY, "data": "bars", "model": {"time_steps": 2, "encoder": "4C3s2-4C3s2"}})
    assert main(["train", "--task", "classify", "--out", str(tmp_path / "run"), *network, *command]) == 0
    assert main(["evaluate", str(tmp_path / "run"), "--metrics", "accuracy", *command]) == 0
    assert tg.load(tmp_path / "run").head.classes == 2


def test_every_part_of_the_example_is_under_30_lines():
    text = EXAMPLE.read_text(encoding="utf-8")
    parts = [node for node in ast.parse(text).body if isinstance(node, ast.ClassDef | ast.FunctionDef)]
    assert len(parts) == 7  # the latent's settings, too
    assert all(part.end_lineno - part.decorator_list[0].lineno + 1 < 30 for part in parts)


# data sets


def registered(function):
    return tg.register_dataset("own")(function)


def test_a_registered_set_is_resized_and_split_as_a_folder_is():
    pixels = np.random.default_rng(0).integers(0, 256, (60, 12, 16, 3), np.uint8)
    registered(lambda split, root: pixels.transpose(0, 3, 1, 2) if split == "train" else None)
    parts = {split: load_images("own", split, size=8, channels=1) for split in ("train", "validation", "test")}
    assert [len(part) for part in parts.values()] == [46, 4, 10] and parts["train"].images.shape[1:] == (1, 8, 8)
    assert len(load_images("own", "all", size=8)) == 60
    with pytest.raises(ValueError, match="12 x 16: model.image_size"):
        load_images("own")


def test_a_registered_set_keeps_its_own_splits_and_labels():
    def own(split, root):
        seed = ("train", "validation", "test").index(split)
        return np.full((3, 8, 8), seed, np.uint8), [seed] * 3

    registered(own)
    assert [int(load_images("own", split).labels[0]) for split in ("train", "validation", "test")] == [0, 1, 2]
    assert load_images("own", "train+validation").images.flatten(1)[:, 0].tolist() == [0, 0, 0, 1, 1, 1]


def test_a_registered_set_is_given_the_folder_of_the_data(tmp_path):
    np.save(tmp_path / "own.npy", np.zeros((9, 8, 8), np.uint8))
    registered(lambda split, root: np.load(root / "own.npy") if split == "train" else None)
    assert len(load_images("own", "all", root=tmp_path)) == 9


def test_arrays_from_python_are_resized_by_the_same_rules(tmp_path):
    images = torch.rand(40, 1, 12, 12)
    run = tg.train(data=images, out=str(tmp_path / "run"), model={"image_size": 8, "encoder": "4C3s2"}, **TINY)
    assert tg.load(run.folder).image_size == 8


@pytest.mark.parametrize(
    ("function", "told"),
    [
        (lambda split, root: "images", "split 'train': data is a str; an ImageSet"),
        (lambda split, root: None, "split 'train': data is a NoneType"),
        (lambda split, root: np.zeros((4, 8), np.uint8), r"split 'train': images have the shape (4, 8)"),
        (lambda split, root: np.zeros((4, 8, 8), np.int64), "split 'train': images are torch.int64"),
        (lambda split, root: np.zeros((4, 2, 8, 8), np.uint8) if split == "train" else None, "2 channels"),
        (lambda split, root: ([[0], [1, 2]], [0, 1]), "images are a list that is no array"),
        (lambda split, root: (np.zeros((4, 8, 8), np.uint8), [0, 1]), "4 images but labels (2,)"),
        (lambda split, root: np.zeros((4, 8, 8), np.uint8), "the same images for train and validation"),
        (lambda split, root: np.zeros((4, len(split), 8, 8), np.uint8), "differ in their shape"),
        (lambda split, root: 1 / 0, "test_plugins.py, line "),
    ],
)
def test_a_set_that_gives_no_images_is_told_in_one_line(function, told, capsys):
    registered(function)
    assert told in fails(capsys, "train", "--data", "own")


def test_check_tells_what_is_wrong_with_a_registered_set(capsys):
    registered(lambda split, root: np.zeros((4, 8), np.uint8))
    with pytest.raises(SystemExit, match="1"):
        main(["check", "own"])
    assert "own: split 'train': images have the shape (4, 8)" in capsys.readouterr().out


def test_an_unknown_set_is_told_with_the_registered_ones(capsys):
    registered(lambda split, root: None)
    for command in (["train", "--data", "owm"], ["check", "owm"], ["reference", "owm"]):
        line = fails(capsys, *command)
        assert "unknown data set 'owm'" in line and "own" in line


# plugins that are missing, changed or broken


def written(text: str, name: str = "parts.py") -> str:
    Path(name).write_text("import torch\nimport tcja_gen as tg\nfrom tcja_gen.nn import Gate\n" + text, "utf-8")
    return name


@pytest.mark.parametrize("command", [["sample", "run"], ["evaluate", "run"], ["train", "--resume", "run"]])
def test_a_run_without_its_plugin_names_the_file(place, capsys, command):
    line = fails(capsys, *command)
    assert "my_parts.py" in line and "--plugin" in line


def test_a_model_names_the_part_that_is_missing(place):
    with pytest.raises(ValueError, match="'independent'.* my_parts.py.*tg.load_plugin"):
        tg.load("run")


def test_a_run_on_a_plugins_set_alone_names_its_file(place, capsys):
    with_plugin = ["train", "--plugin", "my_parts.py", "--out", "plain", *flags(TINY | {"data": "bars"})]
    assert main([*with_plugin, "--model.encoder", "4C3s2-4C3s2"]) == 0
    for each in registry.REGISTRIES:
        for name in each.from_plugins():
            del each._parts[name], each._sources[name]
    assert main(["sample", "plain", "--n", "1"]) == 0  # which needs no data
    assert "'bars', the data set of this run, is one of my_parts.py" in fails(capsys, "evaluate", "plain")


def test_a_changed_plugin_is_told_and_the_model_loads(place, capsys):
    Path("my_parts.py").write_text(Path("my_parts.py").read_text("utf-8") + "\n# changed\n", "utf-8")
    for command in (["sample", "run", "--n", "1"], ["train", "--resume", "run"]):
        capsys.readouterr()
        assert main([*command, "--plugin", "my_parts.py"]) == 0
        notes = [line for line in capsys.readouterr().err.splitlines() if line.startswith("note: ")]
        assert len(notes) == 1 and "my_parts.py is another version" in notes[0]


def test_a_plugins_set_that_has_changed_is_not_scored_in_silence(place, capsys):
    Path("my_parts.py").write_text(Path("my_parts.py").read_text("utf-8").replace("0.7", "0.6"), "utf-8")
    assert "not the samples" in fails(capsys, "evaluate", "run", "--plugin", "my_parts.py")
    assert "not those that" in fails(capsys, "train", "--resume", "run", "--plugin", "my_parts.py")


def test_a_checkpoint_names_the_plugins_that_it_uses_and_no_others(place):
    Path("others.py").write_text("import tcja_gen as tg\n@tg.register_readout('other')\ndef f(t): ...\n", "utf-8")
    tg.load_plugin("my_parts.py"), tg.load_plugin("others.py")
    used = tg.train(**SETTINGS, out="again", quiet=True)
    assert [*tg.load(used.folder).provenance["plugins"]] == ["my_parts.py"]
    unused = tg.train(out="plain", quiet=True, model={"encoder": "4C3s2"}, **TINY)
    assert "plugins" not in tg.load(unused.folder).provenance


def test_a_plugin_that_is_not_there_or_fails_is_one_line(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert "nowhere.py: no such plugin" in fails(capsys, "list", "--plugin", "nowhere.py")
    assert "--plugin wants a Python file" in fails(capsys, "list", "--plugin")
    Path("parts.txt").touch()
    assert "a plugin is a Python file" in fails(capsys, "list", "--plugin", "parts.txt")
    assert "parts.py: this plugin fails: ZeroDivisionError" in fails(capsys, "list", "--plugin", written("1 / 0"))
    assert "parts.py: this plugin fails: SystemExit: 0" in fails(capsys, "list", "--plugin", written("exit(0)"))
    assert "parts.py: this plugin fails: SyntaxError" in fails(capsys, "list", "--plugin", written("def"))


def test_a_name_that_is_taken_is_told_with_both_files(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    text = "@tg.register_{}({!r})\ndef part(*arguments): ...\n"
    for kind, name in (("readout", "mean"), ("dataset", "mnist"), ("dataset", "n-mnist"), ("neuron", "tcja")):
        line = fails(capsys, "list", "--plugin", written(text.format(kind, name)))
        assert f"parts.py: {'data set' if kind == 'dataset' else kind} {name!r} is registered already, by " in line
    one, other = (written(text.format("readout", "mine"), name) for name in ("one.py", "other.py"))
    assert "other.py: readout 'mine'" in fails(capsys, "list", "--plugin", one, "--plugin", other)
    assert main(["list", "--plugin", one, "--plugin", one]) == 0


ATTENTION = """
@tg.register_attention("MINE")
class Mine(torch.nn.Module):
    def __init__(self, time_steps, channels):
        super().__init__()

    def forward(self, x):
        return x.mean(0)
"""
GATE = """
@tg.register_attention("MINE")
class Mine(Gate):
    def scores(self, z):
        return z.mean(0)
"""
READOUT = """
@tg.register_readout("mine")
def mine(time_steps):
    return torch.ones(time_steps + 1)
"""
NEURON = """
@tg.register_neuron("mine")
def mine():
    "Forgets to return something."
"""
NOTHING = """
@tg.register_attention("MINE")
def mine(time_steps, channels):
    "Forgets to return something."
"""
LATENT_TEXT = """
from dataclasses import dataclass

@dataclass(frozen=True)
class Settings(tg.LatentSettings):
    rate: float = 0.5

@tg.register_latent("mine", Settings)
class Mine(tg.Latent):
    def __init__(self, settings, context):
        super().__init__(settings, context)
        self.entry, self.speed = self.linear_entry(context), settings.speed

    encode = infer = sample = lambda self, *arguments: None
"""


@pytest.mark.parametrize(
    ("text", "use", "told"),
    [
        (
            ATTENTION,
            {"encoder": "4C3s2-MINE"},
            "attention Mine gives (8, 4, 4, 4) for (4, 8, 4, 4, 4); wanted the same",
        ),
        (GATE, {"encoder": "4C3s2-MINE"}, "attention Mine gives scores (8, 4) for (4, 8, 4); wanted the same shape"),
        (READOUT, {"readout": "mine"}, "readout 'mine' gives weights of shape (5,), wanted (4,)"),
        (READOUT.replace("torch.ones(time_steps + 1)", "'x'"), {"readout": "mine"}, "readout 'mine' gives a str"),
        (
            READOUT.replace("ones(time_steps + 1)", "full((time_steps,), torch.inf)"),
            {"readout": "mine"},
            "not all finite",
        ),
        (NEURON, {"neuron": "mine"}, "neuron 'mine': its function gives a NoneType"),
        (NOTHING, {"encoder": "4C3s2-MINE"}, "attention 'MINE': it gives a NoneType; a module is wanted"),
        (LATENT_TEXT, {"latent": {"kind": "mine"}}, "AttributeError: 'Settings' object has no attribute 'speed'"),
        (LATENT_TEXT.replace("sample = ", ""), {}, "latent 'mine': Mine lacks sample of nn.Latent"),
        (
            LATENT_TEXT.replace("(tg.LatentSettings)", ""),
            {},
            "Settings lacks channels and divergence_weight; derive it",
        ),
        (LATENT_TEXT.replace("@dataclass(frozen=True)", ""), {}, "Settings is not a dataclass"),
        (
            LATENT_TEXT.replace("tg.Latent)", "torch.nn.Module)"),
            {"latent": {"kind": "mine"}},
            "not derived from nn.Latent",
        ),
        (
            ATTENTION.replace("time_steps, channels", "channels"),
            {},
            "attention 'MINE' is called with (time_steps, chan",
        ),
        (NEURON.replace("mine()", "mine(x)"), {}, "neuron 'mine' is called with (): missing a required argument: 'x'"),
        (ATTENTION.replace("MINE", "MP2"), {}, "letters and digits only"),
    ],
)
def test_a_mistake_in_a_part_is_told_in_one_line(text, use, told, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    settings = TINY | {"model": {"encoder": "4C3s2"} | use}
    assert told in fails(capsys, "train", "--plugin", written(text), *flags(settings))


def test_a_fault_inside_of_a_plugin_is_told_with_its_line(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    plugin = written(ATTENTION.replace("x.mean(0)", "x.meen(0)"))
    line = fails(capsys, "train", "--plugin", plugin, *flags(TINY), "--model.encoder", "4C3s2-MINE")
    assert "parts.py, line 11: AttributeError" in line


def test_a_part_that_is_wrapped_is_of_the_file_that_wrote_it(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    text = "import functools\ndef quick(tau): return tg.Neuron(tau=tau)\n"
    text += "tg.register_neuron('quick')(functools.partial(quick, 1.5))\n"
    tg.load_plugin(written(text))
    assert [Path(name).name for name in registry.plugins({"model": {"neuron": "quick"}})] == ["parts.py"]


def test_a_part_of_a_notebook_may_be_written_again():
    code = "@tg.register_readout('cell')\ndef cell(time_steps): ...\n"
    for cell in ("<ipython-input-1>", "<ipython-input-2>"):
        exec(compile(code, cell, "exec"), {"tg": tg})
    assert registry.plugins() == {"a notebook": ""}


def test_a_stage_that_keeps_the_encoder_keeps_weights_that_a_latent_has_of_its_own(tmp_path):
    @tg.register_latent("scaled", tg.LatentSettings)
    class Scaled(tg.Latent):
        def __init__(self, settings, context):
            super().__init__(settings, context)
            self.entry, self.prior = self.linear_entry(context), torch.nn.Linear(self.channels, self.channels)
            self.gain = torch.nn.Parameter(torch.ones(self.channels))

        def encode(self, features, draws):
            return self.gain * features

        def infer(self, features, draws, progress=1.0, y=None):
            z = self.encode(features, draws)
            return z, (z.mean(0) - self.prior(draws.normal(self.channels))).square().mean()

        def sample(self, draws, y=None):
            return (self.prior(draws.normal(self.channels)) > 0).float().expand(self.time_steps, -1, -1)

    model = {"time_steps": 2, "encoder": "4C3s2-4C3s2", "latent": {"kind": "scaled", "channels": 4}}
    stages = [{"name": fit, "fit": fit, "lr": 0.1} for fit in ("autoencoder", "decoder", "prior")]
    tg.train(out=tmp_path / "run", quiet=True, model=model, stages=stages, warmup=0, **TINY)
    first, *later = (tg.load(folder).latent.gain for folder in sorted((tmp_path / "run").glob("stage-*")))
    assert not torch.equal(first, torch.ones(4)) and all(torch.equal(gain, first) for gain in later)
