"""The results book: an experiment from its first step to the table, as a user runs it."""

import contextlib
import io
import json
import runpy
import shutil
import sys
import tomllib
from functools import cache
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

pytestmark = pytest.mark.usefixtures("quick_networks")
EXPERIMENTS = Path(__file__).parent.parent.parent / "experiments"
COMMON = """
data = "digits"
batch = 8
warmup = 0
log_every = 1
compile = "off"
device = "cpu"
"""
RECIPE = (
    COMMON
    + """steps = 2

[model]
time_steps = 2
encoder = "4C3s2-TCJA"
latent = { channels = 8, k = 2 }
"""
)
STAGED = (
    COMMON
    + """
[model]
time_steps = 2
encoder = "4C3s2"
decoder = "4C3-4T4s2"
latent = { kind = "codes", channels = 2, prior = "4C3" }

[[stage]]
name = "autoencoder"
fit = "autoencoder"
steps = 2

[[stage]]
name = "prior"
fit = "prior"
steps = 3
"""
)
BOOK = """
[protocol.digits]
data = "digits"
n = 64
metrics = ["fid-classifier", "reconstruction"]

[experiment.tiny]
about = "two steps"
recipe = "tiny.toml"
protocol = "digits"
seeds = [0, 1]
sampling = 2
checkpoint = "kept.safetensors"
cpu = {}
gpu = { set = { steps = 3 } }

[study.word]
about = "which attention"
recipe = "tiny.toml"
protocol = "digits"
cpu = {}
rows = "attention, k"
columns = ["parameters", "fid-classifier"]

[study.word.cells]
none = { model.encoder = "4C3s2" }
"TLA, 2" = { model.encoder = "4C3s2-TLA" }
"TLA, 3" = { model.encoder = "4C3s2-TLA", model.latent.k = 3 }
"TCJA(2,1), 3" = { model.encoder = "4C3s2-TCJA(2,1)", model.latent.k = 3 }

[table.digits]
experiments = ["tiny"]
published = "digits"
columns = ["fid-classifier", "reconstruction", "seeds"]

[summary.short]
score = "fid-classifier"
rows = { "a tiny one" = "tiny" }
"""
PUBLISHED = """
[[row]]
model = "another"
data = "digits"
fid-classifier = 1.5
source = "a paper"
"""
README = "Before.\n\n<!-- table: digits -->\n<!-- end -->\n\nBetween.\n\n<!-- table: word -->\n<!-- end -->\n"
PAGE = "<!-- table: short -->\n<!-- end -->\n"


def run(folder, *arguments):
    """The command, in this process; trainings have processes of their own."""
    told, errors = io.StringIO(), io.StringIO()
    words = ["--plan", folder / "book.toml", "--out", folder / "runs", *arguments]
    with contextlib.redirect_stdout(told), contextlib.redirect_stderr(errors):
        code = command()(list(map(str, words)))
    return SimpleNamespace(returncode=code, stdout=told.getvalue(), stderr=errors.getvalue())


@cache
def command():
    sys.path.insert(0, str(EXPERIMENTS))
    return runpy.run_path(str(EXPERIMENTS / "run"))["main"]


def another(name, recipe="tiny.toml"):
    return f'[experiment.{name}]\nabout = "b"\nrecipe = "{recipe}"\nprotocol = "digits"\ncpu = {{}}\n'


def write_book(folder):
    for name, text in {"book": BOOK, "tiny": RECIPE, "staged": STAGED, "published": PUBLISHED}.items():
        (folder / f"{name}.toml").write_text(text)
    (folder / "README.md").write_text(README)
    return folder


@pytest.fixture
def book(tmp_path):
    return write_book(tmp_path)


@pytest.fixture(scope="module")
def measured(tmp_path_factory, quick_networks):
    """A book whose experiment has been run."""
    folder = write_book(tmp_path_factory.mktemp("book"))
    done = run(folder, "tiny")
    assert done.returncode == 0, done.stderr
    return folder


@pytest.fixture
def copy(measured, tmp_path):
    return shutil.copytree(measured, tmp_path / "copy")


def damage(weights):
    """Changes all weights of a file."""
    with safe_open(weights, "pt") as file:
        save_file({name: x + x.ndim for name, x in load_file(weights).items()}, weights, file.metadata())


def result(folder, name="tiny"):
    return json.loads((folder / "results" / f"{name}.json").read_text())["cpu"]


def test_a_result_has_scores_of_all_seeds_and_what_they_depend_on(measured):
    found = result(measured)
    assert found["seeds"] == [0, 1]
    score = found["scores"]["fid-classifier"]
    assert [len(sets) for sets in score["values"]] == [2, 2] and set(score["sd"]) == {"training", "sampling"}
    assert found["protocol"]["all"]["n"] == 64 and found["protocol"]["fid-classifier"]["extractor_hash"]
    assert found["asked"]["settings"]["model"]["encoder"] == "4C3s2-TCJA"
    assert found["cost"]["images"] == 16 and found["cost"]["seconds"] > 0 and found["cost"]["peak_memory_mb"] > 0
    assert found["parameters"] > 0 and found["energy"]["energy"] > 0 and found["versions"]["torch"]
    assert str(measured) not in (measured / "results" / "tiny.json").read_text()
    assert (measured / "results" / "tiny.png").stat().st_size < 20_000


def test_what_is_there_is_not_made_again(copy):
    files = [p for p in copy.rglob("*") if p.is_file()]
    before = {p: p.stat().st_mtime_ns for p in files}
    assert run(copy, "tiny").returncode == 0
    assert {p: p.stat().st_mtime_ns for p in copy.rglob("*") if p.is_file()} == before


@pytest.mark.slow
def test_a_recorded_result_is_told_and_measured_here_only_when_asked(copy):
    """Trainings at once give the same scores as one after another."""
    told = run(copy, "tiny").stdout
    assert "tiny: recorded" in told and "reconstruction 0." in told and "--again measures it here" in told
    shutil.rmtree(copy / "runs")
    before, kept = (copy / "results" / "tiny.json").read_text(), copy / "kept.safetensors"
    written = kept.stat().st_mtime_ns
    told, runs = run(copy, "tiny", "--again", "--jobs", "2"), copy / "runs" / "again"
    values = result(copy)["scores"]["reconstruction"]
    assert told.returncode == 0 and f"{values['mean']:.4g} here" in told.stdout, told.stdout + told.stderr
    assert (copy / "results" / "tiny.json").read_text() == before and not (copy / "runs" / "tiny").exists()
    assert result(runs)["scores"] == result(copy)["scores"]
    assert kept.stat().st_mtime_ns == written
    assert "step 2/2" in (runs / "tiny" / "seed-1.log").read_text()


def test_weights_that_are_kept_are_in_half_precision_and_are_what_is_scored(copy):
    kept, half = copy / "kept.safetensors", copy / "runs" / "tiny" / "seed-0" / "half.safetensors"
    assert {x.dtype for x in load_file(kept).values() if x.ndim > 1} == {torch.float16}
    before = result(copy)["scores"]["reconstruction"]["values"]
    damage(half)
    shutil.rmtree(half.parent / "scores")
    (copy / "results" / "tiny.json").unlink()
    assert run(copy, "tiny").returncode == 0 and kept.read_bytes() == half.read_bytes()
    now = result(copy)["scores"]["reconstruction"]["values"]
    assert now[0] != before[0] and now[1] == before[1]


def test_a_result_is_written_after_its_picture_so_that_an_interruption_loses_neither(copy):
    file, picture = copy / "results" / "tiny.json", copy / "results" / "tiny.png"
    file.unlink()
    picture.unlink()
    picture.mkdir()  # nothing can be written there
    assert run(copy, "tiny").returncode == 2 and not file.exists()
    picture.rmdir()
    assert run(copy, "tiny").returncode == 0 and file.exists() and picture.is_file()


def test_a_lost_result_is_told_again_from_runs_and_scores_that_are_kept(copy):
    before, runs = result(copy), copy / "runs"
    made = {p: p.stat().st_mtime_ns for p in runs.rglob("*") if p.is_file()}
    (copy / "results" / "tiny.json").unlink()
    assert run(copy, "tiny").returncode == 0
    assert result(copy) == before
    assert {p: p.stat().st_mtime_ns for p in runs.rglob("*") if p.is_file()} == made


def test_a_seed_is_added_to_a_result_whose_runs_are_elsewhere(copy):
    whole, file = result(copy), copy / "results" / "tiny.json"
    (copy / "book.toml").write_text(BOOK.replace("seeds = [0, 1]", "seeds = [0]"))
    file.unlink()
    assert run(copy, "tiny").returncode == 0
    picture = file.with_suffix(".png").stat().st_mtime_ns
    shutil.rmtree(copy / "runs" / "tiny" / "seed-0")
    (copy / "book.toml").write_text(BOOK)
    assert run(copy, "tiny").returncode == 0
    assert not (copy / "runs" / "tiny" / "seed-0").exists() and file.with_suffix(".png").stat().st_mtime_ns == picture
    added = result(copy)
    assert added.pop("added") == [{"seeds": [1], "versions": whole["versions"], "commit": whole["commit"]}]
    assert added.pop("cost").keys() == whole.pop("cost").keys() and added == whole


def test_a_seed_is_not_added_to_a_result_that_was_scored_otherwise(copy):
    file = copy / "results" / "tiny.json"
    found = result(copy)
    for score in [*found["scores"].values(), *found["validation"].values()]:
        score["values"].pop()
    found["seeds"].pop()
    found["protocol"]["fid-classifier"]["extractor_hash"] = "0" * 64
    file.write_text(json.dumps({"cpu": found}))
    shutil.rmtree(copy / "runs" / "tiny" / "seed-0")
    answer = run(copy, "tiny")
    assert answer.returncode == 2 and "extractor_hash" in answer.stderr
    shutil.rmtree(copy / "runs" / "tiny" / "seed-1")
    found["protocol"]["all"]["versions"]["torch"] = "1.0"
    file.write_text(json.dumps({"cpu": found}))
    answer = run(copy, "tiny")
    assert answer.returncode == 2 and "versions" in answer.stderr
    assert not (copy / "runs" / "tiny" / "seed-1").exists()  # told before the training


@pytest.mark.slow
def test_one_that_fails_stops_no_other_and_a_run_that_was_cut_off_is_resumed_to_the_same_scores(copy):
    before, folder = result(copy), copy / "runs" / "tiny" / "seed-0"
    shutil.rmtree(folder / "checkpoints" / "step-000002")
    shutil.rmtree(folder / "scores")
    (copy / "results" / "tiny.json").unlink()
    (copy / "bad.toml").write_text(RECIPE.replace('data = "digits"', 'data = "no-such-folder"'))
    (copy / "book.toml").write_text(another("bad", "bad.toml") + BOOK)
    assert run(copy, "bad", "tiny", "--jobs", "2").returncode == 2
    assert "no-such-folder" in (copy / "runs" / "bad" / "seed-0.log").read_text()
    assert result(copy)["scores"] == before["scores"]


def test_a_changed_setting_does_not_pass_for_the_old_run(copy):
    (copy / "tiny.toml").write_text(RECIPE.replace("k = 2", "k = 3"))
    answer = run(copy, "tiny")
    assert answer.returncode == 2 and "model.latent.k: 2 -> 3" in answer.stderr
    assert "0/2" in run(copy, "--list", "tiny").stdout


def test_check_agrees_with_the_record_and_not_with_a_damaged_one(copy):
    shutil.rmtree(copy / "runs")  # the kept weights are enough
    answer = run(copy, "tiny", "--check")
    assert answer.returncode == 0 and answer.stdout.count("agrees") == 4, answer.stdout + answer.stderr
    file = copy / "results" / "tiny.json"
    told = json.loads(file.read_text())
    told["cpu"]["scores"]["reconstruction"]["values"][0][1] *= 1.01
    file.write_text(json.dumps(told))
    answer = run(copy, "tiny", "--check")
    assert answer.returncode == 1 and answer.stdout.count("DIFFERS") == 1, answer.stdout + answer.stderr


@pytest.mark.slow
def test_the_accuracy_of_every_time_step_is_kept_and_checked(book):
    (book / "classes.toml").write_text(
        f'task = "classify"{COMMON}steps = 2\n[model]\ntime_steps = 2\nencoder = "4C3s2"\nhead = "10L"\n'
    )
    protocol = '[protocol.named]\ndata = "digits"\nmetrics = ["accuracy", "accuracy-by-step"]\n'
    written = another("classes", "classes.toml").replace('protocol = "digits"', 'protocol = "named"')
    (book / "book.toml").write_text(protocol + written)
    assert run(book, "classes").returncode == 0
    assert {"accuracy", "accuracy-by-step 1", "accuracy-by-step 2"} == {*result(book, "classes")["scores"]}
    answer = run(book, "classes", "--check")
    assert answer.returncode == 0 and answer.stdout.count("agrees") == 3, answer.stdout + answer.stderr


def test_check_tells_by_its_exit_code_what_it_could_not_compare(copy):
    (copy / "weights" / "classifiers" / "digits.safetensors").unlink()
    answer = run(copy, "tiny", "--check")
    assert answer.returncode == 3, answer.stdout + answer.stderr
    assert answer.stdout.count("that scored it was not kept: not compared") == 2 == answer.stdout.count("agrees")
    (copy / "results" / "tiny.json").unlink()
    answer = run(copy, "tiny", "--check")
    assert answer.returncode == 3 and "no result" in answer.stdout


def test_check_compares_what_it_can_where_a_file_is_missing(copy):
    file = copy / "results" / "tiny.json"
    told = json.loads(file.read_text())
    told["cpu"]["asked"]["protocol"]["autoencoder"] = "elsewhere.pth"
    told["cpu"]["scores"]["fad"] = told["cpu"]["scores"]["reconstruction"]
    file.write_text(json.dumps(told))
    answer = run(copy, "tiny", "--check")
    assert answer.returncode == 3 and answer.stdout.count("agrees") == 4, answer.stdout + answer.stderr
    assert answer.stdout.count("elsewhere.pth is not in --autoencoder-dir: not compared") == 2


def test_data_that_are_not_here_are_told_and_the_others_are_checked(copy):
    file, other = copy / "results" / "tiny.json", copy / "results" / "other.json"
    other.write_text(file.read_text().replace('"data": "digits"', '"data": "mnist"'))
    (copy / "book.toml").write_text(BOOK + '[record]\nother = "kept.safetensors"\n')
    answer = run(copy, "other", "tiny", "--check", "--data-root", copy / "nowhere")
    assert answer.returncode == 3 and answer.stdout.count("agrees") == 4
    assert "mnist wants" in answer.stdout


def test_the_book_tells_results_beside_published_figures(copy):
    (copy.parent / "README.md").write_text(PAGE)
    assert run(copy, "--book").returncode == 0
    ours = result(copy)["scores"]["fid-classifier"]["mean"]
    (row,) = (line for line in (copy.parent / "README.md").read_text().splitlines() if "a tiny one" in line)
    assert float(row.split("**")[1].split("±")[0]) == pytest.approx(ours, rel=0.1) and row.endswith("| 1.5 |")
    text = (copy / "README.md").read_text()
    assert "Before." in text and "Between." in text
    assert "`tiny`: two steps" in text and "2 × 2" in text and "| *another* | *1.5* |" in text and "a paper" in text


@pytest.mark.slow
def test_a_study_makes_a_row_a_cell_and_tells_those_that_are_done(book):
    listed = run(book, "--list", "word").stdout
    assert listed.count("0/1") == 4 and "word/TCJA(2,1), 3" in listed
    assert run(book, "word/TCJA(2,1), 3").returncode == 0
    assert result(book, "word/TCJA-2-1-3")["asked"]["settings"]["model"]["encoder"] == "4C3s2-TCJA(2,1)"
    assert run(book, "--book").returncode == 0
    text = (book / "README.md").read_text()
    assert "| attention, k |" in text and "| TCJA(2,1), 3 |" in text and "none" not in text


@pytest.mark.parametrize(
    "arguments, hint",
    [
        (["tinny"], "did you mean 'tiny'"),
        ([], "--all"),
        (["word", "--scale", "gpu"], "cpu"),
        (["tiny", "--jobs", "0"], "1"),
        (["--book", "--scale", "smoke"], "leave --scale smoke out"),
    ],
)
def test_a_mistake_is_one_line(book, arguments, hint):
    answer = run(book, *arguments)
    assert answer.returncode == 2 and hint in answer.stderr and answer.stderr.count("\n") == 1


@pytest.mark.parametrize(
    "text, hint",
    [
        ('[table.x]\ncolumns = ["fad"]', "table x: experiments is missing"),
        ("[table]\nx = 3", "table x: experiments is missing"),
        ("[summary.x]\nrows = 3", "summary x: rows is 3; dict is wanted"),
        ("[study.x]\nabout = 'a'", "study x: cells is missing"),
        ("[experiment]\nx = 3", "experiment x is 3; a table is wanted"),
        ('[experiment.x]\nabout = "a"\nrecipe = "r"\nprotocol = "p"\ncpu = 3', "x: cpu is 3; dict is wanted"),
    ],
)
def test_a_plan_that_lacks_something_is_one_line(tmp_path, text, hint):
    (tmp_path / "book.toml").write_text(text)
    answer = run(tmp_path, "--list")
    assert answer.returncode == 2 and hint in answer.stderr and answer.stderr.count("\n") == 1


@pytest.mark.slow
def test_all_stages_of_a_recipe_are_one_run_whose_cost_is_their_sum(book):
    scale = "gpu = { set = { stage.prior = { steps = 4 } } }\n"
    (book / "book.toml").write_text(BOOK + another("staged", "staged.toml") + scale)
    assert run(book, "staged").returncode == 0
    folder, found = book / "runs" / "staged" / "seed-0", result(book, "staged")
    assert [stage["steps"] for stage in found["asked"]["settings"]["stage"]] == [2, 3]
    assert found["cost"]["images"] == 8 * (2 + 3) and found["cost"]["seconds"] > 0 and found["scores"]["fid-classifier"]
    assert "1/1 runs" in run(book, "--list", "staged").stdout
    assert "0/1 runs" in run(book, "--list", "staged", "--scale", "gpu").stdout
    assert run(book, "staged", "--check").returncode == 0

    shutil.rmtree(folder / "stage-2-prior")
    shutil.rmtree(folder / "scores")
    (book / "results" / "staged.json").unlink()
    assert "no result" in run(book, "staged", "--check").stdout
    assert run(book, "staged").returncode == 0 and result(book, "staged")["scores"] == found["scores"]


@pytest.mark.slow
def test_an_experiment_starts_from_kept_weights_and_has_to_be_run_again_when_they_change(copy):
    kept = copy / "kept.safetensors"
    (copy / "book.toml").write_text(BOOK + another("from-file") + 'init_from = "kept.safetensors"\n')
    assert run(copy, "from-file").returncode == 0
    assert f'init_from = "{kept}"' in (copy / "runs" / "from-file" / "seed-0" / "config.toml").read_text()
    assert "1/1 runs" in run(copy, "from-file", "--list").stdout

    damage(kept)
    assert "0/1 runs" in run(copy, "from-file", "--list").stdout
    kept.unlink()
    assert "0/1 runs" in run(copy, "from-file", "--list").stdout
    assert run(copy, "from-file", "--out", copy / "elsewhere").returncode == 2


@pytest.mark.slow
def test_one_stage_of_a_recipe_that_is_only_for_a_gpu_is_tried_by_smoke_which_leaves_the_results_alone(book):
    first = another("first", "staged.toml") + 'stage = "autoencoder"\nset = { lr = 0.01 }\n'
    first = first.replace('protocol = "digits"', 'protocol = "reconstruction"').replace("cpu =", "gpu =")
    protocol = '[protocol.reconstruction]\ndata = "digits"\nn = 64\nmetrics = ["reconstruction"]\n'
    (book / "book.toml").write_text(BOOK + protocol + first)
    assert run(book, "first").returncode == 2
    assert run(book, "first", "--scale", "smoke").returncode == 0
    assert not (book / "results").exists()
    found = json.loads((book / "runs" / "smoke" / "results" / "first.json").read_text())["smoke"]["asked"]["settings"]
    assert found["fit"] == "autoencoder" and found["lr"] == 0.01 and "stage" not in found
    (book / "book.toml").write_text(BOOK + protocol + first.replace('stage = "auto', 'stage = "no-auto'))
    answer = run(book, "first", "--scale", "smoke")
    assert answer.returncode == 2 and "has no stage" in answer.stderr


def test_a_record_is_checked_and_shown_but_not_run(copy):
    (copy / "book.toml").write_text(
        BOOK.replace("[experiment.tiny]", "[experiment.other]").replace('["tiny"]', '["tiny"]')
        + '[record]\ntiny = "kept.safetensors"\n'
    )
    checked = run(copy, "tiny", "--check", "--scale", "gpu")
    assert checked.returncode == 0 and checked.stdout.count("agrees") == 4, checked.stdout + checked.stderr
    assert "record  two steps" in run(copy, "--list").stdout
    answer = run(copy, "tiny")
    assert answer.returncode == 2 and "--check" in answer.stderr and answer.stderr.count("\n") == 1
    assert run(copy, "--book").returncode == 0 and "`tiny`: two steps" in (copy / "README.md").read_text()


def test_every_number_of_the_committed_book_was_made_by_its_command(tmp_path):
    copy = shutil.copytree(EXPERIMENTS, tmp_path / "experiments", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copyfile(EXPERIMENTS.parent / "README.md", tmp_path / "README.md")
    weights = "tcja_gen/weights"  # that experiments start from
    shutil.copytree(EXPERIMENTS.parent / weights, tmp_path / weights)
    answer = run(copy, "--book")
    assert answer.returncode == 0, answer.stderr
    for made, committed in ((copy, EXPERIMENTS), (tmp_path, EXPERIMENTS.parent)):
        pages = [(folder / "README.md").read_text(encoding="utf-8") for folder in (made, committed)]
        assert pages[0] == pages[1], "run: python experiments/run --book"


def test_every_table_of_the_book_has_commands():
    """`guide/printed_commands.py` looks up their names and flags, as those of every page."""
    text = (EXPERIMENTS / "README.md").read_text()
    lines = {line for line in text.splitlines() if line.startswith("python experiments/run ") and "<" not in line}
    assert len(lines) > 60 and text.count("<details>") == text.count("<!-- table:") - text.count("No results yet")


def test_every_experiment_of_the_book_has_settings_and_a_protocol_that_are_known():
    for scale in ("cpu", "gpu", "smoke"):
        listed = run(EXPERIMENTS, "--list", "--scale", scale)
        assert listed.returncode == 0, listed.stderr


def test_no_study_chooses_by_test_images():
    book = tomllib.loads((EXPERIMENTS / "book.toml").read_text())
    for name, study in book["study"].items():
        assert book["protocol"][study["protocol"]].get("split") == "validation", name
        for file in (EXPERIMENTS / "results" / name).glob("*.json"):
            for result in json.loads(file.read_text(encoding="utf-8")).values():
                assert result["asked"]["protocol"]["split"] == "validation", file
    tables = {name for table in book["table"].values() for name in table["experiments"]}
    for name in tables & {*book["experiment"]}:
        assert "split" not in book["protocol"][book["experiment"][name]["protocol"]], name
