"""Runs of several stages: what they are equal to, where they go on, and what one of them can be told."""

import shutil
import signal
from pathlib import Path

import pytest
import torch
from test_runs import BACKBONE, CODES, assert_same, process, train, wait_for

import tcja_gen as tg
from tcja_gen.errors import UserError
from tcja_gen.models import store
from tcja_gen.training.recipes import load

LOSS = {"adversarial": {"weight": 0.2, "network": "4C3s2"}}
STAGES = [
    {"name": "autoencoder", "fit": "autoencoder"},
    {"name": "decoder", "fit": "decoder", "lr": 1e-3, "objective": LOSS},
    {"name": "prior", "fit": "prior", "batch": 8},
]
FOLDERS = ["stage-1-autoencoder", "stage-2-decoder", "stage-3-prior"]
SHORT = {"steps": 4, "checkpoint_every": 2, "sample_every": 0, "log_every": 2, "model": CODES}
LAST = "step-000004"


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> Path:
    """A run of three stages that nothing disturbed."""
    run = train(tmp_path_factory.mktemp("runs") / "whole", **SHORT, stages=STAGES)
    assert run.finished
    return run.folder


@pytest.fixture
def run(whole, tmp_path) -> Path:
    """A copy of it, in which stages start from those of the copy."""
    return Path(shutil.copytree(whole, tmp_path / "run"))


def assert_same_stages(a: Path, b: Path) -> None:
    for name in FOLDERS:
        assert_same(a / name, b / name, LAST)


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return tg.load(folder).state_dict()


def same(a: Path, b: Path) -> set[str]:
    """Weights that are equal in two runs."""
    one, other = weights(a), weights(b)
    return {name for name in one if torch.equal(one[name], other[name])}


def test_stages_are_the_runs_that_one_would_chain_by_hand(whole, tmp_path):
    before = {}
    for stage, name in zip(STAGES, FOLDERS, strict=True):
        settings = SHORT | {key: value for key, value in stage.items() if key != "name"} | before
        alone = train(tmp_path / name, **settings).folder
        assert_same(whole / name, alone, LAST)
        before = {"init_from": str(alone)}


def test_a_run_is_the_model_of_its_last_finished_stage(run):
    assert weights(run).keys() == weights(run / FOLDERS[2]).keys() == same(run, run / FOLDERS[2])
    assert tg.load(run).sample([0]).shape == (1, 1, 8, 8)
    assert [tg.load(run / name).provenance["stages"] for name in FOLDERS] == [
        ["autoencoder"],
        ["autoencoder", "decoder"],
        ["autoencoder", "decoder", "prior"],
    ]
    assert tg.load(run).provenance["stage"] == {
        "name": "prior",
        "number": 3,
        "of": ["autoencoder", "decoder", "prior"],
    }
    shutil.rmtree(run / FOLDERS[2] / "checkpoints" / LAST)  # it has begun
    assert store.find(run).parents[2].name == FOLDERS[1]
    assert store.find(run, "best").parents[2].name == FOLDERS[1]
    with pytest.raises(UserError, match="autoencoder and decoder only"):
        tg.load(run).sample([0])
    shutil.rmtree(run / FOLDERS[1] / "checkpoints" / LAST)
    assert store.find(run).parents[2].name == FOLDERS[0]
    shutil.rmtree(run / FOLDERS[0] / "checkpoints" / LAST)  # the first one has only begun
    assert store.find(run).parents[2].name == FOLDERS[0]
    assert tg.load(run).provenance["step"] == 2


@pytest.mark.parametrize(
    ("stage", "left"), [(1, "checkpoint"), (2, "checkpoint"), (3, "checkpoint"), (2, "folder"), (3, "nothing")]
)
def test_killed_in_any_stage_a_run_goes_on_inside_of_it(whole, run, stage, left):
    """With a checkpoint in the middle of the stage; before its first one; and between two stages."""
    for name in FOLDERS[stage:]:
        shutil.rmtree(run / name)
    home = run / FOLDERS[stage - 1]
    gone = {"checkpoint": home / "checkpoints" / LAST, "folder": home / "checkpoints", "nothing": home}[left]
    shutil.rmtree(gone)
    kept = {path: path.stat().st_mtime_ns for path in run.rglob("*.safetensors")}
    resumed = tg.resume(run, quiet=True)
    assert resumed.finished and resumed.folder == run
    assert_same_stages(whole, run)
    assert {path: path.stat().st_mtime_ns for path in kept} == kept  # what was done is not done again


def test_a_process_killed_in_the_second_stage_goes_on_bit_for_bit(whole, tmp_path):
    out = tmp_path / "killed"
    with process(out, **SHORT, stages=STAGES) as child:
        wait_for(out / FOLDERS[1] / "checkpoints" / "step-000002")
        child.send_signal(signal.SIGKILL)
    tg.resume(out, quiet=True)
    assert_same_stages(whole, out)


def test_ctrl_c_ends_all_stages_and_names_the_whole_run(tmp_path):
    out, stages = tmp_path / "stopped", [STAGES[0], STAGES[1] | {"steps": 100000}, STAGES[2]]
    with process(out, **SHORT, stages=stages) as child:
        wait_for(out / FOLDERS[1] / "checkpoints" / "step-000002")
        child.send_signal(signal.SIGINT)
        text = child.stderr.read()
    assert child.returncode == 0 and "stage 2 of 3, decoder" in text
    assert f"go on with: tcja-gen train --resume {out}\n" in text and "done:" not in text
    assert not (out / FOLDERS[2]).exists()


def test_a_finished_run_is_left_as_it_is(run):
    before = {path: path.stat().st_mtime_ns for path in run.rglob("*") if path.is_file()}
    assert tg.resume(run, quiet=True).finished
    assert {path: path.stat().st_mtime_ns for path in run.rglob("*") if path.is_file()} == before


def test_one_stage_is_trained_anew_and_the_others_stay(whole, run):
    tg.resume(run, stage="prior", quiet=True)
    assert_same_stages(whole, run)
    tg.resume(run, stage="prior", quiet=True, lr=1e-2, model={"latent": {"rounds": 2}})
    assert load(run / "config.toml").stages[2].changes["lr"] == 1e-2
    priors = {name for name in weights(run) if name.startswith("latent.prior.")}
    assert {*weights(run)} - priors <= same(whole, run) and not priors <= same(whole, run)
    assert tg.load(run).latent.rounds == 2
    assert {path.name for path in run.glob("stage-*")} == {*FOLDERS, "stage-3-prior.before"}
    assert_same(whole / FOLDERS[2], run / "stage-3-prior.before", LAST)


def test_stages_behind_one_that_is_trained_anew_are_trained_again(whole, run):
    tg.resume(run, stage="decoder", quiet=True, lr=1e-2)
    assert {path.name for path in run.glob("stage-*")} == {
        *FOLDERS[:2],
        "stage-2-decoder.before",
        "stage-3-prior.before",
    }
    assert store.find(run).parents[2].name == FOLDERS[1]
    with pytest.raises(UserError, match="no stage 'codes' in this recipe; known: autoencoder, decoder, prior"):
        tg.resume(run, stage="codes", quiet=True)
    assert tg.resume(run, quiet=True).finished
    decoders = {name for name in weights(run) if name.startswith("decoder.")}
    assert {*weights(run)} - same(whole, run) >= {"decoder.last.weight"} <= decoders
    assert tg.load(run).sample([0]).shape == (1, 1, 8, 8)


def test_a_stage_that_cannot_be_trained_anew_keeps_its_weights(run):
    with pytest.raises(UserError, match="cannot read 'XYZ'"):
        tg.resume(run, stage="prior", quiet=True, model={"latent": {"prior": "8C3-XYZ"}})
    assert {path.name for path in run.glob("stage-*")} == {*FOLDERS}


def test_only_the_first_stage_is_trained_if_it_is_the_one_asked_for(whole, tmp_path):
    own = {name: SHORT[name] for name in ("steps", "checkpoint_every")}
    stages = [{"batch": 16, "warmup": 2, **own, **stage} for stage in STAGES]  # what `stage` changes is its own
    run = train(tmp_path / "run", **SHORT, stages=stages, stage="autoencoder")
    assert [path.name for path in run.folder.glob("stage-*")] == FOLDERS[:1]
    with pytest.raises(UserError, match="stage 'prior' starts from 'decoder', which is not finished"):
        tg.resume(run.folder, stage="prior", quiet=True)
    tg.resume(run.folder, quiet=True)
    assert_same_stages(whole, run.folder)


def test_a_stage_that_fits_everything_goes_on_from_the_one_before(tmp_path):
    stages = [{"name": "slow", "steps": 2}, {"name": "fast", "lr": 1e-9, "ema": 0.0, "weight_decay": 0.0}]
    model = {**BACKBONE, "latent": {"channels": 4, "k": 2}}
    run = train(tmp_path / "run", **SHORT | {"model": model}, stages=stages).folder
    last = weights(run / "stage-1-slow"), weights(run / "stage-2-fast")
    torch.testing.assert_close(last[0]["decoder.last.weight"], last[1]["decoder.last.weight"], atol=1e-4, rtol=0)
    assert "takes over decoder, encoder, latent.entry" in (run / "stage-2-fast" / "log.txt").read_text()
    assert tg.load(run).provenance["stages"] == ["all", "all"]


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"stage": "prior"}, "stage 'prior': a new run begins with 'autoencoder'"),
        ({"stage": "codes"}, "no stage 'codes' in this recipe; known: autoencoder, decoder, prior"),
        ({"stages": {"codes": {}}}, "no stage 'codes' in this recipe"),
        ({"stages": STAGES[2:]}, "fit = 'prior' needs --init-from"),
        ({"stages": [*STAGES, STAGES[0]]}, "stage 'autoencoder': there are two of this name"),
        ({"stages": [*STAGES[:2], {"name": "prior", "stpes": 3}]}, "stage 'prior': 'stpes' is no setting of a stage"),
        ({"model": {"encoder": "8C3-XYZ"}}, "cannot read 'XYZ'"),
        ({"stages": {"decoder": {"objective": {"adversarial": {"network": "8C3-XYZ"}}}}}, "cannot read 'XYZ'"),
        ({"stages": {"decoder": {"prior_lr": 3.0}}}, "prior_lr has no meaning here: no prior is trained"),
        ({"model": {"latent": {"kind": "gaussian"}, "neuron": "relu", "time_steps": 1}}, "there are no stages"),
        ({"init_from": "nothing"}, "nothing: no such run or checkpoint"),
        ({"stages": {"prior": {"augment": "flip"}}}, "augment is for event frames"),
        ({"stages": {"decoder": {"mixup": 0.5}}}, "mixup blends samples of classes, and there are none"),
        ({"stages": {"decoder": {"objective": {"adversarial": {"network": "MP2"}}}}}, "'MP2' has no neurons"),
        ({"model": {"encoder": "AP2"}}, "encoder 'AP2' has no neurons"),
        ({"model": {"latent": "codes"}}, "'codes' as its kind is model.latent.kind"),
    ],
)
def test_what_cannot_be_trained_is_told_before_the_first_stage_and_leaves_no_folder(tmp_path, settings, says):
    from tcja_gen.training.config import Config, change

    recipe = change(Config(), {"model": CODES, "stage": STAGES})
    with pytest.raises((UserError, FileNotFoundError)) as error:
        tg.train(recipe, out=str(tmp_path / "run"), steps=2, device="cpu", quiet=True, **settings)
    assert says in str(error.value) and "\n" not in str(error.value)
    assert not (tmp_path / "run").exists()


def test_a_trained_generator_is_the_start_of_all_stages_on_other_images(whole, tmp_path):
    images = torch.randint(256, (40, 1, 8, 8), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))
    settings = SHORT | {"init_from": str(whole), "init": "all", "steps": 2}
    other = tg.train(data=images, out=tmp_path / "other", quiet=True, **settings, stages=STAGES)
    assert other.finished and store.stages(other.folder)
    assert other.model.provenance["data"]["fingerprint"] != tg.load(whole).provenance["data"]["fingerprint"]


def test_a_stage_is_no_run_of_its_own(run):
    with pytest.raises(UserError, match=f"a stage of the run {run}; --resume that one"):
        tg.resume(run / FOLDERS[1], quiet=True)


def test_a_recipe_that_was_changed_behind_a_finished_stage_is_told(run):
    config = run / "config.toml"
    config.write_text(config.read_text().replace('name = "autoencoder"', 'name = "autoencoder"\nlr = 0.003'))
    with pytest.raises(UserError, match="stage 1 of 3, autoencoder was trained with other settings"):
        tg.resume(run, quiet=True)


@pytest.mark.parametrize(
    ("stage", "settings", "says"),
    [
        ("prior", {"data": "nowhere/images"}, "nowhere/images"),
        ("prior", {"data": "nowhere/images", "quiet": True}, "nowhere/images"),
        ("prior", {"model": {"neuron": "fsvae"}}, "neuron is"),
        ("prior", {"seed": 5}, "a resumed run keeps its settings, but seed: 0 -> 5"),
        ("prior", {"model": {"latent": {"channels": 4}}}, "it does not fit this model"),
        ("decoder", {"model": {"time_steps": 3}}, "time_steps is"),
        ("autoencoder", {"augment": "flip"}, "augment is for event frames"),
        ("decoder", {"model": {"latent": {"order": "rows"}}}, "order is 'coarse-to-fine' there, 'rows' here"),
    ],
)
def test_a_mistake_in_training_a_stage_anew_costs_nothing(run, stage, settings, says):
    before = {path: path.stat().st_mtime_ns for path in run.rglob("*") if path.is_file()}
    with pytest.raises((UserError, FileNotFoundError), match=says):
        tg.resume(run, stage=stage, **settings)
    assert {path: path.stat().st_mtime_ns for path in run.rglob("*") if path.is_file()} == before


def test_a_prior_trained_anew_with_other_rounds_leaves_the_stages_before_it_as_they_are(run):
    again = tg.resume(run, stage="prior", model={"latent": {"rounds": 2}}, quiet=True)
    assert again.finished and tg.load(run).latent.settings.rounds == 2
    shutil.rmtree(run / FOLDERS[2])  # as if it had been stopped
    resumed = tg.resume(run, quiet=True)
    assert resumed.finished and tg.load(run).latent.settings.rounds == 2 and same(run, run / FOLDERS[2])


def test_without_labels_a_perceptual_stage_is_refused_before_the_first_stage(tmp_path):
    stages = [STAGES[0], {"name": "decoder", "fit": "decoder", "objective": {"perceptual": {}}}]
    with pytest.raises(UserError, match="no labels"):
        train(tmp_path / "run", **SHORT, stages=stages, data=torch.rand(64, 1, 8, 8))
    assert not (tmp_path / "run").exists()


def test_a_resumed_run_of_stages_may_keep_checkpoints_more_often_and_tells_what_it_keeps(whole, run):
    for name in FOLDERS[1:]:
        shutil.rmtree(run / name)
    with pytest.raises(UserError, match=r"keeps its settings, but lr: 0.002 -> 0.5; lr: 0.001 -> 0.5; start a new run"):
        tg.resume(run, quiet=True, lr=0.5)
    tg.resume(run, quiet=True, checkpoint_every=1, keep_every=1)
    assert (run / FOLDERS[2] / "checkpoints" / "step-000003").exists()
    assert torch.equal(weights(run)["decoder.last.weight"], weights(whole)["decoder.last.weight"])
