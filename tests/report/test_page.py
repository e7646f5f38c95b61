"""The report of a run as one HTML file."""

import base64
import io
import re
import shutil
import sys
from html.parser import HTMLParser
from pathlib import Path

import pytest
import torch
from PIL import Image

import tcja_gen as tg
from tcja_gen.cli import main
from tcja_gen.models import store
from tcja_gen.nn import Neuron
from tcja_gen.report import comparison, figures, history, latents, spikes, write_page
from tcja_gen.report.nearest import nearest
from tcja_gen.report.subject import Subject
from tcja_gen.sharing.card import card
from tcja_gen.training import recipes, runs

VOID = {"meta", "img", "br", "link", "hr", "input"}
SETTINGS = {"batch": 16, "compile": "off", "device": "cpu", "quiet": True, "log_every": 2, "data": "digits"}
CODES = {"kind": "codes", "channels": 2, "rounds": 2, "prior": "4C3"}
STAGES = [{"name": "autoencoder", "steps": 4, "fit": "autoencoder"}, {"name": "prior", "steps": 4, "fit": "prior"}]
MODEL = {"encoder": "4C3s2-TCJA-4C3-TCJA", "latent": CODES, "time_steps": 2}


class Page(HTMLParser):
    """What a browser would find in a page. AssertionError if its elements are not closed as they were opened."""

    def __init__(self, path: Path):
        super().__init__()
        self.open, self.attributes, self.titles, self.words, self.content = [], [], [], [], path.read_text("utf-8")
        self.feed(self.content)
        self.close()
        assert self.open == [] and len(self.content) < 2e6

    def handle_starttag(self, tag, attributes):
        self.attributes += [(tag, *attribute) for attribute in attributes]
        self.open += [] if tag in VOID else [tag]

    def handle_startendtag(self, tag, attributes):
        self.attributes += [(tag, *attribute) for attribute in attributes]

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.words.append(data)
        if self.open and self.open[-1] == "h2":
            self.titles.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())

    def check(self) -> int:
        """That nothing is loaded from elsewhere, that identifiers are unique, that every picture can be seen. Returns
        the number of pictures."""
        sources = [value for tag, name, value in self.attributes if name in ("src", "href", "xlink:href", "srcset")]
        assert all(value.startswith(("data:image/", "#")) for value in sources)
        assert "url(http" not in self.content and "@import" not in self.content and "<script" not in self.content
        names = [value for _, name, value in self.attributes if name == "id"]
        wanted = {value[1:] for value in sources if value[0] == "#"} | set(re.findall(r"url\(#([^)]+)\)", self.content))
        assert len(names) == len(set(names)) and wanted <= {*names}
        pictures = [value.partition("base64,")[2] for value in sources if value[0] != "#"]
        for picture in pictures:
            Image.open(io.BytesIO(base64.b64decode(picture))).load()
        assert all(value for tag, name, value in self.attributes if name == "alt")
        return len(pictures)


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("runs") / "<b> & c"
    tg.train(out=str(out), model=MODEL, stages=STAGES, sample_every=2, **SETTINGS)
    assert main(["evaluate", str(out), "--metrics", "reconstruction", "--n", "32"]) == 0
    return out


@pytest.fixture(scope="module")
def classifier(tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("runs") / "classifier"
    tg.train(task="classify", out=str(out), model={"encoder": "4C3-TCJA-MP2", "time_steps": 2}, steps=4, **SETTINGS)
    assert main(["evaluate", str(out)]) == 0
    return out


def test_a_report_of_a_generator_has_it_all_and_needs_no_other_file(run, tmp_path, capsys):
    assert main(["show", str(run), "--html", str(tmp_path / "a.html")]) == 0
    page = Page(tmp_path / "a.html")
    assert page.check() > 20
    wanted = ["At a glance", "Samples", "How it was trained", "Curves", "Over the steps", "Film", "Reconstructions"]
    wanted += ["Nearest training images", "Scores", "Use of the latent", "Attention gates", "Spikes and membranes"]
    assert page.titles == [*wanted, "Firing rates", "Energy", "Environment", "Make it again"]
    assert "Not shown" not in page.text and "<b> & c" in page.text
    for fact in ("silent neuron", "µJ of the ANN twin", "config.toml", "tokens occur", "Stage prior", "reconstruction"):
        assert fact in page.text
    assert "currentColor" in page.content and "prefers-color-scheme: dark" in page.content


def test_a_report_of_a_classifier_leaves_out_what_has_no_meaning(classifier, tmp_path):
    page = Page(write_page([classifier], tmp_path / "a.html"))
    page.check()
    assert not {"Samples", "Film", "Reconstructions", "Use of the latent", "Nearest training images"} & {*page.titles}
    assert {"Scores", "Attention gates", "Energy"} <= {*page.titles} and "by class" in page.text


def test_a_report_of_an_ann_has_no_spikes(tmp_path):
    model = {"encoder": "4C3s2", "latent": {"kind": "gaussian", "channels": 4}, "neuron": "relu", "time_steps": 1}
    run = tg.train(out=str(tmp_path / "r"), model=model, steps=2, **SETTINGS)
    page = Page(write_page([run.folder], tmp_path / "a.html"))
    page.check()
    assert not {"Spikes and membranes", "Firing rates", "Film", "Attention gates"} & {*page.titles}
    assert "numbers tell images apart" in page.text


def test_what_is_missing_is_told_with_what_to_do(run, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "spikingjelly", None)
    weights = store.find(run)
    shutil.copy(weights, tmp_path / "weights.safetensors")
    page = Page(write_page([tmp_path / "weights.safetensors"], tmp_path / "a.html"))
    page.check()
    assert 'pip install "tcja_gen[spikingjelly]"' in page.text and "tcja-gen evaluate" in page.text
    assert "keeps the settings of its model, but not those of its training" in page.text
    first = Page(write_page([run / "stage-1-autoencoder"], tmp_path / "b.html"))
    assert "this model's prior was never trained" in first.text and "Reconstructions" in first.titles


def test_data_that_are_gone_leave_a_report_of_the_rest(tmp_path):
    data = tmp_path / "data"
    data.mkdir()
    for i in range(64):
        Image.new("L", (8, 8), i).save(data / f"{i}.png")
    settings = {**SETTINGS, "data": str(data), "steps": 2, "out": str(tmp_path / "r")}
    folder = tg.train(model=MODEL | {"latent": {"channels": 4, "k": 2}}, **settings).folder
    shutil.rmtree(data)
    page = Page(write_page([folder], tmp_path / "a.html"))
    page.check()
    assert "are not there: name them where they are" in page.text and "since the data are not at hand" in page.text


def test_a_pretrained_model_has_a_report_with_its_card(tmp_path):
    page = Page(write_page(["digits"], tmp_path / "a.html"))
    page.check()
    assert "tcja-gen sample digits --n 64 --grid" in page.text and "scikit-learn" in page.text


def test_a_comparison_shows_differences_samples_and_scores_that_can_be_compared(run, classifier, tmp_path, capsys):
    other = tmp_path / "other"
    stages = [{**STAGES[0], "lr": 0.005}, STAGES[1]]
    tg.train(out=str(other), model=MODEL, stages=stages, **SETTINGS)
    assert main(["evaluate", str(other), "--metrics", "reconstruction", "--n", "32"]) == 0
    assert main(["evaluate", str(other), "--metrics", "reconstruction,psnr", "--n", "16"]) == 0
    capsys.readouterr()
    assert main(["show", str(run), str(other)]) == 0
    told = " ".join(capsys.readouterr().out.split())
    assert "autoencoder.lr 0.002 0.005" in told and "psnr: only" in told and "batch" not in told
    assert main(["show", str(run), str(other), str(classifier), "--html", str(tmp_path / "a.html")]) == 0
    page = Page(tmp_path / "a.html")
    assert page.check() == 2
    assert page.titles == ["At a glance", "Settings that differ", "Curves", "Samples of the same seeds", "Scores"]
    assert "classifier: no samples" in page.text and "autoencoder.lr" in page.text


def test_scores_shown_are_those_of_the_weights_and_of_their_own_sampling_first(run, tmp_path, capsys):
    run, other = (shutil.copytree(run, tmp_path / name) for name in ("one", "other"))
    words = ["--metrics", "precision-autoencoder", "--n", "32"]
    for one in (run, other):
        assert main(["evaluate", str(one), "--rounds", "1", *words]) == 0
    assert main(["evaluate", str(other / "stage-1-autoencoder"), "--metrics", "psnr", "--n", "32"]) == 0
    old = next(other.glob("stage-2-prior/scores/step-000004"))
    shutil.copytree(old, old.with_name("step-000002"))
    for one in (run, other):  # the name of its file sorts behind that of the first
        assert main(["evaluate", str(one), *words]) == 0
    capsys.readouterr()
    assert main(["show", str(run), str(other)]) == 0
    told = " ".join(capsys.readouterr().out.split())
    assert "rounds 1" not in told and "psnr" not in told
    places = "stage-1-autoencoder/scores/step-000004, stage-2-prior/scores/step-000002"
    left = f"{other}: scores of other checkpoints are left out: {places}"
    assert left in told
    for record in run.glob("stage-2-prior/scores/step-000004/precision*.json"):
        if '"rounds": 2' in record.read_text():
            record.unlink()
    assert main(["show", str(run), str(other)]) == 0
    assert f"precision-autoencoder ({run}: rounds 1) " in capsys.readouterr().out
    page = Page(write_page([other], tmp_path / "a.html"))
    assert "rounds 1" in page.text and left in page.text
    table = card(Subject(other), "someone/something")
    assert table.count("| precision-autoencoder |") == 2 and "psnr" not in table
    assert re.search(r"precision-autoencoder .* \| rounds 1 \|", table)
    assert main(["show", str(other)]) == 0
    assert "(sampled by rounds 1)" in capsys.readouterr().out


def test_a_damaged_log_is_shown_without_what_is_damaged(run, tmp_path):
    copy = shutil.copytree(run, tmp_path / "copy")
    log = copy / "stage-2-prior" / "stats.jsonl"
    lines = log.read_bytes().splitlines(keepends=True)
    log.write_bytes(b"".join([lines[0], b"\0" * 64 + b"}\n", b'{"a": 1}\n', b"\xff}\n", *lines[1:], b'{"step": 1']))
    assert len(runs.statistics(log.parent)) == len(lines)
    log.write_bytes(log.read_bytes() + b'\n{"step": 5, "loss": null, "images_per_second": null}\n{"step": "x"}\n')
    (copy / "stage-2-prior" / "environment.json").write_text('{"command": 3, "data": [], "python": "3"}', "utf-8")
    (copy / "environment.json").write_text("[]", "utf-8")
    assert runs.environment_of(copy) == {"python": "3"}
    assert main(["show", str(copy), "--out", str(tmp_path / "out")]) == 0
    assert main(["show", str(run), str(copy), "--html", str(tmp_path / "a.html")]) == 0


def test_a_dollar_in_a_name_is_no_mathematics(run, tmp_path):
    data, copy = tmp_path / "$a_{$", shutil.copytree(run, tmp_path / "$_{run$")
    for label in ("$x^$", "y$_{"):
        for i in range(24):
            (data / label).mkdir(parents=True, exist_ok=True)
            Image.new("L", (8, 8), 5 * i).save(data / label / f"{i}.png")
    settings = {**SETTINGS, "data": str(data), "steps": 2, "out": str(tmp_path / "r")}
    tg.train(task="classify", model={"encoder": "4C3-TCJA-MP2", "time_steps": 2}, **settings)
    assert main(["evaluate", str(tmp_path / "r")]) == 0
    assert main(["show", str(tmp_path / "r"), "--out", str(tmp_path / "figures")]) == 0
    Page(write_page([tmp_path / "r"], tmp_path / "a.html")).check()
    Page(write_page([run, copy], tmp_path / "b.html")).check()


def test_a_run_on_images_of_python_is_made_again_in_python(tmp_path):
    folder = tg.train(out=str(tmp_path / "r"), **SETTINGS | {"steps": 2, "data": torch.rand(32, 1, 8, 8)})
    page = Page(write_page([folder.folder], tmp_path / "a.html"))
    assert "data=DATA" in page.text and "tcja-gen train" not in page.text


def test_scores_of_unlike_protocols_are_refused_with_the_reason(run, tmp_path, capsys):
    other = shutil.copytree(run, tmp_path / "other")
    for file in other.rglob("scores/*/*.json"):
        file.write_text(file.read_text("utf-8").replace('"n": 32', '"n": 31'), "utf-8")
    assert main(["show", str(run), str(other)]) == 0
    assert "are not comparable: n 32 and 31" in capsys.readouterr().out


@pytest.mark.parametrize("kind", ["generator", "classifier"])
@pytest.mark.parametrize("neuron", ["tcja", "tet", "fsvae"])
@pytest.mark.parametrize("encoder", ["4C3s2-4R3-TCJA", "4C3s2-TCJAC-4C3-TCJAC-4C3-TCJA"])
def test_the_membranes_fire_where_the_kernels_spiked(encoder, kind, neuron, tmp_path):
    model = {"encoder": encoder, "time_steps": 4, "neuron": neuron}
    model |= {"head": "8FC-10L"} if kind == "classifier" else {"latent": CODES, "decoder": "4C3-4R3-4T4s2-TCJA"}
    settings = {**SETTINGS, "task": "classify" if kind == "classifier" else "generate", "steps": 2}
    subject = Subject(tg.train(out=str(tmp_path / "r"), model=model, **settings).folder)
    found = spikes.traces(subject.model, subject.use, subject.shown[0])
    assert len(found) >= 4 and all(trace.neuron == Neuron.preset(neuron) for trace in found)
    for trace in found:
        v, fired = trace.membranes, trace.spikes.bool()
        near = (v - trace.neuron.v_threshold).abs() < 1e-5  # where rounding decides
        assert torch.equal((v > trace.neuron.v_threshold)[~near], fired[~near]) and near.float().mean() < 0.01


def test_runs_of_one_name_and_a_hidden_one_have_a_curve_each():
    assert comparison._labels(["a/seed-0", "b/seed-0", "_c"]) == ["\u200ba/seed-0", "\u200bb/seed-0", "\u200b_c"]
    assert comparison._labels(["runs/a", "runs/a"]) == ["\u200ba"] * 2


def test_the_recipe_is_found_in_a_command_of_any_words(tmp_path):
    mine = tmp_path / "my recipe.toml"
    mine.write_text('task = "classify"\nsteps = 3\n')
    config = recipes.change(recipes.load("digits"), {"model": {"latent": {"conditional": True}}})
    for flags in ("", "--download", "--lr=0.1", "--objective.no-perceptual", "--model.latent.conditional", "--lr 0.1"):
        found = history._recipes_in(f"tcja-gen train {flags} '{mine}' --init-from mnist --data mnist", config)
        assert [word for word in found if history._loaded(word)] == [str(mine)]
    config = recipes.change(recipes.load("digits"), {"task": "classify"})
    assert "classify/digits" in history._alike(config, history.shipped())
    assert not history._alike(config, ["digits"])


def test_settings_are_told_that_differ_from_the_recipe_and_no_others():
    recipe = recipes.load("mnist")
    stages = {"decoder": {"lr": 1e-3, "objective": {"perceptual": {"weight": 0.25}}}}
    config = recipes.change(recipe, {"seed": 3, "log_every": 7, "data_root": "elsewhere", "stage": stages})
    differ = {name: values for name, *values in history.setting_differences(recipe, config)}
    assert differ == {
        "seed": ["0", "3"],
        "decoder.lr": ["0.0005", "0.001"],
        "decoder.objective.perceptual.weight": ["0.5", "0.25"],
    }


def test_bits_and_tokens_are_counted():
    z = torch.tensor([[[0, 1, 1, 0]], [[0, 1, 0, 1]]])  # (N, T, L)
    use = latents.BitUse.of(z)
    assert use.constant == 2 and use.entropy == pytest.approx(0.5)
    tokens = latents.TokenUse(torch.tensor([2, 2]), 4)
    assert tokens.perplexity == pytest.approx(2)


def test_a_number_that_only_noise_moves_is_not_active():
    draw = torch.Generator().manual_seed(0)
    mean = torch.randn(500, 1, 1, generator=draw) * torch.tensor([1.0, 0.0])
    first, second = (mean + torch.randn(500, 1, 2, generator=draw) * 0.1 for _ in range(2))
    assert latents.active_units(first, second) == (1, 2)


def test_a_copy_is_its_own_nearest_image():
    training = torch.randint(0, 256, (40, 1, 4, 4), dtype=torch.uint8)
    index, distance = nearest(training[[7, 3]].float() / 255, training)
    assert index.tolist() == [7, 3] and distance.max() < 1e-3


def test_figures_are_wrapped_and_have_no_empty_panel(tmp_path):
    settings = {**SETTINGS, "log_every": 50, "steps": 2, "out": str(tmp_path / "r")}
    model = {"encoder": "4C3-TCJA-4C3-TCJA-4C3s2-TCJA", "time_steps": 2, "latent": {"channels": 4, "k": 2}}
    files = {file.name: Image.open(file) for file in figures(tg.train(model=model, **settings).folder, tmp_path)}
    assert files["gates.png"].width <= 4 * 480 and files["gates.png"].height == 2 * 360  # six gates
    assert files["gates.png"].text["model"] and files["curves.png"].text["command"]
    records = [{"step": 2, "validation_loss": 1.0, "validation_reconstruction": 1.0}]
    assert [*history_of(records)] == ["reconstruction"]


def history_of(records):
    from tcja_gen.report.figures import curves

    return curves(records)


def test_flags_that_a_page_cannot_use_are_refused(run, tmp_path, capsys):
    for flags in (["--html", str(tmp_path)], ["--html", "a.html", "--energy"], [str(run), "--out", "b"]):
        assert main(["show", str(run), *flags]) == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 3 and "a folder; name a file in it" in lines[0] and "leave them out" in lines[1]
