"""Checkpoints that are killed while they are written, damaged afterwards, or would hold what is not finite."""

import json
import os
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from test_runs import SETTINGS, assert_same, classify, train

import tcja_gen as tg
from tcja_gen.errors import Diverged, UserError
from tcja_gen.files import write_if_absent
from tcja_gen.models import Generator, build, store
from tcja_gen.settings import update
from tcja_gen.training import checkpoints, runs
from tcja_gen.training.config import Config, change
from tcja_gen.training.loop import Trainer
from tcja_gen.training.samples import prepare


def names(run: Path) -> list[str]:
    return sorted(path.name for path in (run / "checkpoints").iterdir())


def times(run: Path) -> dict[Path, int]:
    return {path: path.stat().st_mtime_ns for path in (run / "checkpoints").rglob("*.*")}


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A run with three checkpoints that nothing disturbed."""
    return train(tmp_path_factory.mktemp("runs") / "whole", checkpoint_every=4, keep_every=4).folder


@pytest.fixture
def run(whole, tmp_path):
    """A copy of it."""
    return Path(shutil.copytree(whole, tmp_path / "run"))


def write(folder: Path, step: int, loss: float, tiny: dict) -> None:
    facts = {"step": step, "validation": {"loss": loss}}
    checkpoints.write(folder, step, build(tiny), update(Generator(), tiny), facts, {})


def trainer(out: Path, **changes) -> Trainer:
    return Trainer(*prepare(change(Config(), {**SETTINGS, "out": str(out), **changes})), quiet=True)


def test_a_checkpoint_is_never_written_again(run):
    before = times(run)
    assert tg.resume(run, quiet=True).finished
    assert times(run) == before


def test_the_newest_checkpoints_are_kept_past_a_million_steps(tmp_path, tiny):
    for step in (999_998, 999_999, 1_000_000, 1_000_001):
        write(tmp_path, step, 1 / step, tiny)
        checkpoints.prune(tmp_path, 0)
    assert names(tmp_path) == ["step-1000000", "step-1000001"]


def test_the_best_checkpoint_is_kept_whatever_was_killed_before_it_was_told(tmp_path, tiny):
    for step, loss in enumerate((0.5, 0.1, 0.9, 0.8, 0.7), 1):
        write(tmp_path, step, loss, tiny)  # and nothing else came to be done
    checkpoints.prune(tmp_path, 0)
    assert names(tmp_path) == ["step-000002", "step-000004", "step-000005"]
    assert store.find(tmp_path, "best").parent.name == "step-000002"


@pytest.mark.parametrize("part", ["state.pt", "model.safetensors"])
@pytest.mark.parametrize("length", [0.0, 0.7])
def test_a_run_goes_on_from_the_newest_whole_checkpoint(whole, run, part, length, capsys):
    file = run / "checkpoints" / "step-000012" / part
    file.write_bytes(file.read_bytes()[: int(length * file.stat().st_size)])
    assert tg.resume(run, quiet=True).step == 12
    told = capsys.readouterr().err
    assert "step-000012: " in told and part in told
    assert_same(whole, run, "step-000012")


def test_a_changed_byte_in_a_training_state_is_seen(whole, run):
    file = run / "checkpoints" / "step-000012" / "state.pt"
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)
    tg.resume(run, quiet=True)
    assert_same(whole, run, "step-000012")


def test_a_run_killed_before_its_first_checkpoint_begins_again(whole, run):
    shutil.rmtree(run / "checkpoints")
    assert tg.resume(run, quiet=True).finished
    assert_same(whole, run, "step-000012")


def test_a_run_whose_checkpoints_are_all_damaged_is_not_begun_again(run):
    for state in run.rglob("state.pt"):
        state.write_bytes(b"")
    with pytest.raises(UserError, match="none of its 3 checkpoints is whole"):
        tg.resume(run, quiet=True)


@pytest.mark.parametrize("every", [1, 3])
def test_nothing_is_kept_that_is_not_finite(tmp_path, every):
    settings = {"lr": 1e38, "clip": 0.0, "log_every": 40, "sample_every": 0, "keep_every": 1, "checkpoint_every": every}
    with pytest.raises(Diverged, match="of step") as error:
        train(tmp_path / "run", steps=40, **settings)
    kept = store.steps(tmp_path / "run")
    said = f"the checkpoint of step {store.step_of(kept[-1])} is kept" if kept else "no checkpoint had been written"
    assert said in str(error.value)
    for folder in kept:
        assert all(t.isfinite().all() for t in load_file(folder / "model.safetensors").values())
        state = torch.load(folder / "state.pt", weights_only=True)
        assert all(t.isfinite().all() for t in state["model"].values())


def test_a_validation_score_that_is_no_number_stops_the_run(tmp_path):
    made = trainer(tmp_path / "run", ema=0.9)
    with torch.no_grad():  # a moving average that overflowed while the weights did not
        made.stepper.ema.decoder.last.weight.fill_(torch.inf)
    with pytest.raises(Diverged, match="the validation .* of step 6 is nan; no checkpoint had been written"):
        made.run()
    assert not store.steps(tmp_path / "run")


def test_a_gradient_that_is_no_number_is_named(tmp_path):
    made = trainer(tmp_path / "run")
    made.model.decoder.last.weight.register_hook(lambda grad: grad * torch.inf)
    with pytest.raises(Diverged, match="the loss of step 1 has a gradient norm of (inf|nan)"):
        made.run()


def test_validation_takes_no_more_samples_at_once_than_training(tmp_path):
    seen = []
    made = trainer(tmp_path / "run", ema=0.0, steps=1)
    made.model.encoder.register_forward_pre_hook(lambda module, x: seen.append(len(x[0])))
    made._validate(made.model)
    assert max(seen) == SETTINGS["batch"] and sum(seen) == len(made.data.judged)


FULL = """
import resource, sys
from tcja_gen.cli import main
{before}
sys.exit(main(sys.argv[1:]))
"""


def test_a_full_disk_ends_a_run_in_one_line_and_leaves_no_halves(whole, tmp_path):
    """A limit of the size of files stands in for the disk: the training state does not fit, all else does."""
    run = Path(shutil.copytree(whole, tmp_path / "run"))
    shutil.rmtree(run / "checkpoints" / "step-000012")
    limit = (run / "checkpoints" / "step-000008" / "state.pt").stat().st_size // 2
    code = FULL.format(before=f"import torch; resource.setrlimit(resource.RLIMIT_FSIZE, ({limit}, {limit}))")
    command = [sys.executable, "-c", code, "train", "--resume", str(run)]
    done = subprocess.run(command, capture_output=True, text=True)
    last = done.stderr.strip().splitlines()[-1]
    assert done.returncode == 2 and "Traceback" not in done.stderr
    assert "step-000012: not written (File too large)" in last and f"--resume {run}" in last
    assert "step-000008 is whole" in last
    assert names(run) == ["step-000004", "step-000008"]
    assert not list(run.rglob("*.tmp")) and not list(run.rglob("*.part"))
    tg.resume(run, quiet=True)
    assert_same(whole, run, "step-000012")


def test_a_place_that_cannot_be_written_to_is_told_before_the_data_are_read(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError) as error:
        train(tmp_path / "file" / "run", data=str(tmp_path / "no data here"))
    assert error.value.filename == str(tmp_path / "file" / "run")


def test_runs_that_begin_at_the_same_moment_have_a_folder_each(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with ThreadPoolExecutor(8) as pool:
        folders = [*pool.map(lambda _: runs.new_folder(Config()), range(24))]
    assert len(set(folders)) == 24
    with ThreadPoolExecutor(8) as pool:
        claims = [*pool.map(lambda i: write_if_absent(tmp_path / "one", f"{i}"), range(24))]
    assert claims.count(True) == 1 and (tmp_path / "one").read_text() == str(claims.index(True))
    assert not list(tmp_path.rglob("*.tmp"))


def test_two_runs_cannot_have_one_named_folder(tmp_path):
    config = replace(Config(), out=str(tmp_path / "run"))
    runs.new_folder(config)
    with pytest.raises(UserError, match="there is a run in this folder"):
        runs.new_folder(config)


def test_a_classifier_is_chosen_by_its_accuracy(tmp_path):
    run = classify(tmp_path / "run", keep_every=4, checkpoint_every=4)
    scores = {store.step_of(p): tg.load(p).provenance["validation"]["accuracy"] for p in store.steps(run.folder)}
    assert tg.load(run.folder, which="best").provenance["step"] == max(scores, key=scores.get)


def test_logs_are_read_as_the_text_that_they_are(run):
    (run / "stats.jsonl").write_bytes(b'{"step": 3, "loss": 1.0}\n{"step": 4, "lo\xff')
    runs.forget_after(run, 12)
    assert [json.loads(line)["step"] for line in (run / "stats.jsonl").read_text().splitlines()] == [3]
    assert os.listdir(run).count("stats.jsonl") == 1


def test_a_run_whose_settings_were_changed_by_hand_does_not_go_on_with_others(run):
    shutil.rmtree(run / "checkpoints" / "step-000012")
    text = (run / "config.toml").read_text()
    (run / "config.toml").write_text(text.replace("weight_decay = 0.001", "weight_decay = 0.5"))
    with pytest.raises(UserError, match=r"not the settings of its checkpoints \(weight_decay: 0.001 -> 0.5\)"):
        tg.resume(run, quiet=True)
    (run / "config.toml").write_text("")  # cut short, it would stand for the defaults
    with pytest.raises(UserError, match="not the settings of its checkpoints"):
        tg.resume(run, quiet=True)


def test_a_stage_that_cannot_be_written_names_the_run_that_goes_on(tmp_path):
    """The stage's own folder is no run that --resume takes."""
    toml, out = tmp_path / "stages.toml", tmp_path / "run"
    toml.write_text('steps = 2\nbatch = 4\n[model]\nencoder = "4C3s2"\nlatent.channels = 2\n[[stage]]\nname = "a"\n')
    code = FULL.format(before="import torch; resource.setrlimit(resource.RLIMIT_FSIZE, (20000, 20000))")
    done = subprocess.run(
        [sys.executable, "-c", code, "train", str(toml), "--out", str(out)], capture_output=True, text=True
    )
    assert done.returncode == 2 and done.stderr.endswith(f"--resume {out}\n"), done.stderr
    assert tg.resume(out, quiet=True).finished
