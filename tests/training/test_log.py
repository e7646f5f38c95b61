"""What a training tells other programs: TensorBoard, and functions of the user's."""

from pathlib import Path

import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

import tcja_gen as tg
from tcja_gen.cli import main

SETTINGS = {"batch": 8, "compile": "off", "device": "cpu", "quiet": True, "log_every": 2, "data": "digits"}
MODEL = {"encoder": "4C3s2-TCJA", "latent": {"channels": 4, "k": 2}, "time_steps": 2}


@pytest.fixture(scope="module")
def told() -> list:
    return []


@pytest.fixture(scope="module")
def run(told, tmp_path_factory) -> Path:
    out = str(tmp_path_factory.mktemp("runs") / "r")
    on_record = lambda *record: told.append(record)  # noqa: E731
    return tg.train(out=out, model=MODEL, steps=4, on_record=on_record, **SETTINGS).folder


def test_tensorboard_has_losses_rates_pictures_settings_and_scores(run, capsys):
    assert main(["evaluate", str(run), "--metrics", "reconstruction", "--n", "16"]) == 0
    board = EventAccumulator(str(run)).Reload()
    scalars = set(board.Tags()["scalars"])
    assert scalars >= {"loss", "lr", "validation_loss", "firing_rate", "score/reconstruction"}
    assert scalars >= {"firing_rate_of/encoder.stages.0", "dead_of/encoder.stages.0"}
    assert {*board.Tags()["images"]} == {"samples", "reconstructions"}
    assert "steps = 4" in board.Tensors("settings/text_summary")[0].tensor_proto.string_val[0].decode()
    assert board.Scalars("score/reconstruction")[0].step == 4


def test_a_function_of_the_users_gets_all_that_is_recorded(run, told):
    steps, values, images = zip(*told, strict=True)
    assert [*steps] == [2, 4, 4, 4]
    assert {"loss", "firing_rate_of/encoder.stages.0"} <= {*values[0]} and "validation_loss" in values[2]
    assert all(type(value) in (int, float) for each in values for value in each.values())
    assert {*images[3]} == {"samples", "reconstructions"}
    assert images[3]["samples"].dtype == torch.uint8 and images[3]["samples"].dim() == 3


def test_what_the_function_raises_ends_the_training(tmp_path):
    def stop(step, values, images):
        raise KeyError("enough")

    with pytest.raises(KeyError, match="enough"):
        tg.train(out=str(tmp_path / "r"), model=MODEL, steps=4, on_record=stop, **SETTINGS)


def test_a_resumed_run_and_every_stage_tell_the_function(tmp_path):
    told, stages = [], [{"name": name, "steps": 2, "fit": fit} for name, fit in (("a", "autoencoder"), ("p", "prior"))]

    def listen(step, values, images):
        told.append((step, *values, *images))

    model = MODEL | {"latent": {"kind": "codes", "channels": 2, "rounds": 2, "prior": "4C3"}}
    settings = {**SETTINGS, "out": str(tmp_path / "r"), "model": model, "stages": stages}
    run = tg.train(**settings, on_record=listen)
    assert sum("loss" in record for record in told) == 2 and sum("reconstructions" in record for record in told) == 2
    told.clear()
    assert tg.resume(run.folder, stage="p", quiet=True, on_record=listen).finished
    assert sum("loss" in record for record in told) == 1
