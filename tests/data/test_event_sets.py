import os
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from tcja_gen.cli import main
from tcja_gen.data import check_data, first_of_each_class, moving, record
from tcja_gen.data.event_frames import binned
from tcja_gen.data.event_names import KNOWN
from tcja_gen.data.event_sets import EventSet, load_events
from tcja_gen.data.events import Events, integrate, write_events

SENSOR = (6, 8)
OWN_SPLIT = {"train": 24, "test": 6}


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    """An empty cache for every test, and a count of what is kept there."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return lambda: sorted((tmp_path / "cache").rglob("*.npy"))


def recording(seed, n=40, sensor=SENSOR):
    draw = np.random.RandomState(seed)
    t = np.sort(draw.randint(0, 900, n)).astype(np.int64)
    x, y = (draw.randint(0, side, n).astype(np.int16) for side in sensor[::-1])
    return Events(t, x, y, draw.randint(0, 2, n).astype(np.uint8))


def events_set(folder, classes, splits=(("", 20),), sensor=SENSOR, n=40):
    """Recordings in SpikingJelly's layout; the seed of each tells where it is."""
    for split, number in dict(splits).items():
        for k, label in enumerate(classes):
            for i in range(number):
                path = folder / "events_np" / split / label / f"r{i}.npz"
                write_events(path, recording(1000 * k + i + (500 if split == "test" else 0), n, sensor))
    return folder


def frames_set(folder, classes, number=20, steps=4, by="number", value=3):
    """Frames in SpikingJelly's layout: float64, every count the same."""
    for label in classes:
        place = folder / f"frames_number_{steps}_split_by_{by}" / label
        place.mkdir(parents=True)
        for i in range(number):
            np.savez(place / f"r{i}.npz", frames=np.full((steps, 2, *SENSOR), float(value)))
    return folder


def load(folder, split="train", time_steps=4, **more):
    return load_events(folder, split, time_steps=time_steps, **({"sensor": SENSOR} | more))


def complaint(kind=ValueError, **arguments):
    with pytest.raises(kind) as caught:
        load(**arguments)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def seeds_of(data, seeds, n=40):
    """Which recordings a set holds, by their frames."""
    known = {integrate(recording(s, n), 4, size=SENSOR).astype(np.uint8).tobytes(): s for s in seeds}
    return [known[frames.numpy().tobytes()] for frames in data.frames.to(torch.uint8)]


def test_frames_and_labels_belong_together(tmp_path):
    folder = events_set(tmp_path / "mine", ["a", "b"])
    data = load(folder, "all")
    assert data.frames.shape == (40, 4, 2, *SENSOR) and data.frames.dtype == torch.uint8
    assert (data.name, data.split, data.classes, len(data)) == ("mine", "all", ("a", "b"), 40)
    assert [seed // 1000 for seed in seeds_of(data, [*range(20), *range(1000, 1020)])] == data.labels.tolist()


def test_number_ten_is_class_ten(tmp_path):
    data = load(events_set(tmp_path / "n", [str(k) for k in range(11)], [("", 3)]), "all")
    assert data.classes == tuple(str(k) for k in range(11))
    seeds = seeds_of(data, [1000 * int(k) + i for k in range(11) for i in range(3)])
    assert [seed // 1000 for seed in seeds] == data.labels.tolist()


def test_classes_with_names_are_in_order_of_the_names(tmp_path):
    assert load(events_set(tmp_path / "n", ["b2", "b10", "A"], [("", 3)])).classes == ("A", "b10", "b2")


def test_splits_are_disjoint_stratified_and_together_everything(tmp_path):
    folder = events_set(tmp_path / "n", ["a", "b"], [("", 24)])
    seeds = [*range(24), *range(1000, 1024)]
    parts = {split: seeds_of(load(folder, split), seeds) for split in ("train", "validation", "test")}
    assert {split: len(part) for split, part in parts.items()} == {"train": 42, "validation": 2, "test": 4}
    assert sorted(sum(parts.values(), [])) == seeds
    assert all(sum(seed >= 1000 for seed in part) * 2 == len(part) for part in parts.values())
    assert seeds_of(load(folder, "train+validation"), seeds) == parts["train"] + parts["validation"]
    assert seeds_of(load(folder, "all"), seeds) == sum(parts.values(), [])


def test_official_test_recordings_stay_test_and_validation_comes_from_training(tmp_path):
    folder = events_set(tmp_path / "n", ["0", "1"], OWN_SPLIT.items())
    seeds = [k + i + s for k in (0, 1000) for s in (0, 500) for i in range(24)]
    parts = {split: seeds_of(load(folder, split), seeds) for split in ("train", "validation", "test")}
    assert [len(part) for part in parts.values()] == [44, 4, 12]
    assert all(seed % 1000 >= 500 for seed in parts["test"])
    assert all(seed % 1000 < 500 for seed in parts["train"] + parts["validation"])


def test_splits_do_not_move_with_steps_way_or_size(tmp_path):
    folder = events_set(tmp_path / "n", ["a", "b"], [("", 20)])
    for split in ("train", "validation", "test"):
        totals = [
            load(folder, split, steps, by=by, size=size).frames.sum((1, 3, 4)).tolist()  # events of each polarity
            for steps, by, size in ((4, "number", None), (3, "time", None), (2, "number", 3))
        ]
        assert totals[0] == totals[1] == totals[2]


def test_splits_are_the_same_from_recordings_and_from_spikingjellys_frames(tmp_path):
    folder = events_set(tmp_path / "n", ["a", "b"])
    from_recordings = load(folder, "test")
    for path in sorted((folder / "events_np").rglob("*.npz")):
        target = folder / "frames_number_4_split_by_number" / path.parent.name / path.name
        target.parent.mkdir(parents=True, exist_ok=True)
        seed = 1000 * (path.parent.name == "b") + int(path.stem[1:])
        np.savez(target, frames=integrate(recording(seed), 4, size=SENSOR).astype(float))
    shutil.rmtree(folder / "events_np")
    assert load(folder, "test").fingerprint == from_recordings.fingerprint


def test_frames_that_spikingjelly_made_are_preferred_where_they_fit(tmp_path):
    folder = frames_set(events_set(tmp_path / "n", ["a", "b"]), ["a", "b"])
    assert (load(folder, sensor=None).frames == 3).all()
    assert not (load(folder, by="time").frames == 3).all()
    assert load(folder, time_steps=5).frames.shape[1] == 5


def test_counts_above_255_are_kept(tmp_path):
    data = load(frames_set(tmp_path / "n", ["a", "b"], value=300))
    assert data.frames.dtype == torch.int16 and (data.frames == 300).all()
    frames_set(tmp_path / "m", ["a", "b"], value=40_000)
    assert "r" in (found := complaint(folder=tmp_path / "m")) and "40000 events in one pixel and frame" in found


def test_a_smaller_size_merges_pixels_and_loses_no_event(tmp_path):
    folder = events_set(tmp_path / "n", ["a", "b"])
    full, small = load(folder, "all"), load(folder, "all", size=(4, 3))
    wanted = torch.zeros(small.frames.shape, dtype=torch.int64)
    for y in range(SENSOR[0]):
        for x in range(SENSOR[1]):
            wanted[..., y * 4 // SENSOR[0], x * 3 // SENSOR[1]] += full.frames[..., y, x]
    assert torch.equal(small.frames.long(), wanted)
    assert load(folder, size=5).frames.shape[-2:] == (5, 5)
    assert "size (7, 7) does not lie between 1 and the sensor's (6, 8)" in complaint(folder=folder, size=7)


def test_bins_are_those_of_the_coordinates_at_every_size():
    frames = np.eye(13, dtype=np.int64)
    for new in range(1, 14):
        wanted = np.zeros((new, new), dtype=np.int64)
        np.add.at(wanted, (np.arange(13) * new // 13, np.arange(13) * new // 13), 1)
        assert np.array_equal(binned(frames, (new, new)), wanted)


def test_frames_are_made_once_and_kept_in_the_cache(tmp_path, cache):
    folder = events_set(tmp_path / "n", ["a", "b"])
    first = load(folder)
    written = [path.stat().st_mtime_ns for path in cache()]
    again = load(folder)
    assert torch.equal(first.frames, again.frames) and first.fingerprint == again.fingerprint
    assert [path.stat().st_mtime_ns for path in cache()] == written and len(written) == 1
    assert not list((tmp_path / "cache").rglob("*.tmp"))


def test_frames_that_were_cut_off_in_the_cache_are_made_anew_with_a_note(tmp_path, cache, capsys):
    folder = events_set(tmp_path / "n", ["a", "b"])
    wanted = load(folder).fingerprint
    (file,) = cache()
    whole = file.read_bytes()
    for length in (0, 70, len(whole) - 1):
        file.write_bytes(whole[:length])
        assert load(folder).fingerprint == wanted and file.read_bytes() == whole
        assert f"note: {file} cannot be read and is made anew" in capsys.readouterr().err


@pytest.mark.skipif(not os.path.exists("/proc/self/maps"), reason="only Linux lists what is mapped")
def test_frames_are_not_read_into_memory(tmp_path, cache):
    data = load(events_set(tmp_path / "n", ["a", "b"]))
    with open("/proc/self/maps") as maps:
        assert str(cache()[0]) in maps.read()
    assert data.frames.is_contiguous()


def test_the_cache_follows_the_content_of_files_and_not_their_times(tmp_path, cache):
    folder = events_set(tmp_path / "n", ["a", "b"])
    load(folder)
    file = folder / "events_np" / "a" / "r0.npz"
    os.utime(file, (1, 1))
    shutil.copytree(folder, tmp_path / "elsewhere" / "n")
    load(folder), load(tmp_path / "elsewhere" / "n"), load(folder, "test")
    assert len(cache()) == 1
    write_events(file, recording(77_777))
    assert load(folder).fingerprint and len(cache()) == 2


def test_the_fingerprint_tells_contents_apart(tmp_path):
    a, b = (load(events_set(tmp_path / name, ["a", "b"])) for name in ("n", "m"))
    assert a.fingerprint == b.fingerprint
    other = EventSet(a.frames, a.labels.flip(0), a.name, a.split, a.classes)
    assert len({a.fingerprint, other.fingerprint, load(tmp_path / "n", "test").fingerprint}) == 3
    wide = EventSet(a.frames.to(torch.int16), a.labels, a.name, a.split, a.classes)
    assert wide.fingerprint == a.fingerprint


def test_a_set_that_does_not_fit_together_is_refused():
    frames, labels = torch.zeros(2, 3, 2, 4, 4, dtype=torch.uint8), torch.tensor([0, 1])
    with pytest.raises(ValueError, match="s: labels go from 0 to 1, wanted 0 to 0"):
        EventSet(frames, labels, "s", "train", ("a",))
    with pytest.raises(ValueError, match="s: frames are torch.float32"):
        EventSet(frames.float(), labels, "s", "train", ("a", "b"))
    with pytest.raises(ValueError, match="s: labels are torch.int64 .1,., wanted torch.int64 .2,."):
        EventSet(frames, labels[:1], "s", "train", ("a", "b"))


def test_a_known_set_is_found_by_name_and_by_its_folder(tmp_path):
    folder = events_set(tmp_path / "NMNIST", [str(k) for k in range(10)], {"train": 2, "test": 1}.items(), (34, 34))
    named = load_events("n-mnist", "test", time_steps=2, root=tmp_path)
    assert named.name == "n-mnist" and named.frames.shape == (10, 2, 2, 34, 34)
    assert load_events(folder, "test", time_steps=2).fingerprint == named.fingerprint
    shutil.rmtree(folder / "events_np" / "train" / "9")
    shutil.rmtree(folder / "events_np" / "test" / "9")
    with pytest.raises(ValueError, match="NMNIST/events_np has 9 classes, wanted 10"):
        load_events("n-mnist", time_steps=2, root=tmp_path)


@pytest.mark.parametrize("others, left_out", [(101, True), (100, False)])
def test_background_of_n_caltech101_is_a_class_only_where_it_makes_101(tmp_path, others, left_out):
    names = ["BACKGROUND_Google", "Faces_easy", *[f"thing_{k}" for k in range(others - 1)]]
    events_set(tmp_path / "NCaltech101", names, [("", 2)], (180, 240), n=1)
    data = load_events("n-caltech101", "test", time_steps=1, size=2, root=tmp_path)
    assert len(data.classes) == 101 and ("BACKGROUND_Google" not in data.classes) == left_out


@pytest.mark.parametrize("name", KNOWN)
def test_missing_data_says_where_it_was_sought_and_how_to_get_it(tmp_path, name):
    found = complaint(FileNotFoundError, folder=name, root=tmp_path)
    known = KNOWN[name]
    for part in (str(tmp_path / known.folder), *known.published, known.origin, "events_np", "frames_number_4"):
        assert part in found


def test_unknown_sources_get_a_hint(tmp_path):
    assert "did you mean 'cifar10-dvs'?" in complaint(folder="cifar10dvs")
    assert "no such folder" in complaint(FileNotFoundError, folder=tmp_path / "none")
    (tmp_path / "empty").mkdir()
    assert "put the recordings into [train|test/]CLASS/" in complaint(FileNotFoundError, folder=tmp_path / "empty")
    assert "unknown split 'val'" in complaint(folder=tmp_path, split="val")
    assert "cannot cut recordings by 'events'" in complaint(folder=tmp_path, by="events")


def test_an_unknown_sensor_is_asked_for(tmp_path):
    assert "give its sides, sensor=(H, W)" in complaint(folder=events_set(tmp_path / "n", ["a"]), sensor=None)


def test_an_empty_class_folder_is_named(tmp_path):
    folder = events_set(tmp_path / "n", ["a", "b"])
    (folder / "events_np" / "c").mkdir()
    assert str(folder / "events_np" / "c") in complaint(folder=folder)
    shutil.rmtree(folder / "events_np")
    (folder / "events_np").mkdir()
    assert "no recordings found" in complaint(folder=folder)


def test_a_recording_beside_class_folders_is_named(tmp_path):
    folder = events_set(tmp_path / "n", ["a", "b"])
    write_events(folder / "events_np" / "lost.npz", recording(5))
    assert "lost.npz lies beside class folders" in complaint(folder=folder)


def test_an_empty_split_says_so(tmp_path):
    folder = events_set(tmp_path / "n", ["a", "b"], [("", 1)])
    assert "no recording in split 'test' (train 2, validation 0, test 0)" in complaint(folder=folder, split="test")


def test_an_unfinished_conversion_is_told(tmp_path):
    folder = events_set(tmp_path / "n", ["a", "b"])
    (folder / "events_np.building").touch()
    assert "events_np is unfinished" in complaint(folder=folder)


def test_a_bad_recording_is_named_and_leaves_nothing_in_the_cache(tmp_path, cache):
    folder = events_set(tmp_path / "n", ["a", "b"])
    bad = folder / "events_np" / "b" / "r7.npz"
    write_events(bad, recording(7, sensor=(6, 30)))
    assert f"{bad}: x from " in complaint(folder=folder)
    bad.write_bytes(bad.read_bytes()[:300])
    assert f"{bad}: not a readable npz" in complaint(folder=folder)
    assert not cache() and not list((tmp_path / "cache").rglob("*.tmp"))


def test_bad_frames_are_named(tmp_path):
    folder = frames_set(tmp_path / "n", ["a", "b"])
    bad = folder / "frames_number_4_split_by_number" / "b" / "r3.npz"
    cases = {
        "frames are (5, 2, 6, 8), wanted (T, 2, H, W) = (4, 2, 6, 8)": np.zeros((5, 2, *SENSOR)),
        "frames are (4, 2, 8, 6)": np.zeros((4, 2, *SENSOR[::-1])),
        "no event counts": np.full((4, 2, *SENSOR), 0.5),
        "values that are no event counts": np.full((4, 2, *SENSOR), np.nan),
        "wanted event counts": np.zeros((4, 2, *SENSOR), dtype=complex),
    }
    for fault, frames in cases.items():
        np.savez(bad, frames=frames)
        found = complaint(folder=folder, sensor=None)
        assert str(bad) in found and fault in found
    np.savez(bad, other=np.zeros(3))
    assert f"{bad}: arrays other, wanted frames" in complaint(folder=folder)


def test_every_bad_recording_is_named(tmp_path):
    folder = tmp_path / "clips"
    for k, label in enumerate("ab"):
        for i in range(2):
            write_events(folder / "events_np" / label / f"{i}.npz", record(moving(np.eye(8, k=2 * i + k))))
    assert check_data(folder) == []
    (folder / "events_np/a/1.npz").write_bytes((folder / "events_np/a/1.npz").read_bytes()[:100])
    np.savez(folder / "events_np/b/0.npz", t=[1], x=[0], y=[0])
    found = {
        Path(problem.file).relative_to(folder / "events_np").as_posix(): problem.reason
        for problem in check_data(folder)
    }
    assert {*found} == {"a/1.npz", "b/0.npz"} and "p" in found["b/0.npz"]
    assert not any(str(tmp_path) in reason for reason in found.values())


def problems(folder):
    return {Path(problem.file).relative_to(folder).as_posix(): problem.reason for problem in check_data(folder)}


def test_a_recording_with_an_upper_case_ending_is_not_left_out(tmp_path):
    folder = events_set(tmp_path / "n", ["a", "b"], [("", 20)])
    before = load(folder, "all")
    for path in sorted((folder / "events_np/a").glob("*.npz"))[::2]:
        path.rename(path.with_suffix(".NPZ"))
    assert load(folder, "all").fingerprint == before.fingerprint and check_data(folder) == []


def test_a_recording_in_two_splits_is_told(tmp_path):
    folder = events_set(tmp_path / "n", ["a", "b"], OWN_SPLIT.items())
    shutil.copy(folder / "events_np/train/b/r3.npz", folder / "events_np/test/b/r9.npz")
    assert problems(folder).keys() == {"events_np/test/b/r9.npz"}
    assert "test share a recording" in problems(folder)["events_np/test/b/r9.npz"]


def test_frames_that_were_made_are_checked(tmp_path):
    folder = frames_set(tmp_path / "n", ["a", "b"], number=1)
    for i, label in enumerate("ab"):
        np.savez(folder / f"frames_number_4_split_by_number/{label}/r0.npz", frames=np.full((4, 2, *SENSOR), i))
    assert check_data(folder) == []
    np.savez(folder / "frames_number_4_split_by_number/a/r1.npz", frames=np.zeros((5, 2, *SENSOR)))
    np.savez(folder / "frames_number_4_split_by_number/b/r1.npz", frames=np.full((4, 2, *SENSOR), 0.5))
    (folder / "frames_number_4_split_by_number/b/notes.txt").write_text("ignored")
    (folder / "frames_number_8_split_by_time").mkdir()
    told = problems(folder)
    assert {name.removeprefix("frames_number_4_split_by_number/") for name in told} == {
        "a/r1.npz",
        "b/r1.npz",
        "b/notes.txt",
        "frames_number_8_split_by_time",
    }
    assert "frames are (5, 2, 6, 8)" in told["frames_number_4_split_by_number/a/r1.npz"]


def test_an_unfinished_conversion_is_a_problem_and_no_end_of_the_check(tmp_path):
    folder = frames_set(events_set(tmp_path / "n", ["a"], [("", 1)]), ["a"], number=1)
    (folder / "events_np.building").touch()
    assert problems(folder).keys() == {"events_np"}


def test_one_recording_is_checked_and_drawn(tmp_path, capsys):
    good, bad = tmp_path / "one.npz", tmp_path / "two.dat"
    write_events(good, Events(*np.array([(0, 3, 5, 1), (9, 12, 4, 0), (40, 7, 8, 1)]).T))
    bad.write_bytes(b"123")
    assert check_data(good) == [] and [(p.file, p.reason[:7]) for p in check_data(bad)] == [(str(bad), "3 bytes")]
    with pytest.raises(ValueError, match="recordings; --size and --channels are for images"):
        check_data(good, size=8)
    frames, names = first_of_each_class(good, time_steps=2)
    assert frames.shape == (1, 2, 2, 9, 13) and frames.sum((0, 2, 3, 4)).tolist() == [2, 1] and names == ("one.npz",)
    assert main(["show", str(good), "--frames", "2", "--out", str(tmp_path / "pictures")]) == 0
    assert "one.npz; 3 events" in capsys.readouterr().out and (tmp_path / "pictures" / "events.gif").is_file()
    with pytest.raises(SystemExit, match="1"):
        main(["check", str(bad), "--picture", str(tmp_path)])
