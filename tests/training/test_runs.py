"""Runs that are killed, resumed, changed or broken; real processes, tiny models."""

import json
import os
import pickle
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import fields
from pathlib import Path

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

import tcja_gen as tg
from tcja_gen.errors import UserError
from tcja_gen.metrics import classifier
from tcja_gen.models import Classifier, Generator
from tcja_gen.nn import Neuron, ScheduledSampling, latent_settings
from tcja_gen.nn.objectives import OBJECTIVES
from tcja_gen.training import Diverged, loop, recipes
from tcja_gen.training.adversary import Adversarial
from tcja_gen.training.config import Config, check
from tcja_gen.training.perceptual import Perceptual

BACKBONE = {"encoder": "8C3s2-TCJA-16C3s2-TCJA"}
LATENT_KINDS = {
    "bernoulli": {**BACKBONE, "time_steps": 8, "latent": {"channels": 8, "k": 4, "scheduled": {"first": 2}}},
    "poisson": {**BACKBONE, "time_steps": 8, "latent": {"kind": "poisson", "channels": 8}},
    "gaussian": {**BACKBONE, "time_steps": 1, "latent": {"kind": "gaussian", "channels": 8}, "neuron": "relu"},
}

SETTINGS = {
    "steps": 12,
    "batch": 16,
    "warmup": 2,
    "log_every": 3,
    "sample_every": 6,
    "checkpoint_every": 6,
    "compile": "off",
    "device": "cpu",
    "model": LATENT_KINDS["bernoulli"],
}
DISCRIMINATOR = {"adversarial": {"weight": 0.2, "network": "4C3s2-8C3s2"}}
AGAINST = {"objective": DISCRIMINATOR}


def train(out, **changes):
    return tg.train(out=str(out), quiet=True, **{**SETTINGS, **changes})


def process(out, **changes):
    settings = {**SETTINGS, **changes, "out": str(out)}
    code = f"import tcja_gen as tg; tg.train(**{settings!r})"
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.Popen([sys.executable, "-c", code], env=environment, stderr=subprocess.PIPE, text=True)


def wait_for(path: Path, seconds: float = 60) -> None:
    end = time.time() + seconds
    while not path.exists():
        assert time.time() < end, f"{path} did not appear"
        time.sleep(0.02)


def assert_same(a: Path, b: Path, step: str) -> None:
    """The checkpoints of two runs are equal bit for bit: weights to use, raw weights, optimiser, average."""
    one, other = (load_file(run / "checkpoints" / step / "model.safetensors") for run in (a, b))
    assert one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)
    states = [torch.load(run / "checkpoints" / step / "state.pt", weights_only=True) for run in (a, b)]
    for part in ("model", "ema"):
        assert all(torch.equal(states[0][part][name], states[1][part][name]) for name in states[0][part])
    for name, kept in states[0]["terms"].items():
        assert all(torch.equal(kept[weight], states[1]["terms"][name][weight]) for weight in kept)
    moments = [state["optimizer"]["state"] for state in states]
    assert all(torch.equal(moments[0][i]["exp_avg_sq"], moments[1][i]["exp_avg_sq"]) for i in moments[0])


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A run that nothing disturbed."""
    return train(tmp_path_factory.mktemp("runs") / "whole")


def test_a_killed_run_goes_on_bit_for_bit(whole, tmp_path):
    out = tmp_path / "killed"
    with process(out, steps=12) as child:
        wait_for(out / "checkpoints" / "step-000006")
        child.send_signal(signal.SIGKILL)
    half = out / "checkpoints" / "step-000012.part"  # what a kill in the middle of a checkpoint leaves behind
    half.mkdir(exist_ok=True)
    (half / "state.pt").write_bytes(b"PK\x03\x04 cut short")
    with open(out / "stats.jsonl", "a") as stats:
        stats.write('{"step": 9, "lo')
    assert tg.load(out).provenance["step"] in (6, 12)
    run = tg.resume(out, quiet=True)
    assert run.finished and run.step == 12
    assert_same(whole.folder, out, "step-000012")
    steps = [json.loads(line)["step"] for line in (out / "stats.jsonl").read_text().splitlines()]
    assert steps == sorted(steps)


def test_ctrl_c_saves_and_says_how_to_go_on(tmp_path):
    out = tmp_path / "stopped"
    with process(out, steps=100000, sample_every=0, log_every=100000) as child:
        wait_for(out / "checkpoints" / "step-000006")
        child.send_signal(signal.SIGINT)
        text = child.stderr.read()
    assert child.returncode == 0
    assert "/100000  loss" in text
    assert f"go on with: tcja-gen train --resume {out}" in text
    step = tg.load(out).provenance["step"]
    assert f"stopped at step {step}" in text


def test_a_run_that_another_process_trains_is_left_alone(tmp_path):
    out = tmp_path / "busy"
    with process(out, steps=100000, sample_every=0) as child:
        wait_for(out / "checkpoints" / "step-000006")
        with pytest.raises(UserError, match="another process trains this run now"):
            tg.resume(out, quiet=True)
        child.send_signal(signal.SIGKILL)


def test_a_run_shorter_than_its_log_interval_tells_its_loss(tmp_path, capsys):
    run = tg.train(**SETTINGS | {"steps": 2, "log_every": 50}, out=str(tmp_path / "run"))
    told = capsys.readouterr().err
    assert "step 2/2  loss" in told and "2 steps of 16 (0.0233 epochs)" in told
    lines = [json.loads(line) for line in (run.folder / "stats.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines if "loss" in line] == [2]


def test_a_slow_run_tells_its_step_between_two_reports(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(loop, "QUIET", 0)
    tg.train(**SETTINGS | {"steps": 3, "log_every": 3}, out=str(tmp_path / "run"))
    assert "step 1/3  " in capsys.readouterr().err


def test_a_run_folder_holds_what_is_promised(whole):
    folder = whole.folder
    assert recipes.load(folder / "config.toml").model.latent.channels == 8
    environment = json.loads((folder / "environment.json").read_text())
    assert environment["data"]["name"] == "digits" and environment["versions"]["torch"]
    records = [json.loads(line) for line in (folder / "stats.jsonl").read_text().splitlines()]
    logged = next(record for record in records if "loss" in record)
    assert 0 < logged["firing_rate"] < 1 and 0 <= logged["dead"] <= 1 and len(logged["layers"]) == 12
    for name in ("samples/step-000006.png", "reconstructions/step-000012.png", "log.txt"):
        assert (folder / name).stat().st_size
    assert list(folder.glob("events.out.tfevents.*"))
    assert sorted(p.name for p in (folder / "checkpoints").iterdir()) == ["step-000006", "step-000012"]


def test_a_resumed_run_refuses_other_settings(whole):
    with pytest.raises(ValueError, match="model.time_steps: 8 -> 4"):
        tg.resume(whole.folder, quiet=True, model={"time_steps": 4})
    with pytest.raises(FileNotFoundError, match="config.toml is missing"):
        tg.resume(whole.folder / "samples")


@pytest.mark.parametrize("kind", ["code", "format"])
def test_a_strange_training_state_is_refused_and_not_run(whole, tmp_path, kind):
    class Bomb:
        def __reduce__(self):
            return open, (str(tmp_path / "ran"), "w")

    out = tmp_path / "run"
    shutil.copytree(whole.folder, out)
    state = out / "checkpoints" / "step-000012" / "state.pt"
    if kind == "code":
        state.write_bytes(pickle.dumps(Bomb()))
    else:
        torch.save({"format": 99}, state)
    with pytest.raises(ValueError, match="state.pt") as error:
        tg.resume(out, quiet=True)
    assert "\n" not in str(error.value) and not (tmp_path / "ran").exists()


def test_a_loss_that_is_no_number_stops_the_run_and_keeps_the_checkpoint(tmp_path):
    with pytest.raises(Diverged, match="the loss of step"):
        train(tmp_path / "run", lr=1e38, clip=0.0, steps=40, checkpoint_every=1, sample_every=0, log_every=1)


def test_training_lowers_the_loss_and_samples_differ(tmp_path):
    settings = {"steps": 120, "log_every": 20, "checkpoint_every": 120, "sample_every": 0, "lr": 4e-3, "ema": 0.9}
    run = train(tmp_path / "run", **settings, model=SETTINGS["model"] | {"time_steps": 4})
    records = [json.loads(line) for line in (run.folder / "stats.jsonl").read_text().splitlines()]
    losses = [record["loss"] for record in records if "loss" in record]
    assert losses[-1] < 0.5 * losses[0]
    images = run.model.sample(range(4))
    assert not torch.equal(images[0], images[1])


ALL_TERMS = {**DISCRIMINATOR, "perceptual": {"weight": 0.5}}
DROPPING = {**LATENT_KINDS["poisson"], "encoder": "8C3s2-DP.5-16C3s2", "decoder": "8T3s2-TCJA-8T3s2"}


TOGETHER = {"steps": 2, "log_every": 1, "sample_every": 0}
TRAINED_TOGETHER = {
    **{kind: {**SETTINGS, **TOGETHER, "model": model} for kind, model in LATENT_KINDS.items()},
    "all terms": {**SETTINGS, **TOGETHER, "model": DROPPING, "objective": ALL_TERMS},
}


@pytest.fixture(scope="module")
def of_two_processes(tmp_path_factory):
    """The folder of runs that two processes have trained, one after the other."""
    folder = tmp_path_factory.mktemp("two")
    trainings = [settings | {"out": str(folder / name)} for name, settings in TRAINED_TOGETHER.items()]
    code = folder / "go.py"
    code.write_text(f"import tcja_gen as tg\nfor settings in {trainings!r}:\n    tg.train(**settings)\n")
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", str(code)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(launch, capture_output=True, text=True, timeout=300, env=environment)
    assert done.returncode == 0, done.stderr
    return folder


@pytest.mark.slow
@pytest.mark.parametrize("name", TRAINED_TOGETHER)
def test_two_processes_follow_the_course_of_one(of_two_processes, tmp_path, name):
    courses = []
    for run in (train(tmp_path / "one", **TRAINED_TOGETHER[name]).folder, of_two_processes / name):
        records = [json.loads(line) for line in (run / "stats.jsonl").read_text().splitlines()]
        steps = [record for record in records if "loss" in record]
        courses.append([(record["loss"], record["gradient_norm"]) for record in steps])
    for one, two in zip(*courses, strict=True):  # the second step's weights come of the first one's gradients
        assert two == pytest.approx(one, rel=1e-4)


def classify(out, **changes):
    model = {"encoder": "8C3-TCJA-MP2-16C3-TCJA-MP2", "time_steps": 3, "head": "DP.5-24FC-10L"}
    settings = {"task": "classify", "steps": 12, "batch": 32, "log_every": 3, "checkpoint_every": 6, "compile": "off"}
    return tg.train(out=str(out), quiet=True, **{**settings, "device": "cpu", "model": model, **changes})


def test_a_classifier_learns_the_digits_and_is_judged_by_its_accuracy(tmp_path):
    run = classify(tmp_path / "run", steps=200, lr=5e-3, ema=0.9, checkpoint_every=50)
    validation = run.model.provenance["validation"]
    assert validation["accuracy"] > 0.8 and run.model.provenance["data"]["classes"] == [str(d) for d in range(10)]


def test_a_resumed_classifier_is_the_one_that_was_not_stopped(tmp_path):
    whole = classify(tmp_path / "whole", mixup=0.5)
    half = classify(tmp_path / "half", mixup=0.5, steps=12)
    shutil.rmtree(half.folder / "checkpoints" / "step-000012")  # as if it had been killed after step 6
    tg.resume(half.folder, quiet=True)
    one, two = (load_file(run.folder / "checkpoints/step-000012/model.safetensors") for run in (whole, half))
    assert all(torch.equal(one[name], two[name]) for name in one)


@pytest.mark.parametrize(("kind", "against"), [("poisson", {}), ("gaussian", {}), ("poisson", AGAINST)])
def test_a_resumed_generator_of_another_latent_is_the_one_that_was_not_stopped(tmp_path, kind, against):
    settings = {"model": LATENT_KINDS[kind], "prior_lr": 10.0 if kind == "poisson" else 1.0, **against}
    whole = train(tmp_path / "whole", **settings)
    half = train(tmp_path / "half", **settings)
    shutil.rmtree(half.folder / "checkpoints" / "step-000012")  # as if it had been killed after step 6
    tg.resume(half.folder, quiet=True)
    assert_same(whole.folder, half.folder, "step-000012")


def test_the_prior_learns_by_a_learning_rate_of_its_own(tmp_path):
    settings = {"steps": 1, "warmup": 0, "ema": 0.0, "weight_decay": 0.0, "model": LATENT_KINDS["poisson"]}
    states = []
    for name, factor in (("start", 1e-6), ("one", 1.0), ("ten", 10.0)):
        start = {"lr": 1e-9} if name == "start" else {"lr": 1e-3}
        run = train(tmp_path / name, **settings, **start, prior_lr=factor)
        states.append(load_file(run.folder / "checkpoints/step-000001/model.safetensors"))
    start, one, ten = states
    moved = [state["latent.prior.weight"] - start["latent.prior.weight"] for state in (one, ten)]
    torch.testing.assert_close(moved[1], 10 * moved[0], rtol=1e-2, atol=1e-6)
    assert torch.equal(one["decoder.last.weight"], ten["decoder.last.weight"])


def test_a_frozen_encoder_stays_what_it_was_and_a_handed_on_one_starts_there(tmp_path):
    model = {"encoder": "8C3s2-TCJA-16C3s2-TCJA", "time_steps": 8}
    generator = train(tmp_path / "generator")
    probe = classify(tmp_path / "probe", model=model, init_from=str(generator.folder), freeze=True, ema=0.0)
    before, after = generator.model.encoder.state_dict(), probe.model.encoder.state_dict()
    assert all(torch.equal(before[name], after[name]) for name in before)
    random = classify(tmp_path / "random", model=model, freeze=True, ema=0.0).model.encoder.state_dict()
    assert random["stages.0.neurons.running_var"].ne(1).any()  # or it would be dead
    tuned = classify(tmp_path / "tuned", model=model, init_from=str(generator.folder), steps=1, lr=1e-6, ema=0.0)
    name = "stages.0.weights.weight"
    assert torch.allclose(tuned.model.encoder.state_dict()[name], before[name], atol=1e-5)
    again = train(tmp_path / "again", init_from=str(probe.folder), steps=1, lr=1e-6, ema=0.0)
    assert torch.allclose(again.model.encoder.state_dict()[name], before[name], atol=1e-5)


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({"model": {"latent": {"channels": 32}}}, "unknown key 'model.latent'"),
        ({"objective": {"classification": {"tet_mean": 2.0}}}, "unknown key 'objective.classification.tet_mean'"),
        ({"model": {"head": "3L"}}, "names 3 classes, the data have 10"),
        ({"model": {"classes": 5}}, "10 classes in the data, model.classes is 5"),
        (
            {"task": "generate", "objective": {"classification": {"kind": "tet"}}},
            "has no meaning in a generator without",
        ),
        ({"task": "generate", "model": {"latent": {"kind": "poisson", "k": 3}}}, "unknown key 'model.latent.k'"),
        ({"task": "generate", "mixup": 0.5}, "mixup blends samples of classes"),
        ({"events_by": "time"}, "events_by has no meaning here"),
        ({"augment": "flip,spin"}, "unknown augmentation 'spin': take some of flip, roll"),
        ({"augment": "nda"}, "augment is for event frames"),
        ({"objective": DISCRIMINATOR}, "objective.adversarial has no meaning with task = 'classify'"),
        (
            {"task": "generate", "objective": {"adversarial": {"network": "4C3-10L"}}},
            "notation '4C3-10L' at '10L'",
        ),
        ({"task": "generate", "objective": {"adversarial": {"weight": -0.1}}}, "weight is -0.1, it must be positive"),
        ({"sample_every": 7}, "sample_every has no meaning with task = 'classify'"),
        ({"model": {"image_width": 12}}, "image_width has no meaning without model.image_size"),
        ({"model": {"encoder": "8C3-SE(4,2)"}}, "SE has no kernels"),
        ({"model": {"encoder": "8C3-8R3[TA(2,2)]"}}, "TA has no kernels"),
        ({"task": "generate", "fit": "autoencoder", "prior_lr": 3.0}, "prior_lr has no meaning here: no prior"),
        ({"prior_lr": 2.0}, "prior_lr has no meaning here: no prior is trained"),
        ({"task": "generate", "prior_lr": 2.0, "model": LATENT_KINDS["gaussian"]}, "prior_lr has no meaning here"),
        ({"task": "generate", "fit": "prior", "freeze": True}, "freeze has no meaning with fit = 'prior'"),
        (
            {
                "task": "generate",
                "fit": "prior",
                "model": {"head": "10L"},
                "objective": {"classification": {"weight": 2.0}},
            },
            "objective.classification has no meaning with fit = 'prior'",
        ),
        (
            {"task": "generate", "fit": "prior", "model": {"latent": {"divergence_weight": 0.0}}},
            "nothing would be trained",
        ),
        ({"task": "generate", "model": {"latent": {"scheduled": {"end": 0.5}}}}, "scheduled.end has no effect"),
        ({"task": "generate", "model": {"latent": {"scheduled": {"first": 9}}}}, "scheduled.first has no effect"),
        ({"task": "generate", "model": {"classes": 12}}, "classes has no meaning without model.head or"),
        ({"init": "encoder"}, "init = 'encoder' has no meaning without init_from"),
    ],
)
def test_settings_that_nothing_would_look_at_are_refused(tmp_path, settings, named):
    with pytest.raises(ValueError, match=named):
        tg.train(out=str(tmp_path / "run"), quiet=True, steps=1, device="cpu", **{"task": "classify", **settings})
    assert not (tmp_path / "run").exists()


PARTS = [
    *(Config, Generator, Classifier, ScheduledSampling, Perceptual, Adversarial),
    *latent_settings().values(),
    *OBJECTIVES.values(),
]
RANGES = [(part, f) for part in PARTS for f in fields(part) if "range" in f.metadata]


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -1.0, -1])
@pytest.mark.parametrize(("part", "f"), RANGES, ids=lambda x: getattr(x, "name", None) or x.__name__)
def test_numbers_that_make_no_sense_are_refused_by_name(part, f, value):
    if f.name in ("tet_mean", "fold") and value == -1:
        return  # outputs may be drawn to any number; fold -1 is chosen by the seed
    with pytest.raises(ValueError, match=f"{f.name} is {value}, it must"):
        part(**{f.name: value})


@pytest.mark.parametrize(
    ("make", "told"),
    [
        (lambda: Generator(time_steps=3.0), "time_steps is 3.0, it must be a whole number"),
        (lambda: Config(steps=True), "steps is True, it must be a whole number"),
        (lambda: Neuron(decay_input="no"), "decay_input is 'no', it must be True or False"),
    ],
)
def test_numbers_that_are_not_whole_and_words_for_flags_are_refused(make, told):
    with pytest.raises(UserError, match=told):
        make()


def test_every_number_has_a_range():
    numbers = [(part, f) for part in PARTS for f in fields(part) if f.type in (int, float)]
    assert [(part.__name__, f.name) for part, f in numbers if "range" not in f.metadata] == []


def test_the_defaults_and_every_kind_of_them_go_together():
    for kind in ("bernoulli", "poisson", "codes"):
        for fit in ("all", "autoencoder", "decoder", "prior"):
            check(Config(fit=fit, model=Generator(latent=latent_settings()[kind]())))
    check(Config(task="classify"))


def test_a_run_that_goes_on_stays_in_its_folder(whole, tmp_path):
    with pytest.raises(ValueError, match="leave out --out"):
        tg.resume(whole.folder, quiet=True, out=str(tmp_path / "other"))
    with pytest.raises(ValueError, match="leave out --init-from digits"):
        tg.resume(whole.folder, quiet=True, init_from="digits")
    assert not (tmp_path / "other").exists()


CODES = {
    "encoder": "8C3s2-TCJA",
    "decoder": "8C3-8R3[TCJA]-8T4s2",
    "latent": {"kind": "codes", "channels": 2, "prior": "8C3-8R3[TCJA]", "rounds": 4},
    "time_steps": 2,
}


def test_a_prior_is_fitted_to_the_frozen_codes_of_another_run(tmp_path):
    first = train(tmp_path / "first", model=CODES, fit="autoencoder")
    before = load_file(first.folder / "checkpoints" / "step-000012" / "model.safetensors")
    second = train(tmp_path / "second", model=CODES, fit="prior", init_from=str(first.folder))
    after = load_file(second.folder / "checkpoints" / "step-000012" / "model.safetensors")
    assert all(torch.equal(before[name], after[name]) for name in before if not name.startswith("latent.prior."))
    assert not torch.equal(before["latent.prior.logits.weight"], after["latent.prior.logits.weight"])
    images = second.model.sample(range(3))
    assert torch.equal(images[1:2], second.model.sample([1]))
    lines = [json.loads(line) for line in (second.folder / "stats.jsonl").read_text().splitlines()]
    assert "reconstruction" not in lines[0] and lines[-1]["validation_divergence"] > 0


def test_a_prior_that_is_fitted_may_be_another_one_than_the_runs(tmp_path):
    first = train(tmp_path / "first", model=CODES, fit="autoencoder", steps=1)
    model = {**CODES, "latent": {**CODES["latent"], "prior": "4C3"}}
    other = train(tmp_path / "other", model=model, fit="prior", init_from=str(first.folder), steps=1)
    images = torch.rand(2, 1, 8, 8)
    assert torch.equal(first.model.encode(images), other.model.encode(images))
    assert other.model.latent.prior.trunk.shape == (4, 4, 4)


def test_killed_while_fitting_a_prior_a_run_goes_on_to_the_same_weights(tmp_path):
    first = train(tmp_path / "first", model=CODES, fit="autoencoder", steps=1)
    settings = {"model": CODES, "fit": "prior", "init_from": str(first.folder)}
    whole = train(tmp_path / "whole", **settings)
    half = train(tmp_path / "half", **settings)
    shutil.rmtree(half.folder / "checkpoints" / "step-000012")
    tg.resume(half.folder, quiet=True)
    assert_same(whole.folder, half.folder, "step-000012")


def test_fitting_a_prior_needs_a_run_and_weights(tmp_path):
    with pytest.raises(ValueError, match="fit = 'prior' needs --init-from"):
        train(tmp_path / "a", model=CODES, fit="prior")
    with pytest.raises(ValueError, match="the prior of this latent has no weights, there are no stages"):
        train(tmp_path / "b", model=LATENT_KINDS["gaussian"], fit="autoencoder")


@pytest.fixture
def quick(monkeypatch):
    """The network of a perceptual loss is trained for 8 steps."""
    monkeypatch.setattr(classifier, "classifier_steps", lambda n, network="plain": 8)
    monkeypatch.setattr("tcja_gen.metrics.autoencoder.default_steps", lambda n: 8)


@pytest.mark.parametrize("network", ["plain", "residual"])
def test_a_decoder_is_refined_by_what_a_classifier_sees_while_codes_stay(quick, tmp_path, network):
    first = train(tmp_path / "first", model=CODES, fit="autoencoder")
    second = train(
        tmp_path / "second",
        model=CODES,
        fit="decoder",
        init_from=str(first.folder),
        objective={"perceptual": {"weight": 0.5, "network": network}},
    )
    before, after = (load_file(r.folder / "checkpoints" / "step-000012" / "model.safetensors") for r in (first, second))
    same = {name for name in before if torch.equal(before[name], after[name])}
    assert {name for name in before if not name.startswith("decoder.")} <= same
    assert "decoder.last.weight" not in same
    lines = [json.loads(line) for line in (second.folder / "stats.jsonl").read_text().splitlines()]
    assert lines[0]["perceptual"] > 0
    assert lines[0]["loss"] == pytest.approx(lines[0]["perceptual"] + lines[0]["reconstruction"])


def colour_folder(folder):
    """Colour images without labels."""
    folder.mkdir()
    for i in range(40):
        Image.new("RGB", (8, 8), (6 * i, 255 - 6 * i, 90)).save(folder / f"{i}.png")
    return folder


def test_a_perceptual_loss_needs_labels_and_images_to_compare(tmp_path):
    for i in range(20):
        (tmp_path / "flat").mkdir(exist_ok=True)
        Image.new("L", (8, 8), 10 * i).save(tmp_path / "flat" / f"{i}.png")
    with pytest.raises(ValueError, match="no labels"):
        train(tmp_path / "a", data=str(tmp_path / "flat"), model=CODES, objective={"perceptual": {}})
    with pytest.raises(ValueError, match="perceptual has no meaning with fit = 'prior'"):
        train(tmp_path / "b", model=CODES, fit="prior", init_from="x", objective={"perceptual": {}})


def test_a_generator_trains_against_a_discriminator_that_is_not_kept_with_it(tmp_path):
    plain = train(tmp_path / "plain", model=LATENT_KINDS["poisson"])
    run = train(tmp_path / "run", model=LATENT_KINDS["poisson"], **AGAINST)
    one, other = (load_file(r.folder / "checkpoints" / "step-000012" / "model.safetensors") for r in (plain, run))
    assert one.keys() == other.keys() and not torch.equal(one["decoder.last.weight"], other["decoder.last.weight"])
    lines = [json.loads(line) for line in (run.folder / "stats.jsonl").read_text().splitlines()]
    parts = ("reconstruction", "divergence", "adversarial")
    assert lines[0]["loss"] == pytest.approx(sum(lines[0][part] for part in parts))
    assert "validation_reconstruction" in lines[-1] and "validation_adversarial" not in lines[-1]  # it judges nothing


BITS = {**BACKBONE, "latent": {"channels": 8, "k": 4}, "time_steps": 4}


@pytest.fixture(scope="module")
def autoencoder(tmp_path_factory):
    return train(tmp_path_factory.mktemp("runs") / "autoencoder", model=BITS, fit="autoencoder", steps=6)


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({"model": {"neuron": "fsvae"}}, "neuron is 'tcja' there, 'fsvae' here"),
        ({"model": {"surrogate": "box"}}, "neuron is 'tcja' there, 'tcja with surrogate box' here"),
        ({"model": {"readout": "mean"}}, "readout is 'membrane' there, 'mean' here"),
        ({"model": {"time_steps": 8}}, "time_steps is 4 there, 8 here"),
        ({"model": {"latent": {"kind": "poisson"}}}, "latent is 'BernoulliLatent' there, 'PoissonLatent' here"),
        ({"model": {"encoder": "8C3s2-TCJA-16C5s2-TCJA"}}, "does not fit this model: (encoder.stages.2|decoder)"),
        ({"data": "others"}, "trained on other images .digits. than those of this training"),
    ],
)
def test_a_fit_names_what_is_unlike_in_the_run_that_it_starts_from(autoencoder, tmp_path, settings, named):
    if "data" in settings:
        for i in range(40):
            (tmp_path / "others").mkdir(exist_ok=True)
            Image.new("L", (8, 8), 6 * i).save(tmp_path / "others" / f"{i}.png")
        settings = {"data": str(tmp_path / "others")}
    settings = settings | {"model": BITS | settings.get("model", {})}
    with pytest.raises(ValueError, match=named) as error:
        train(tmp_path / "run", **settings, fit="prior", init_from=str(autoencoder.folder), steps=1)
    assert "\n" not in str(error.value) and not (tmp_path / "run").exists()


@pytest.mark.parametrize("change", ["neuron", "T", "stride", "pooling"])
def test_an_encoder_of_other_neurons_time_or_strides_is_not_taken_for_the_same(autoencoder, tmp_path, change):
    model = {"encoder": "8C3s2-16C3s2", "time_steps": 4}
    first = classify(tmp_path / "first", model=model | {"encoder": "8C3s2-MP2-8C3"}, steps=1)
    changed = {"neuron": {"neuron": "tet"}, "T": {"time_steps": 5}, "stride": {"encoder": "8C3-MP2-8C3"}}
    changed["pooling"] = {"encoder": "8C3s2-AP2-8C3"}
    model = model | {"encoder": "8C3s2-MP2-8C3"} | changed[change]
    with pytest.raises(ValueError, match="it does not fit this model: (neuron|time_steps|encoder) is"):
        classify(tmp_path / "second", model=model, init_from=str(first.folder), steps=1)


def test_a_prior_that_was_never_trained_is_not_sampled_and_its_run_says_so(autoencoder, tmp_path):
    images, model = torch.rand(2, 1, 8, 8), autoencoder.model
    assert not (autoencoder.folder / "samples").exists() and (autoencoder.folder / "reconstructions").exists()
    for use in (lambda: model.sample([0]), lambda: model.film([0]), lambda: tg.evaluate(model, "digits", ["fad"])):
        with pytest.raises(ValueError, match="prior was never trained .autoencoder only."):
            use()
    assert model.reconstruct(images).shape == images.shape == model.interpolate(*images, 2).shape
    assert "reconstruction" in tg.evaluate(model, "digits", ["reconstruction"], n=16)["scores"]
    settings = {"model": BITS, "steps": 2, "checkpoint_every": 1}
    decoder = train(tmp_path / "decoder", **settings, fit="decoder", init_from=str(autoencoder.folder))
    with pytest.raises(ValueError, match="autoencoder and decoder only"):
        decoder.model.sample([0])
    prior = train(tmp_path / "prior", **settings, fit="prior", init_from=str(decoder.folder))
    assert prior.model.sample([0]).shape == (1, 1, 8, 8)
    again = train(tmp_path / "again", **settings, fit="decoder", init_from=str(prior.folder))
    shutil.rmtree(again.folder / "checkpoints" / "step-000002")
    shutil.rmtree(prior.folder)
    assert tg.resume(again.folder, quiet=True).model.sample([0]).shape == (1, 1, 8, 8)


def test_pictures_in_between_leave_frozen_parts_as_they_are(autoencoder, tmp_path):
    """With fit = prior, the encoder's statistics are those that the codes were made by."""
    settings = {"model": BITS, "fit": "prior", "init_from": str(autoencoder.folder), "ema": 0.0, "sample_every": 1}
    run = train(tmp_path / "run", **settings, steps=4)
    before, after = autoencoder.model.state_dict(), run.model.state_dict()
    assert all(torch.equal(before[name], after[name]) for name in before if not name.startswith("latent.prior."))


@pytest.mark.parametrize("network", ["plain", "autoencoder"])
def test_a_run_trains_on_by_the_network_of_its_loss_that_it_began_with(quick, tmp_path, monkeypatch, network):
    """Wherever it is resumed: the cache of another machine has another one, or none. An autoencoder needs no labels."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "here"))
    settings = {
        "data": "digits" if network == "plain" else str(colour_folder(tmp_path / "faces")),
        "model": CODES,
        "objective": {"perceptual": {"weight": 0.5, "network": network}},
        "steps": 4,
        "checkpoint_every": 2,
        "sample_every": 0,
    }
    whole, half = (train(tmp_path / name, **settings) for name in ("whole", "half"))
    kept = {path.name.split("-")[0] for path in (tmp_path / "here").rglob("*.safetensors")}
    assert kept == {"autoencoder" if network == "autoencoder" else "classifier"}
    shutil.rmtree(half.folder / "checkpoints" / "step-000004")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "there"))
    tg.resume(half.folder, quiet=True)
    assert not list((tmp_path / "there").rglob("*.safetensors"))
    assert_same(whole.folder, half.folder, "step-000004")
