"""Starting from the weights of another run, and training longer than was asked for."""

import shutil

import pytest
import torch
from test_runs import CODES, classify, train

import tcja_gen as tg
from tcja_gen.errors import UserError
from tcja_gen.models import FITS
from tcja_gen.training.adoption import stages

STILL = {"steps": 1, "lr": 1e-9, "weight_decay": 0.0, "ema": 0.0, "sample_every": 0}  # weights stay as they began
MODEL = {"encoder": "8C3s2-TCJA-16C3s2-TCJA", "latent": {"channels": 8, "k": 4}, "time_steps": 4}


@pytest.fixture(scope="module")
def first(tmp_path_factory):
    return train(tmp_path_factory.mktemp("runs") / "first", model=MODEL, steps=4, sample_every=0)


def alike(a: torch.nn.Module, b: torch.nn.Module) -> set[str]:
    """The parts whose weights are those of the other model, but for a step of next to no length."""
    one, other, unlike, parts = a.state_dict(), b.state_dict(), set(), set()
    for name in one.keys() & other.keys():
        if "running" in name or "batches" in name:  # statistics, which a step moves
            continue
        part = ".".join(name.split(".")[: 2 if name.startswith("latent.") else 1])
        parts.add(part)
        if one[name].shape != other[name].shape or not torch.allclose(one[name], other[name], atol=1e-6):
            unlike.add(part)
    return parts - unlike


def line(run) -> str:
    """What the run says of where its weights come from."""
    return next(line for line in (run.folder / "log.txt").read_text().splitlines() if line.startswith("from "))


ALL = {"decoder", "encoder", "latent.entry", "latent.posterior", "latent.prior"}


@pytest.mark.parametrize("init", ["all", "encoder", "auto"])
def test_a_run_begins_with_all_weights_of_another_or_with_its_encoder(first, tmp_path, init):
    run = train(tmp_path / "run", model=MODEL, init_from=str(first.folder), init=init, **STILL)
    taken = ALL if init == "all" else {"encoder"}
    assert alike(run.model, first.model) == taken
    told = line(run)
    assert told.startswith(f"from {first.folder}: takes over {', '.join(sorted(taken))}")
    if init == "all":
        assert "; new" not in told and "; left" not in told
        assert run.model.provenance["stages"] == ["all", "all"]
    else:
        rest = ", ".join(sorted(ALL - {"encoder"}))
        assert told.endswith(f"; new {rest}; left {rest}") and run.model.provenance["stages"] == ["all"]


def test_the_weights_that_come_with_the_package_are_a_start_by_name(tmp_path):
    settings = {"device": "cpu", "quiet": True, "compile": "off", "init_from": "digits", **STILL}
    digits = tg.pretrained("digits")
    whole = tg.train("digits", out=str(tmp_path / "whole"), init="all", **settings)
    assert alike(whole.model, digits) == ALL and line(whole).startswith("from digits: takes over decoder, encoder, ")
    model = {"encoder": "16C3-TCJA-32C3s2-TCJA", "head": "10L"}
    labels = tg.train(task="classify", model=model, out=str(tmp_path / "labels"), **{**settings, "sample_every": 500})
    assert alike(labels.model, digits) == {"encoder"}
    assert "takes over encoder; new head; left decoder, latent.entry" in line(labels)


def test_all_weights_may_be_trained_on_other_data(first, tmp_path):
    images = torch.randint(0, 256, (60, 1, 8, 8), dtype=torch.uint8)
    run = train(tmp_path / "run", model=MODEL, init_from=str(first.folder), init="all", data=images, **STILL)
    assert alike(run.model, first.model) == ALL and run.model.provenance["data"]["name"] == "images"


def test_a_prior_is_new_or_with_all_the_one_that_was_there(tmp_path):
    codes = train(tmp_path / "codes", model=CODES, fit="autoencoder", **STILL)
    prior = train(tmp_path / "prior", model=CODES, fit="prior", init_from=str(codes.folder), **STILL | {"seed": 1})
    assert alike(prior.model, codes.model) == {"decoder", "encoder", "latent.entry"}
    assert line(prior).endswith("takes over decoder, encoder, latent.entry; new latent.prior; left latent.prior")
    again = train(tmp_path / "again", model=CODES, fit="prior", init="all", init_from=str(prior.folder), **STILL)
    assert alike(again.model, prior.model) == {"decoder", "encoder", "latent.entry", "latent.prior"}
    assert again.model.provenance["stages"] == ["autoencoder", "prior", "prior"]


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"init_from": "nothing"}, "nothing: no such run or checkpoint; give a run folder"),
        ({"init": "all"}, "init = 'all' has no meaning without init_from"),
        ({"init": "encoder", "fit": "prior"}, "init = 'encoder': fit = 'prior' needs all weights of the run"),
        ({"init": "all", "model": {"time_steps": 3}}, "time_steps is 4 there, 3 here"),
        ({"init": "all", "model": {"neuron": "tet"}}, "neuron is 'tcja' there, 'tet' here"),
        ({"init": "all", "model": {"readout": "mean"}}, "readout is 'membrane' there, 'mean' here"),
        ({"init": "all", "model": {"latent": {"kind": "poisson"}}}, "latent is 'BernoulliLatent' there"),
        ({"init": "all", "model": {"latent": {"channels": 9}}}, "does not fit this model: decoder.project"),
        ({"init": "all", "model": {"decoder": "8T3s2-8T3s2"}}, "does not fit this model: decoder"),
        ({"model": {"encoder": "8C3s2-16C3s2"}}, "does not fit this model: encoder.stages.1"),
        ({"init": "none"}, "key 'init' is 'none'; known: auto, all, encoder"),
    ],
)
def test_weights_that_do_not_fit_are_told_in_one_line_and_no_run_begins(first, tmp_path, settings, says):
    start = {} if settings == {"init": "all"} else {"init_from": str(first.folder)}
    settings = {**start, **settings, "model": MODEL | settings.get("model", {})}
    with pytest.raises((UserError, FileNotFoundError)) as error:
        train(tmp_path / "run", steps=1, **settings)
    assert says in str(error.value) and "\n" not in str(error.value)
    assert not (tmp_path / "run").exists()


def test_images_are_square(tmp_path):
    with pytest.raises(UserError, match="digits: images, .* model.image_width is for event recordings"):
        classify(tmp_path / "run", model={"image_size": 8, "image_width": 6}, steps=1)


def test_a_prior_that_is_kept_keeps_what_it_was_trained_for(tmp_path):
    codes = train(tmp_path / "codes", model=CODES, **STILL)
    for name, value in (("order", "rows"), ("random_masks", 0.5)):
        other = CODES | {"latent": CODES["latent"] | {name: value}}
        with pytest.raises(UserError, match=f"{name} is .* there, {value!r} here"):
            train(tmp_path / "run", model=other, fit="decoder", init_from=str(codes.folder), **STILL)
    train(tmp_path / "new", model=other, fit="prior", init_from=str(codes.folder), **STILL)  # another prior


def test_all_of_a_classifier_is_no_start_of_a_generator(tmp_path):
    model = {"encoder": MODEL["encoder"], "time_steps": 4}
    labels = classify(tmp_path / "labels", model=model, steps=1)
    with pytest.raises(UserError, match="a classifier, and this is a generator$"):
        train(tmp_path / "run", model=CODES, fit="prior", init_from=str(labels.folder))
    with pytest.raises(UserError, match="a classifier, and this is a generator: --init encoder takes only its encoder"):
        train(tmp_path / "run", model=MODEL, init_from=str(labels.folder), init="all")


def test_more_steps_are_another_run_and_the_command_is_told(first, tmp_path):
    with pytest.raises(UserError) as error:
        tg.resume(first.folder, steps=8, quiet=True)
    told, file = str(error.value), first.folder / "config.toml"
    assert "a resumed run keeps its settings, but steps: 4 -> 8" in told
    command = f"tcja-gen train {file} --init-from {first.folder} --init all --out OTHER --steps N"
    assert command in told
    longer = tg.train(file, init_from=str(first.folder), init="all", out=str(tmp_path / "longer"), steps=2, quiet=True)
    assert longer.finished and longer.model.provenance["stages"] == ["all", "all"]
    with pytest.raises(UserError, match="steps: 4 -> 8; lr: 0.002 -> 0.1; start a new run"):
        tg.resume(first.folder, steps=8, lr=0.1, quiet=True)


def test_a_run_of_a_version_before_this_one_is_a_start_and_cannot_be_resumed(first, tmp_path):
    old = shutil.copytree(first.folder, tmp_path / "old")
    (old / "config.toml").write_text("steps = 4\n[model]\nlatent = 8\nk = 4\n")
    with pytest.raises(UserError, match=f"a run of an earlier version, .* --init-from {old} --init all starts from"):
        tg.resume(old, quiet=True)
    run = train(tmp_path / "run", model=MODEL, init_from=str(old), init="all", **STILL)
    assert alike(run.model, first.model) == ALL


@pytest.mark.parametrize(
    ("fit", "before", "init", "found"),
    [
        ("all", None, "auto", ["all"]),
        ("all", ["all"], "encoder", ["all"]),
        ("all", ["all"], "all", ["all", "all"]),
        ("all", None, "all", None),  # of a file that does not tell
        ("autoencoder", None, "auto", ["autoencoder"]),
        ("prior", ["autoencoder"], "auto", ["autoencoder", "prior"]),
        ("decoder", None, "auto", None),
    ],
)
def test_weights_know_the_fits_that_made_them(first, fit, before, init, found):
    assert stages(FITS[fit], first.model, before, init) == found
