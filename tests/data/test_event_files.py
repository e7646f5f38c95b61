"""Every file here is written byte by byte from its format's specification, by `event_bytes`."""

import struct

import numpy as np
import pytest
import scipy.io
from event_bytes import (
    AEDAT2_HEADER,
    AEDAT3_HEADER,
    aedat2_file,
    aedat4_file,
    bin_file,
    dat_file,
    events_in,
    mat_file,
    packet,
)

from tcja_gen.data.event_files import READERS, read_events

T, X, Y, P = [5, 70_000, 70_000, 131_073], [0, 33, 7, 12], [3, 0, 33, 9], [1, 0, 0, 1]


def read(path, data, size=(34, 34)):
    path.write_bytes(data)
    events = read_events(path, size)
    assert [getattr(events, key).dtype for key in "txyp"] == [np.int64, np.int16, np.int16, np.uint8]
    return [getattr(events, key).tolist() for key in "txyp"]


def complaint(path, data, size=(34, 34)):
    path.write_bytes(data)
    with pytest.raises(ValueError) as caught:
        read_events(path, size)
    message = str(caught.value)
    assert message.startswith(f"{path}: ") and "\n" not in message
    return message.removeprefix(f"{path}: ")


def test_n_mnists_files_are_read(tmp_path):
    assert bin_file([(0x123456, 1, 2, 1)]) == bytes([1, 2, 0x92, 0x34, 0x56])
    assert read(tmp_path / "a.bin", bin_file(events_in(T, X, Y, P))) == [T, X, Y, P]


def test_a_mark_of_the_clock_is_no_event_and_moves_what_follows(tmp_path):
    marked = bin_file([(100, 1, 1, 1), (8191, 0, 240, 0), (50, 2, 2, 0)])
    assert read(tmp_path / "a.bin", marked) == [[100, 50 + 8192], [1, 2], [1, 2], [1, 0]]
    wrong = bin_file([(100, 1, 1, 1), (0, 0, 240, 0), (50, 34, 1, 1)])
    assert "event 1, byte 10" in complaint(tmp_path / "a.bin", wrong)


def test_dvs128_gestures_files_are_read(tmp_path):
    second = [(9, 127, 126, 1)]
    special = packet([(1, 0, 0, 0)] * 3, kind=0)
    data = AEDAT3_HEADER + packet(events_in(T, X, Y, P)) + special + packet([]) + packet(second, overflow=2)
    t, x, y, p = read(tmp_path / "a.aedat", data, None)
    assert (t, x, y, p) == (T + [(2 << 31) + 9], X + [127], Y + [126], P + [1])


def test_events_that_are_not_valid_are_left_out_and_room_that_is_not_used_is_passed_over(tmp_path):
    room = packet([(1, 2, 3, 1), (4, 5, 6, 0), (0, 0, 0, 0)], capacity=3, number=2)
    data = AEDAT3_HEADER + packet([(0, 9, 9, 1)], valid=0) + room + packet([(7, 8, 9, 1)])
    assert read(tmp_path / "a.aedat", data) == [[1, 4, 7], [2, 5, 8], [3, 6, 9], [1, 0, 1]]


def test_cifar10_dvs_files_are_read(tmp_path):
    assert aedat2_file([(1, 126, 125, 1)], b"") == bytes([0, 0, 2, 2, 0, 0, 0, 1])
    assert read(tmp_path / "a.aedat", aedat2_file(events_in(T, X, Y, P)), None) == [T, X, Y, P]
    external = AEDAT2_HEADER + struct.pack(">Ii", 0x8001, 3) + aedat2_file([(4, 1, 2, 0)], b"")
    assert read(tmp_path / "a.aedat", external) == [[4], [1], [2], [0]]


def test_an_old_camera_whose_times_jump_back_is_sorted(tmp_path):
    data = aedat2_file([(9, 1, 1, 1), (7, 2, 2, 1)])
    assert read(tmp_path / "a.aedat", data) == [[7, 9], [2, 1], [2, 1], [1, 1]]


def test_another_chip_than_a_dvs128_is_told(tmp_path):
    davis = AEDAT2_HEADER + b"# AEChip: eu.seebetter.ini.chips.davis.Davis240C\r\n"
    assert "recorded by eu.seebetter.ini.chips.davis.Davis240C" in complaint(tmp_path / "a.aedat", davis)
    strange = AEDAT2_HEADER + struct.pack(">Ii", 0x10002, 3)
    assert f"event 0, byte {len(AEDAT2_HEADER)}" in complaint(tmp_path / "a.aedat", strange)


def test_n_cars_files_are_read(tmp_path):
    assert read(tmp_path / "a.dat", dat_file(events_in(T, X, Y, P)), None) == [T, X, Y, P]
    old = b"".join(struct.pack("<II", t, p << 17 | y << 9 | x) for t, x, y, p in events_in(T, X, Y, P))
    assert read(tmp_path / "a.dat", old) == [T, X, Y, P]
    assert read(tmp_path / "a.dat", b"% Version 1\n" + bytes([0, 8]) + old) == [T, X, Y, P]


def test_matlabs_structs_are_read_whichever_number_they_count_from(tmp_path):
    def saved(**arrays):
        scipy.io.savemat(tmp_path / "a.mat", arrays)
        return read(tmp_path / "a.mat", (tmp_path / "a.mat").read_bytes())

    x, y, p, t = (np.array(values, float)[:, None] for values in (X, Y, P, T))
    assert saved(TD={"x": x + 1, "y": y + 1, "p": p + 1, "ts": t}) == [T, X, Y, P]
    assert saved(TD={"x": x, "y": y, "p": 2 * p - 1, "ts": t}) == [T, X, Y, P]
    assert saved(x=np.uint8(X), y=np.uint8(Y), pol=np.uint8(P), ts=np.uint32(T)) == [T, X, Y, P]
    assert saved(about={"a": x}, TD={"x": x, "y": y, "p": 2 * p - 1, "ts": t}) == [T, X, Y, P]  # with another struct


@pytest.mark.parametrize("order", "<>")
def test_matlabs_files_are_read_on_machines_of_either_kind_and_refused_when_cut_off(tmp_path, order):
    whole = mat_file(order, x=X, y=Y, p=P, ts=T)
    assert read(tmp_path / "a.mat", whole) == [T, X, Y, P]
    assert all(complaint(tmp_path / "a.mat", whole[:length]) for length in range(len(whole)))
    assert f"1 bytes are left at byte {len(whole)}" in complaint(tmp_path / "a.mat", whole + b"\0")
    assert "save it with -v7" in complaint(tmp_path / "a.mat", b"MATLAB 7.3 MAT-file".ljust(512))


def test_matlabs_compressed_files_are_read_and_unpack_to_no_more_than_a_bound(tmp_path, monkeypatch):
    scipy.io.savemat(tmp_path / "a.mat", {"TD": {"x": X, "y": Y, "p": P, "ts": T}}, do_compression=True)
    data = (tmp_path / "a.mat").read_bytes()
    assert read(tmp_path / "a.mat", data) == [T, X, Y, P]
    monkeypatch.setattr("tcja_gen.data.matlab.BIGGEST", 100)
    assert "unpacks to more than" in complaint(tmp_path / "a.mat", data)


def test_a_struct_that_may_mean_two_things_is_refused(tmp_path):
    scipy.io.savemat(tmp_path / "a.mat", {"TD": {"x": [1, 2], "y": [1, 2], "p": [1, 1], "ts": [1, 2]}})
    assert "p is 1 everywhere" in complaint(tmp_path / "a.mat", (tmp_path / "a.mat").read_bytes())
    scipy.io.savemat(tmp_path / "a.mat", {"TD": {"x": [1, 2], "ts": [1, 2]}})
    assert "it holds x, ts, and no y, no p or pol" in complaint(tmp_path / "a.mat", (tmp_path / "a.mat").read_bytes())
    scipy.io.savemat(tmp_path / "a.mat", {"x": [1.5, 2], "y": [1, 2], "p": [0, 1], "t": [1, 2]})
    assert "x is 1.5 at event 0" in complaint(tmp_path / "a.mat", (tmp_path / "a.mat").read_bytes())


def test_structured_arrays_are_read(tmp_path):
    kind = [("x", "<i2"), ("y", "<i2"), ("p", "?"), ("timestamp", "<i8")]
    np.save(tmp_path / "a.npy", np.array(events_in(X, Y, P, T), dtype=kind))
    whole = (tmp_path / "a.npy").read_bytes()
    assert read(tmp_path / "a.npy", whole) == [T, X, Y, P]
    assert "bytes are left at byte" in complaint(tmp_path / "a.npy", whole[:-1])
    assert "3 events follow its header, which tells of 4" in complaint(tmp_path / "a.npy", whole[:-13])
    assert "bytes are left at byte" in complaint(tmp_path / "a.npy", whole + b"\0")
    np.save(tmp_path / "b.npy", np.zeros((3, 4)))
    assert "an array (3, 4) of float64" in complaint(tmp_path / "b.npy", (tmp_path / "b.npy").read_bytes())


WHOLE = {
    "a.bin": bin_file(events_in(T, X, Y, P)),
    "b.aedat": aedat2_file(events_in(T, X, Y, P)),
    "c.aedat": AEDAT3_HEADER + packet(events_in(T, X, Y, P)),
    "d.dat": dat_file(events_in(T, X, Y, P)),
}


@pytest.mark.parametrize("name", WHOLE)
def test_a_file_cut_off_anywhere_or_a_byte_too_long_is_named_with_the_place(tmp_path, name):
    whole = WHOLE[name]
    start = len(whole) - 4 * (5 if name == "a.bin" else 8)
    for size in {"a.bin": 5}.get(name, 8) * np.arange(4):
        for extra in (1, 3):
            assert "byte " in complaint(tmp_path / name, whole[: start + size + extra])
    assert f"byte {len(whole)}" in complaint(tmp_path / name, whole + b"\1")


@pytest.mark.parametrize("name", [*WHOLE, "e.mat", "f.npz", "g.npy", "h.aedat4"])
def test_random_and_missing_bytes_end_in_one_line(tmp_path, name):
    draw = np.random.RandomState(0)
    assert complaint(tmp_path / name, b"").startswith("empty file")
    for length in (1, 7, 64, 500):
        assert complaint(tmp_path / name, draw.bytes(length))
    for start in (AEDAT2_HEADER, AEDAT3_HEADER, b"% Version 2\n", b"\x93NUMPY\x01\x00", b"MATLAB 5.0 MAT-file"):
        for length in (0, 3, 200):
            assert complaint(tmp_path / name, start + draw.bytes(length), (1, 1))


def test_no_size_in_a_header_is_believed(tmp_path):
    for changed in (dict(capacity=2**31 - 1), dict(capacity=0), dict(number=9)):
        assert "the packet at byte" in complaint(
            tmp_path / "a.aedat", AEDAT3_HEADER + packet([(1, 1, 1, 1)], **changed)
        )
    header = struct.pack("<HHIIIIII", 1, 1, 0, 4, 0, 5, 5, 5)
    assert "5 events of 0 bytes" in complaint(tmp_path / "a.aedat", AEDAT3_HEADER + header)
    kind = (
        "{'descr': [('t', '<i8'), ('x', '<i2'), ('y', '<i2'), ('p', '|b1')], 'fortran_order': False, 'shape': (%d,), }"
    )
    text = (kind % 10**12).encode().ljust(117) + b"\n"
    huge = b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text
    assert "0 events follow its header" in complaint(tmp_path / "a.npy", huge)
    assert "events of type 12 and 9 bytes" in complaint(
        tmp_path / "a.dat", dat_file([]).replace(b"\x0c\x08", b"\x0c\x09")
    )


FAULTS = {
    "y from 0 to 34 leaves the sensor": (2, (9, 1, 34, 1)),
    "x from 0 to 34 leaves the sensor": (1, (9, 34, 1, 1)),
    "t falls from 9 to 8": (2, (8, 1, 1, 1)),
}


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("name", WHOLE)
def test_the_first_event_that_is_wrong_is_named_with_its_byte(tmp_path, name, fault):
    number, event = FAULTS[fault]
    events = [(9, 0, 0, 1)] * 4
    events[number] = event
    write = {"a.bin": bin_file, "b.aedat": aedat2_file, "d.dat": dat_file}.get(name)
    data = write(events) if write else AEDAT3_HEADER + packet(events[:1]) + packet(events[1:])
    if name == "b.aedat" and fault.startswith("t "):
        return  # sorted
    at = len(data) - (5 if name == "a.bin" else 8) * (4 - number)
    assert fault in (told := complaint(tmp_path / name, data)) and f"event {number}, byte {at}" in told


def test_a_wrong_polarity_is_named(tmp_path):
    data = dat_file([(1, 1, 1, 1), (2, 1, 1, 3)])
    assert f"polarity p from 1 to 3, only 0 and 1 wanted (event 1, byte {len(data) - 8})" in complaint(
        tmp_path / "a.dat", data
    )


def test_other_versions_and_formats_are_told(tmp_path):
    assert "AEDAT 1.0; AEDAT 2.0, 3.1 and 4 are read" in complaint(tmp_path / "a.aedat", b"#!AER-DAT1.0\r\n")
    assert "a first line without #!AER-DAT" in complaint(tmp_path / "a.aedat", b"# nothing\r\n")
    assert "no format of recordings ends in .raw: known are .bin" in complaint(tmp_path / "a.raw", b"x")
    assert set(READERS) == {".bin", ".aedat", ".aedat4", ".dat", ".mat", ".npz", ".npy"}


def test_aedat_4_says_which_package_it_needs(tmp_path, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "aedat", None)
    assert 'pip install "tcja_gen[aedat4]"' in complaint(tmp_path / "a.aedat4", b"#!AER-DAT4.0\r\n")


def test_aedat_4_is_read_by_its_package(tmp_path):
    pytest.importorskip("aedat")
    data = aedat4_file(events_in(T, X, Y, P)[:3], events_in(T, X, Y, P)[3:])
    assert read(tmp_path / "a.aedat4", data, (34, 34)) == [T, X, Y, P]
    assert "y from 0 to 33 leaves the sensor, whose y goes from 0 to 32" in complaint(tmp_path / "a.aedat4", data, None)
    for length in (40, len(data) - 20, len(data) - 1):
        assert "not a readable AEDAT 4, or cut off" in complaint(tmp_path / "a.aedat4", data[:length])
