"""Generators of event recordings, from training to files that a sensor could have written."""

import json
import shutil
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from event_bytes import bin_file
from PIL import Image

import tcja_gen as tg
from tcja_gen.cli import main
from tcja_gen.data import Events, integrate, load_events, moving, read_events, record, write_events
from tcja_gen.errors import UserError
from tcja_gen.evaluation import compare, prediction
from tcja_gen.evaluation.recordings import draw_times, drawn_counts, write_recordings
from tcja_gen.models import build, store

SIZE = {"image_size": 12, "image_channels": 2, "time_steps": 3}
CODES = {"kind": "codes", "channels": 2, "prior": "8C3", "rounds": 4}
FRAMES = SIZE | {"encoder": "8C3s2-TCJA-8C3s2", "readout": "frames", "full_count": 4, "latent": CODES}


@pytest.fixture(scope="module")
def clips(tmp_path_factory):
    """A bar that lies and one that stands, filmed by a sensor of 12 x 12 pixels."""
    folder = tmp_path_factory.mktemp("data") / "bars"
    for i in range(12):
        for name, image in {"lying": np.zeros((8, 8)), "standing": np.zeros((8, 8)).T}.items():
            image[3 + i % 2] = 1
            film = moving(image if name == "lying" else image.T, (12, 12), frames=13, reach=2)
            write_events(folder / name / f"{i}.npz", record(film))
    return folder


@pytest.fixture(scope="module")
def run(clips, tmp_path_factory):
    """A conditional generator of the clips, hardly trained."""
    how = {"steps": 2, "batch": 4, "warmup": 0, "sample_every": 1, "events_by": "time"}
    out = tmp_path_factory.mktemp("runs") / "bars"
    latent = CODES | {"conditional": True}
    return tg.train(
        data=str(clips), out=str(out), quiet=True, model=FRAMES | {"full_count": 0, "latent": latent}, **how
    )


@pytest.fixture(scope="module")
def classifier(clips, tmp_path_factory):
    how = {"steps": 2, "batch": 4, "warmup": 0, "events_by": "time", "task": "classify"}
    out = tmp_path_factory.mktemp("runs") / "classifier"
    return tg.train(data=str(clips), out=str(out), quiet=True, model=SIZE | {"encoder": "8C3s2"}, **how)


def told(capsys) -> str:
    """The one line of a mistake."""
    lines = capsys.readouterr().err.strip().splitlines()
    assert len(lines) == 1 and lines[0].startswith("tcja-gen: "), lines
    return lines[0]


# the model


def test_a_seed_gives_the_same_frames_whichever_others_are_made_with_it():
    model = build(FRAMES)
    frames = model.sample([5, 6, 7])
    assert frames.shape == (3, 3, 2, 12, 12) and 0 <= frames.min() <= frames.max() <= 4
    assert torch.equal(model.sample([7]), frames[2:]) and torch.equal(model.film([5]), frames[:1])


def test_frames_at_first_are_read_from_the_spikes_of_their_own_step():
    readout = build(FRAMES).decoder.readout
    layer = torch.nn.ConvTranspose2d(4, 2, 3, 1, 1)
    x = (torch.rand(3, 2, 4, 12, 12) < 0.3).float()
    frames = readout(x, layer)
    for t in range(3):
        assert torch.allclose(frames[t], torch.tanh(layer(x[t])), atol=1e-6)


def test_the_loss_is_the_error_of_all_frames_with_counts_cut_off_at_full():
    model = build(FRAMES).eval()
    counts = torch.randint(0, 9, (2, 3, 2, 12, 12)).float()
    again = model.reconstruct(counts)
    error = ((again - counts.clamp(max=4)) / 4 * 2).square().mean()
    with torch.no_grad():
        loss = model(counts.transpose(0, 1), tg.nn.ImageDraws([0, 1], "cpu"))["reconstruction"]
    assert torch.allclose(loss, error, rtol=1e-4)


def test_counts_are_wanted_and_not_images():
    with pytest.raises(UserError, match="frames"):
        build(FRAMES).reconstruct(torch.rand(2, 2, 12, 12))


@pytest.mark.parametrize("change", [{"readout": "membrane"}, {"image_channels": 1}])
def test_readouts_of_images_make_no_frames_and_the_other_way_round(change):
    with pytest.raises(UserError, match="readout"):
        build(FRAMES | change)


def test_a_full_count_of_images_is_refused():
    with pytest.raises(UserError, match="full_count"):
        build({"full_count": 3})


# recordings


def test_poisson_draws_have_the_expected_mean_and_variance():
    mean = torch.tensor([0.0, 0.3, 2.0, 7.0]).view(1, 1, 1, 1, 4).expand(64, 2, 2, 200, 4)
    counts = drawn_counts(mean, range(64)).flatten(0, 3).double()
    assert torch.allclose(counts.mean(0), mean[0, 0, 0, 0].double(), rtol=0.05)
    assert torch.allclose(counts.var(0), mean[0, 0, 0, 0].double(), rtol=0.1)
    assert torch.equal(drawn_counts(mean[:2], [3, 63])[1], drawn_counts(mean, range(64))[63])


def test_many_events_in_a_pixel_are_drawn_and_leave_the_draws_of_few_as_they_are():
    mean = torch.tensor([0.3, 480.0, 746.0, 3000.0]).view(1, 1, 1, 1, 4).expand(8, 2, 2, 200, 4)
    counts = drawn_counts(mean, range(8))
    found = counts.flatten(0, 3).double()
    assert torch.allclose(found.mean(0), mean[0, 0, 0, 0].double(), rtol=0.02, atol=0.05)
    assert torch.allclose(found.var(0), mean[0, 0, 0, 0].double(), rtol=0.1, atol=0.05)
    assert torch.equal(counts[..., :2], drawn_counts(mean.clamp(max=480), range(8))[..., :2])


def test_a_threshold_rounds():
    frames = torch.tensor([0.4, 0.6, 1.7]).view(1, 1, 1, 1, 3).expand(1, 2, 2, 2, 3)
    assert drawn_counts(frames, [0], "threshold")[0, 0, 0, 0].tolist() == [0, 1, 2]


@pytest.mark.parametrize("duration", [3000, 300_001])
def test_a_recording_cut_by_time_gives_the_counts_it_was_made_of(duration):
    counts = torch.randint(0, 4, (3, 2, 5, 6))
    events = draw_times(counts, seed=1, duration=duration)
    assert np.array_equal(integrate(events, 3, "time", size=(5, 6)), counts.numpy())


def test_a_film_without_events_is_told():
    with pytest.raises(UserError, match="seed 9: a film without events"):
        draw_times(torch.zeros(3, 2, 4, 4, dtype=torch.int64), seed=9)


def test_a_bin_is_written_as_the_format_says(tmp_path):
    rows = [(0, 3, 4, 1), (70_000, 239, 0, 0), (2**23 - 1, 0, 239, 1)]
    t, x, y, p = (np.array(column) for column in zip(*rows, strict=True))
    events = Events(t, x.astype(np.int16), y.astype(np.int16), p.astype(np.uint8))
    write_events(tmp_path / "a" / "r.bin", events)
    assert (tmp_path / "a" / "r.bin").read_bytes() == bin_file(rows)
    again = read_events(tmp_path / "a" / "r.bin")
    assert all(np.array_equal(getattr(again, key), getattr(events, key)) for key in "txyp")


@pytest.mark.parametrize("row", [(0, 240, 0, 1), (2**23, 0, 0, 1)])
def test_events_that_a_bin_cannot_hold_are_refused(tmp_path, row):
    t, x, y, p = (np.array([value]) for value in row)
    with pytest.raises(UserError, match=r"r\.bin: .*write an \.npz"):
        write_events(tmp_path / "r.bin", Events(t, x.astype(np.int16), y.astype(np.int16), p.astype(np.uint8)))
    assert not (tmp_path / "r.bin").exists()


# commands


def test_training_writes_pictures_and_takes_the_full_count_from_the_data(run):
    assert run.model.full_count >= 1 and run.model.classes == 2
    assert [*run.folder.glob("samples/*.png")] and [*run.folder.glob("reconstructions/*.png")]


def test_a_perceptual_loss_of_event_frames_is_refused(clips, tmp_path):
    objective = {"perceptual": {"network": "autoencoder"}}
    with pytest.raises(UserError, match="event frames; objective.perceptual compares images, leave it out"):
        tg.train(data=str(clips), out=str(tmp_path / "run"), quiet=True, model=FRAMES, steps=1, objective=objective)


def test_samples_are_strips_a_film_and_recordings_of_each_class(run, tmp_path, capsys):
    out = ["--out", str(tmp_path / "s"), "--events", str(tmp_path / "made")]
    assert main(["sample", str(run.folder), "--n", "4", "--film", *out]) == 0
    assert Image.open(tmp_path / "s" / "000003.png").size == (36, 12)
    assert (tmp_path / "s" / "film.gif").is_file()
    assert sorted(p.relative_to(tmp_path / "made").as_posix() for p in (tmp_path / "made").rglob("*.bin")) == [
        *("lying/000000.bin", "lying/000002.bin", "standing/000001.bin", "standing/000003.bin")
    ]
    events = read_events(tmp_path / "made" / "standing" / "000001.bin")
    expected = drawn_counts(run.model.sample([1]), [1])[0]
    assert np.array_equal(integrate(events, 3, "time", size=(12, 12)), expected.numpy())
    assert main(["check", str(tmp_path / "made")]) == 0
    another = ["sample", str(run.folder), *out, "--events-draw", "threshold"]
    assert main([*another, "--n", "3"]) == 2
    assert "1 files of another model, or sampled otherwise, would stay" in capsys.readouterr().err
    assert main([*another, "--n", "4"]) == 0


def test_recordings_of_a_generator_have_the_pixels_of_its_frames_whatever_the_camera_had(run, classifier, tmp_path):
    named = store.load(classifier.folder)
    named.provenance["data"]["name"] = "dvs128-gesture"  # a camera of 128 x 128 pixels
    write_recordings(run.model, [1], tmp_path / "made", SimpleNamespace(first=True, rank=0, world=1, share=lambda x: x))
    (file,) = (tmp_path / "made").rglob("*.bin")
    assert torch.equal(prediction._recording(named, file), drawn_counts(run.model.sample([1]), [1])[0])


def test_recordings_are_of_one_class_and_of_other_formats_where_asked(run, tmp_path):
    made = ["--events", str(tmp_path), "--events-as", "npz", "--events-draw", "threshold", "--milliseconds", "30"]
    how = ["--seeds", "1", "--class", "lying", "--grid", "--out", str(tmp_path / "s")]
    try:
        main(["sample", str(run.folder), *how, *made])
    finally:
        files = [*tmp_path.rglob("*.npz")]
    assert all(file.parent.name == "lying" and read_events(file).t.max() <= 30_000 for file in files)


def test_recordings_of_a_generator_of_images_are_refused(tmp_path, capsys):
    assert main(["sample", "digits", "--n", "2", "--out", str(tmp_path), "--events", str(tmp_path / "e")]) == 2
    assert "--events: this generator makes images" in told(capsys)
    assert main(["sample", "digits", "--n", "2", "--out", str(tmp_path), "--milliseconds", "5"]) == 2
    assert "need --events" in told(capsys)
    assert main(["sample", "digits", "--n", "2", "--out", str(tmp_path), "--milliseconds", "0"]) == 2
    assert "need --events" in told(capsys)


def test_reconstructions_and_interpolations_are_drawn(run, tmp_path, capsys):
    assert main(["reconstruct", str(run.folder), "--n", "3", "--out", str(tmp_path)]) == 0
    assert "recordings" in capsys.readouterr().out
    assert main(["interpolate", str(run.folder), "--pairs", "2", "--steps", "3", "--out", str(tmp_path)]) == 0
    assert (tmp_path / "interpolations.gif").is_file()


def test_a_classifier_recognises_samples_and_their_events(run, classifier, clips, tmp_path, monkeypatch):
    monkeypatch.setattr("tcja_gen.metrics.autoencoder.default_steps", lambda n: 8)
    metrics = ["recognition", "recognition-events", "fad", "reconstruction", "memorisation-autoencoder"]
    ask = ["evaluate", str(run.folder), "--data", str(clips), "--metrics", ",".join(metrics), "--n", "8"]
    assert main([*ask, "--recogniser", str(classifier.folder), "--out", str(tmp_path / "record.json")]) == 0
    scored = json.loads((tmp_path / "record.json").read_text())
    assert scored["scores"].keys() == {*metrics} and 0 <= scored["scores"]["recognition"] <= 1
    assert "summed" in scored["protocol"]["fad"]["frames"]
    assert len(compare({"this one": scored, "the same": scored})) == len(metrics)
    assert Image.open(tmp_path / "record.nearest.png").height > 2 * 12  # samples and training images, as sums of frames


def test_recognition_needs_a_classifier_of_the_same_samples(run, clips, tmp_path):
    with pytest.raises(UserError, match="recogniser"):
        tg.evaluate(run.model, str(clips), metrics=["recognition"], n=8)
    with pytest.raises(UserError, match="names no classes"):
        tg.evaluate(run.model, str(clips), metrics=["recognition"], recogniser="digits", n=8)


def test_a_generator_of_images_takes_no_recordings_and_one_of_frames_no_images(clips, tmp_path, capsys):
    assert main(["train", "--data", str(clips), "--out", str(tmp_path / "a")]) == 2
    assert "--model.readout frames" in told(capsys)
    assert main(["train", "--data", "digits", "--model.readout", "frames", "--out", str(tmp_path / "b")]) == 2
    assert "makes event frames" in told(capsys)


def test_a_generator_of_event_frames_has_a_page_and_a_description(run, tmp_path, capsys):
    page = tmp_path / "page.html"
    assert main(["show", str(run.folder), "--html", str(page)]) == 0
    text = page.read_text(encoding="utf-8")
    assert "Expected events of each frame" in text and "image/gif" in text and "of summed frames" in text
    assert "squared error" in text and "(events)" in text and "Not shown: there are no records" in text
    assert text.count("Not shown") == 1
    assert main(["show", str(run.folder), "--energy", "--out", str(tmp_path)]) == 0
    assert "decoder.readout" in capsys.readouterr().out


# folds


def test_folds_have_every_recording_once_and_classes_alike(clips):
    how = {"time_steps": 3, "size": 12}
    everything = {frames.numpy().tobytes() for frames in load_events(clips, "all", **how).frames}
    folds = [load_events(clips, "validation", **how, fold=(k, 4)) for k in range(4)]
    assert [len(fold) for fold in folds] == [6] * 4
    assert all(fold.labels.bincount().tolist() == [3, 3] for fold in folds)
    assert {frames.numpy().tobytes() for fold in folds for frames in fold.frames} == everything
    assert len(load_events(clips, "train", **how, fold=(0, 4))) == 18
    with pytest.raises(UserError, match="validation is fold 0"):
        load_events(clips, "test", **how, fold=(0, 4))


def test_a_run_is_scored_on_its_own_fold(clips, tmp_path, capsys):
    fold = ["--folds", "3", "--seed", "4", "--steps", "1", "--batch", "2", "--model.time-steps", "3"]
    out = ["--task", "classify", "--model.encoder", "4C3s2", "--model.image-size", "12", "--out", str(tmp_path / "c")]
    assert main(["train", "--data", str(clips), *fold, *out]) == 0
    assert main(["evaluate", str(tmp_path / "c"), "--split", "validation", "--json"]) == 0
    facts = next((tmp_path / "c").glob("scores/*/*.json")).read_text()
    assert '"fold": [\n' in facts and '"n": 8' in facts


def test_a_generator_is_scored_on_the_fold_that_it_did_not_see(clips, tmp_path, capsys):
    model = FRAMES | {"full_count": 0}
    how = {"steps": 1, "batch": 4, "warmup": 0, "events_by": "time", "model": model, "quiet": True}
    folder = str(tg.train(data=str(clips), out=str(tmp_path / "run"), folds=3, fold=1, **how).folder)
    model = tg.load(folder)
    record = tg.evaluate(model, str(clips), ["reconstruction"], n=8, split="validation")
    assert record["protocol"]["reconstruction"]["fold"] == [1, 3] and record["protocol"]["reconstruction"]["n"] == 8
    assert main(["evaluate", folder, "--metrics", "reconstruction"]) == 2 and "validation is fold 1" in told(capsys)
    assert main(["reconstruct", folder, "--n", "99", "--out", str(tmp_path)]) == 0
    assert "over 8 recordings" in capsys.readouterr().out
    with pytest.raises(UserError, match="scored at its own size"):
        tg.evaluate(model, str(clips), "all", n=8, split="validation", size=64)


@pytest.mark.parametrize("wrong", [["--folds", "1"], ["--fold", "0"], ["--folds", "3", "--fold", "3"]])
def test_a_fold_that_does_not_exist_is_refused(clips, wrong, tmp_path, capsys):
    assert main(["train", "--data", str(clips), "--task", "classify", *wrong, "--out", str(tmp_path)]) == 2
    assert "2 folds or more" in told(capsys)


def test_a_fold_is_known_by_any_way_to_its_recordings(clips, tmp_path, monkeypatch, capsys):
    how = {"steps": 1, "batch": 2, "quiet": True, "device": "cpu", "compile": "off", "task": "classify"}
    how |= {"model": {"encoder": "4C3-MP2", "time_steps": 3, "image_size": 12}, "folds": 3, "fold": 1}
    folder = tg.train(data=str(clips), out=str(tmp_path / "run"), **how).folder
    store.save_copy(folder, tmp_path / "copy.safetensors")  # which does not tell where the recordings were
    monkeypatch.chdir(clips.parent)
    moved = shutil.copytree(clips, tmp_path / clips.name)
    ways = [(folder, way) for way in (clips, f"{clips}/", f"./{clips.name}/", clips.name, moved)]
    for model, way in [*ways, (tmp_path / "copy.safetensors", clips)]:
        record = tg.evaluate(model, way, ["accuracy"], split="validation")
        assert record["protocol"]["accuracy"]["fold"] == [1, 3] and record["protocol"]["accuracy"]["n"] == 8
        with pytest.raises(ValueError, match="fold"):
            tg.evaluate(model, way, ["accuracy"], split="test")


def test_folds_of_images_are_refused(tmp_path, capsys):
    assert main(["train", "--data", "digits", "--folds", "3", "--out", str(tmp_path / "r")]) == 2
    assert "folds are of event recordings" in told(capsys)
