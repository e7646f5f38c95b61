"""Data sets as they are published, and folders of one's own, against the same recordings in SpikingJelly's layout."""

import shutil
import zipfile

import numpy as np
import pytest
import torch
from event_bytes import AEDAT3_HEADER, aedat2_file, bin_file, dat_file, packet
from PIL import Image

from tcja_gen.data import check_data, is_events, load, load_events, load_recording, write_events
from tcja_gen.data.event_names import CIFAR10
from tcja_gen.data.events import Events


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return lambda: sorted((tmp_path / "cache").rglob("*.npy"))


def recording(seed, n=30, side=34, start=0):
    """A list of (t, x, y, p) in order of time."""
    draw = np.random.RandomState(seed)
    t = start + np.sort(draw.randint(0, 1000, n))
    return list(zip(*([int(v) for v in c] for c in (t, *draw.randint(0, side, (2, n)), draw.randint(0, 2, n)))))  # noqa: B905


def put(path, data):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)


def converted(path, events):
    t, x, y, p = np.array(events).T
    write_events(path, Events(t, x.astype(np.int16), y.astype(np.int16), p.astype(np.uint8)))


def n_mnist(folder, number=3):
    """N-MNIST as published, and the same in SpikingJelly's layout in another folder."""
    for k, (split, digit, i) in enumerate(
        (s, d, i) for s in ("Train", "Test") for d in range(10) for i in range(number)
    ):
        put(folder / f"NMNIST/{split}/{digit}/{i + 1:05}.bin", bin_file(recording(k)))
        converted(folder / f"sj/NMNIST/events_np/{split.lower()}/{digit}/{i + 1:05}.npz", recording(k))
    return folder


def zipped(folder, into):
    with zipfile.ZipFile(into, "w", zipfile.ZIP_DEFLATED) as archive:
        for path in sorted(folder.rglob("*.*")):
            archive.write(path, path.relative_to(folder.parent))
    shutil.rmtree(folder)


def fingerprints(root, name="n-mnist"):
    return [load_events(name, split, time_steps=3, root=root).fingerprint for split in ("train", "validation", "test")]


def complaint(kind=ValueError, name="n-mnist", **more):
    with pytest.raises(kind) as caught:
        load_events(name, **({"time_steps": 3} | more))
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_n_mnist_as_published_has_the_frames_and_splits_of_spikingjellys_files(tmp_path):
    n_mnist(tmp_path)
    assert fingerprints(tmp_path) == fingerprints(tmp_path / "sj")
    assert load_events("n-mnist", "all", time_steps=3, root=tmp_path).frames.sum() == 60 * 30
    assert check_data("n-mnist", root=tmp_path) == []


def test_zips_are_read_where_they_are_and_need_no_second_copy_of_the_frames(tmp_path, cache):
    root = n_mnist(tmp_path)
    unpacked = fingerprints(root)
    for part in ("Train", "Test"):
        (root / "NMNIST/download").mkdir(exist_ok=True)
        zipped(root / "NMNIST" / part, root / f"NMNIST/download/{part}.zip")
    assert fingerprints(root) == unpacked and len(cache()) == 1
    assert is_events(root / "NMNIST") and check_data(root / "NMNIST") == []


def test_published_files_come_before_converted_ones(tmp_path):
    root = n_mnist(tmp_path)
    for path in (root / "sj/NMNIST/events_np").rglob("*.npz"):
        converted(path, recording(5))
    (root / "sj/NMNIST/events_np").rename(root / "NMNIST/events_np")
    published = fingerprints(root)
    shutil.rmtree(root / "NMNIST/Train")
    assert "NMNIST lacks Train (a folder, or a .zip)" in complaint(FileNotFoundError, root=root)
    shutil.rmtree(root / "NMNIST/Test")
    assert fingerprints(root) != published


def test_a_folder_named_as_the_set_is_found(tmp_path):
    before = fingerprints(n_mnist(tmp_path))
    (tmp_path / "NMNIST").rename(tmp_path / "n-mnist")
    assert fingerprints(tmp_path) == before
    assert load(tmp_path / "n-mnist", "test", time_steps=3).fingerprint == before[2]


def test_a_bad_file_of_a_published_set_is_named_also_in_a_zip(tmp_path):
    root = n_mnist(tmp_path)
    bad = root / "NMNIST/Train/3/00002.bin"
    bad.write_bytes(bad.read_bytes()[:-2])
    assert f"{bad}: 3 bytes are left at byte 145" in complaint(root=root)
    zipped(root / "NMNIST/Train", root / "NMNIST/Train.zip")
    (problem,) = check_data("n-mnist", root=root)
    assert problem.file.endswith("Train.zip/Train/3/00002.bin") and "at byte 145" in problem.reason


def gestures(folder):
    """DVS128 Gesture: two users of each split, two gestures of each class, the first cut short by the labels."""
    times = lambda k: (10_000 * k + 5_000, 10_000 * k + 5_900)  # noqa: E731
    for split, users in {"train": ("user01_led", "user02_led", "user10_lab"), "test": ("user24_led",)}.items():
        base = folder / "DVS128Gesture/DvsGesture"
        put(base / f"trials_to_{split}.txt", "".join(f"{user}.aedat\r\n" for user in users).encode())
        for user in users:
            pieces = [recording(hash_of(user, k), 40, 128, times(k)[0]) for k in range(22)]
            between = recording(1, 9, 128, 900_000)
            put(base / f"{user}.aedat", AEDAT3_HEADER + b"".join(map(packet, pieces)) + packet(between))
            rows = [f"{k // 2 + 1},{times(k)[0]},{times(k)[1]}\n" for k in range(22)]
            put(base / f"{user}_labels.csv", ("class,startTime_usec,endTime_usec\n" + "".join(rows)).encode())
            for k, piece in enumerate(pieces):
                kept = [event for event in piece if event[0] < times(k)[1]]
                converted(folder / f"sj/DVS128Gesture/events_np/{split}/{k // 2}/{user}_{k % 2}.npz", kept)
    put(folder / "DVS128Gesture/DvsGesture/LICENSE.txt", b"")
    return folder


def hash_of(user, k):
    return sum(user.encode()) * 100 + k


def test_gestures_are_cut_by_their_labels_and_split_by_their_lists(tmp_path):
    root = gestures(tmp_path)
    ours, theirs = (load_events("dvs128-gesture", "all", time_steps=4, root=place) for place in (root, root / "sj"))
    assert ours.classes == tuple(str(k) for k in range(11)) and len(ours) == 88
    assert torch.equal(ours.frames, theirs.frames) and torch.equal(ours.labels, theirs.labels)
    assert fingerprints(root, "dvs128-gesture") == fingerprints(root / "sj", "dvs128-gesture")
    assert check_data("dvs128-gesture", root=root) == [] and is_events(root / "DVS128Gesture/DvsGesture")


def test_what_is_missing_or_wrong_in_the_lists_of_gestures_is_named(tmp_path):
    base = gestures(tmp_path) / "DVS128Gesture/DvsGesture"
    told = lambda kind=ValueError: complaint(kind, "dvs128-gesture", root=tmp_path)  # noqa: E731
    labels = base / "user01_led_labels.csv"
    whole = labels.read_text()
    labels.write_text(whole + "12,5,nothing\n")
    assert f"{labels}: line 24 is '12,5,nothing'" in told()
    labels.write_text(whole + "0,5,9\n")
    assert f"{labels}: line 24 has no class from 1 on" in told()
    labels.write_text(whole + "11,800000,810000\n")
    assert f"{base}/user01_led.aedat: no events from 800000 to 810000 microseconds" in told()
    labels.unlink()
    assert f"{labels}: no such file" in told(FileNotFoundError)
    (base / "user24_led.aedat").unlink()
    labels.write_text(whole)
    assert f"{base}/user24_led.aedat: no such file, but trials_to_test.txt names it" in told(FileNotFoundError)
    (base / "trials_to_test.txt").unlink()
    assert "trials_to_test.txt: no such file" in told(FileNotFoundError)


def test_cifar10_dvs_lies_as_in_spikingjelly(tmp_path):
    for k, name in enumerate(CIFAR10):
        for i in range(2):
            events = recording(2 * k + i, 30, 128)
            put(tmp_path / f"CIFAR10DVS/extract/{name}/cifar10_{name}_{i}.aedat", aedat2_file(events))
            swapped = [(t, y, x, p) for t, x, y, p in events]
            converted(tmp_path / f"sj/CIFAR10DVS/events_np/{name}/cifar10_{name}_{i}.npz", swapped)
    ours, theirs = (
        load_events("cifar10-dvs", "all", time_steps=4, root=place) for place in (tmp_path, tmp_path / "sj")
    )
    assert ours.fingerprint == theirs.fingerprint
    file = tmp_path / "CIFAR10DVS/extract/cat/cifar10_cat_1.aedat"
    alone = load_recording(file, time_steps=4, size=(128, 128), like="cifar10-dvs")
    assert any(torch.equal(alone, frames.long()) for frames in theirs.frames[theirs.labels == 3])


def test_cifar10_dvs_in_folders_of_ones_own_split_lies_the_same_way(tmp_path):
    events = recording(1, 30, 128)
    for k, name in enumerate(CIFAR10):
        put(tmp_path / f"CIFAR10DVS/train/{name}/{k}.aedat", aedat2_file(events))
        converted(tmp_path / f"CIFAR10DVS/test/{name}/{k}.npz", [(t, y, x, p) for t, x, y, p in events])
    data = load_events("cifar10-dvs", "all", time_steps=2, root=tmp_path)
    assert len(data) == 20 and all(torch.equal(frames, data.frames[0]) for frames in data.frames)


def test_n_caltech101_is_found_in_its_zip(tmp_path):
    for k in range(101):
        put(tmp_path / f"NCaltech101/Caltech101/thing_{k}/image_0001.bin", bin_file(recording(k, 3)))
    zipped(tmp_path / "NCaltech101/Caltech101", tmp_path / "NCaltech101/Caltech101.zip")
    assert load_events("n-caltech101", time_steps=1, size=2, root=tmp_path).frames.sum() == 101 * 3


def own_set(folder):
    """Recordings of two classes in four formats."""
    for label in "ab":
        put(folder / label / "0.aedat", aedat2_file(recording(1)))
        put(folder / label / "1.aedat", AEDAT3_HEADER + packet(recording(1)))
        put(folder / label / "2.DAT", dat_file(recording(1), b"% Version 2\n"))
        converted(folder / label / "3.npz", recording(1))
    return folder


def test_a_folder_of_recordings_by_class_is_a_set_in_any_formats(tmp_path):
    folder = own_set(tmp_path / "mine")
    data = load(folder, "all", time_steps=3)
    assert data.frames.shape == (8, 3, 2, 128, 128) and data.classes == ("a", "b")  # the sensor that 0.aedat tells
    assert all(torch.equal(frames, data.frames[0]) for frames in data.frames)
    assert check_data(folder) == []


def test_every_bad_recording_of_a_folder_is_named(tmp_path):
    folder = own_set(tmp_path / "mine")
    put(folder / "a/4.bin", bin_file(recording(1))[:-1])
    put(folder / "b/5.dat", b"")
    put(folder / "b/deeper/6.bin", bin_file(recording(1)))
    put(folder / "notes.txt", b"")
    told = {problem.file.removeprefix(f"{folder}/"): problem.reason for problem in check_data(folder)}
    assert told.keys() == {"a/4.bin", "b/5.dat", "b/deeper/6.bin", "notes.txt"}
    assert "at byte 145" in told["a/4.bin"] and told["b/5.dat"] == "empty file"


def test_a_folder_of_links_is_a_set_and_hidden_pictures_do_not_count(tmp_path):
    folder, linked = own_set(tmp_path / "mine"), tmp_path / "linked"
    linked.mkdir()
    for name in ("a", "b"):
        (linked / name).symlink_to(folder / name)
    (linked / "loop").symlink_to(linked)
    assert is_events(linked) and len(load(folder, "all", time_steps=3)) == len(load(linked, "all", time_steps=3))
    (folder / ".checkpoints").mkdir()
    Image.fromarray(np.zeros((8, 8), np.uint8)).save(folder / ".checkpoints/0.png")
    assert is_events(folder) and check_data(folder) == []


def test_a_folder_with_an_image_in_it_is_one_of_images(tmp_path):
    folder = own_set(tmp_path / "mine")
    Image.fromarray(np.zeros((8, 8), np.uint8)).save(folder / "a/0.png")
    assert not is_events(folder)


def test_the_cache_sees_a_change_in_the_middle_of_a_file(tmp_path, cache):
    root = n_mnist(tmp_path)
    before, file = fingerprints(root), root / "NMNIST/Train/0/00001.bin"
    data = bytearray(file.read_bytes())
    data[70] ^= 1  # the x of the event in the middle
    file.write_bytes(data)
    assert fingerprints(root) != before and len(cache()) == 2
