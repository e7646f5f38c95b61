import zipfile

import numpy as np
import pytest

from tcja_gen.data.event_files import BIGGEST, read_events
from tcja_gen.data.events import Events, integrate, moving, record, write_events

SIZE = (5, 7)


def some_events(n=103, seed=0, longest=1000):
    draw = np.random.RandomState(seed)
    t = np.sort(draw.randint(0, longest, n)).astype(np.int64) + 17
    x, y = draw.randint(0, SIZE[1], n), draw.randint(0, SIZE[0], n)
    return Events(t, x.astype(np.int16), y.astype(np.int16), draw.randint(0, 2, n).astype(np.uint8))


def counted_one_by_one(events, edges):
    """Frames by a loop; `edges` are the numbers of the first event of each frame, and N."""
    frames = np.zeros((len(edges) - 1, 2, *SIZE), dtype=np.int64)
    for k in range(len(edges) - 1):
        for i in range(edges[k], edges[k + 1]):
            frames[k, events.p[i], events.y[i], events.x[i]] += 1
    return frames


def saved(path, **arrays):
    with open(path, "wb") as file:
        np.savez(file, **arrays)
    return path


def complaint(path, size=SIZE):
    with pytest.raises(ValueError) as caught:
        read_events(path, size)
    message = str(caught.value)
    assert str(path) in message and "\n" not in message
    return message


@pytest.mark.parametrize("n", [20, 103])
@pytest.mark.parametrize("time_steps", [1, 4, 20])
def test_frames_by_number_hold_the_events_that_a_loop_counts(n, time_steps):
    events = some_events(n)
    edges = [k * (n // time_steps) for k in range(time_steps)] + [n]
    frames = integrate(events, time_steps, "number", size=SIZE)
    assert np.array_equal(frames, counted_one_by_one(events, edges))


@pytest.mark.parametrize("time_steps", [1, 3, 16])
def test_frames_by_time_hold_the_events_that_a_loop_counts(time_steps):
    events = some_events()
    step = (events.t[-1] - events.t[0]) // time_steps
    starts = [int(np.searchsorted(events.t, events.t[0] + k * step)) for k in range(time_steps)]
    frames = integrate(events, time_steps, "time", size=SIZE)
    assert np.array_equal(frames, counted_one_by_one(events, starts + [len(events)]))


@pytest.mark.parametrize("by", ["number", "time"])
@pytest.mark.parametrize("time_steps", [1, 5, 16])
def test_frames_are_those_of_spikingjellys_integrator(by, time_steps):
    from spikingjelly.datasets.utils import integrate_events_by_fixed_frames_number

    for seed in range(4):
        events = some_events(200, seed, longest=4000)
        arrays = {key: getattr(events, key) for key in "txyp"}
        theirs = integrate_events_by_fixed_frames_number(arrays, by, time_steps, *SIZE)
        assert np.array_equal(integrate(events, time_steps, by, size=SIZE), theirs)


@pytest.mark.parametrize("by", ["number", "time"])
@pytest.mark.parametrize("n, longest", [(1, 1), (3, 2), (103, 5), (103, 1000)])
def test_no_event_is_lost_or_counted_twice(by, n, longest):
    events = some_events(n, longest=longest)
    frames = integrate(events, 10, by, size=SIZE)
    assert frames.shape == (10, 2, *SIZE) and frames.sum() == n
    assert frames[:, 1].sum() == events.p.sum()


def test_a_time_without_events_is_an_empty_frame():
    pause = np.array([0, 1, 2, 97, 98, 100], dtype=np.int64)
    pixel = np.zeros(6, dtype=np.int16)
    frames = integrate(Events(pause, pixel, pixel, np.ones(6, np.uint8)), 4, "time", size=SIZE)
    assert frames.sum((1, 2, 3)).tolist() == [3, 0, 0, 3]


def test_fewer_events_than_steps_take_the_first_frames():
    assert integrate(some_events(3), 5, "number", size=SIZE).sum((1, 2, 3)).tolist() == [1, 1, 1, 0, 0]


def test_mistaken_arguments_are_told():
    with pytest.raises(ValueError, match="by 'numbers': take number or time"):
        integrate(some_events(), 4, "numbers", size=SIZE)
    with pytest.raises(ValueError, match="time_steps 0"):
        integrate(some_events(), 0, size=SIZE)
    with pytest.raises(ValueError, match="x from 0 to 6 leaves the sensor"):
        integrate(some_events(), 4, size=(5, 5))


def test_what_was_written_is_read_back(tmp_path):
    events = some_events()
    write_events(tmp_path / "new" / "a.npz", events)
    again = read_events(tmp_path / "new" / "a.npz", SIZE)
    for key in "txyp":
        assert np.array_equal(getattr(again, key), getattr(events, key))
        assert getattr(again, key).dtype == getattr(events, key).dtype


def test_spikingjellys_types_are_understood(tmp_path):
    wide = {"t": np.array([3, 5], np.uint32), "x": np.array([1, 2], np.uint32), "y": np.array([0, 4], np.int64)}
    events = read_events(saved(tmp_path / "a.npz", **wide, p=np.array([True, False])), SIZE)
    found = [getattr(events, key).tolist() for key in "txyp"]
    assert found == [[3, 5], [1, 2], [0, 4], [1, 0]]


def test_events_out_of_order_are_sorted_by_time(tmp_path):
    t = np.array([30, 10, 20, 10], np.uint32)  # as unsigned numbers no difference is negative
    events = read_events(saved(tmp_path / "a.npz", t=t, x=np.arange(4), y=np.arange(4), p=np.ones(4, int)), SIZE)
    assert events.t.tolist() == [10, 10, 20, 30] and events.x.tolist() == [1, 3, 2, 0]


def test_a_bad_file_is_named_with_its_fault(tmp_path):
    good = {key: np.array([0, 1, 2]) for key in "txy"} | {"p": np.array([0, 1, 1])}
    cases = {
        "arrays frames, wanted t, x, y, p": {"frames": np.zeros(3)},
        "unequal shape": good | {"x": np.array([1])},
        "y from -1 to 2 leaves the sensor": good | {"y": np.array([-1, 1, 2])},
        "x from 0 to 7 leaves the sensor, whose x goes from 0 to 6": good | {"x": np.array([0, 7, 2])},
        "no events": {key: np.array([], dtype=int) for key in "txyp"},
        "polarity p from -1 to 1": good | {"p": np.array([-1, 1, 1])},
        "t is float64": good | {"t": np.array([0.0, 1.0, 2.0])},
        "not a readable npz": good | {"t": np.array([0, 1, None], dtype=object)},
    }
    for fault, arrays in cases.items():
        assert fault in complaint(saved(tmp_path / "bad.npz", **arrays)), fault


def test_a_broken_file_is_named(tmp_path):
    whole = saved(tmp_path / "whole.npz", **{key: np.arange(500) for key in "txyp"}).read_bytes()
    flipped = bytearray(whole)
    flipped[600] ^= 255
    for data in (whole[:900], bytes(flipped), b"", b"no npz at all", b"\x80\x04N."):
        (tmp_path / "broken.npz").write_bytes(data)
        assert "make it anew" in complaint(tmp_path / "broken.npz", (500, 500))
    with open(tmp_path / "broken.npz", "wb") as file:
        np.save(file, np.arange(3))
    assert "make it anew" in complaint(tmp_path / "broken.npz")


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="gone.npz: no such file"):
        read_events(tmp_path / "gone.npz")


def test_a_filmed_picture_survives_its_file_and_fills_every_step(tmp_path):
    image = np.zeros((8, 8), np.uint8)
    image[2:6, 3:5] = 255
    events = record(moving(image, frames=16, reach=2), duration_us=90_000)
    write_events(tmp_path / "film.npz", events)
    frames = integrate(read_events(tmp_path / "film.npz", (12, 12)), 6, "time", size=(12, 12))
    assert frames.sum() == len(events) and (frames.sum((2, 3)) > 0).all()
    assert events.t.min() >= 0 and events.t.max() <= 90_000
    assert np.array_equal(events.t, record(moving(image, frames=16, reach=2), duration_us=90_000).t)


def test_a_pixel_that_brightens_and_darkens_sends_as_many_events_as_thresholds_passed():
    video = np.zeros((3, 1, 2))
    video[1, 0, 1] = 0.75
    events = record(video, duration_us=2000, threshold=0.25, logarithmic=False)
    assert events.x.tolist() == [1] * 6 and events.y.tolist() == [0] * 6
    assert events.p.tolist() == [1, 1, 1, 0, 0, 0]
    assert events.t.tolist() == [333, 667, 1000, 1333, 1667, 2000]


def test_slow_changes_add_up_to_events():
    video = np.linspace(0, 1, 101)[:, None, None]
    events = record(video, duration_us=1000, threshold=0.1, logarithmic=False)
    assert events.t.tolist() == [100 * k for k in range(1, 11)]


def test_a_film_begins_and_ends_at_the_same_place_and_keeps_its_light():
    image = np.random.RandomState(0).rand(4, 6)
    film = moving(image, size=(12, 14), frames=10, reach=2.5)
    assert film.shape == (10, 12, 14) and np.array_equal(film[0], film[-1])
    assert np.allclose(film.sum((1, 2)), image.sum(), rtol=1e-5)
    with pytest.raises(ValueError, match="does not fit"):
        moving(image, size=(5, 8), reach=2)


def test_a_still_film_says_that_nothing_moved():
    with pytest.raises(ValueError, match="no pixel of the film changes"):
        record(np.ones((4, 3, 3)))


@pytest.mark.parametrize("bits, kind, kept", [(32, "u4", "u4"), (32, "u4", "i8"), (31, "i4", "i4"), (31, "i4", "i8")])
def test_a_clock_that_ran_over_is_not_sorted_into_another_order(tmp_path, bits, kind, kept):
    t = (np.arange(-3, 2) * 100 + 2**bits).astype("u4").view(kind).astype(kept)
    said = complaint(saved(tmp_path / "a.npz", t=t, x=[0] * 5, y=[0] * 5, p=[0] * 5))
    assert "32 bits that ran over" in said and "at event 3" in said


def test_times_beyond_64_bits_are_refused(tmp_path):
    t = np.array([2**63, 2**63 + 1], dtype=np.uint64)
    assert "63 bits" in complaint(saved(tmp_path / "a.npz", t=t, x=[0, 0], y=[0, 0], p=[0, 0]))


def test_a_small_file_of_huge_arrays_is_refused_before_it_is_unpacked(tmp_path):
    with zipfile.ZipFile(tmp_path / "bomb.npz", "w", zipfile.ZIP_DEFLATED) as archive:
        for key in "xyp":
            archive.writestr(f"{key}.npy", b"")
        archive.writestr("t.npy", b"")
        archive.getinfo("t.npy").file_size = BIGGEST + 1  # as the directory at the end has it
    assert "t.npy unpacks to 1,074 MB, at most 1,074 MB" in complaint(tmp_path / "bomb.npz")
