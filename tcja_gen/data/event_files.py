"""Event recordings from files, in the formats in which data sets are published. `READERS` has one reader an extension.

    .bin              N-MNIST, N-Caltech101
    .aedat .aedat4    DVS128 Gesture (AEDAT 3.1), CIFAR10-DVS (AEDAT 2.0), newer cameras (AEDAT 4)
    .dat              N-CARS, cameras of Prophesee
    .mat              MATLAB's TD structs
    .npz .npy         arrays t, x, y, p, or fields of these names

A reader takes a file's bytes and believes no size in a header: what does not fit into the bytes is refused. What all
formats share is checked in one place, `checked`. A message names the file, the event and its byte.
"""

from __future__ import annotations

import io
import os
import re
import struct
import tempfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np

from ..errors import MissingFile, UserError
from .events import KEYS, Events, as_events, fit_together
from .matlab import variables
from .pictures import one_line

BIGGEST = 2**30  # bytes of an array: an npz of 1 MB can hold one of as many
CLOCK = 2**32  # what many sensors' clocks count to
LARGEST = (2**15, 2**15)  # pixels of a sensor
CLOCK_MARK, CLOCK_STEP = 240, 2**13  # the y of N-MNIST's clock marks, and the microseconds that each adds
NAMES = {"t": ("t", "ts", "timestamp"), "x": ("x",), "y": ("y",), "p": ("p", "pol", "polarity")}
CHIPS = {b"DVS128": (128, 128), b"DAVIS240": (180, 240), b"DAVIS346": (260, 346)}


@dataclass(frozen=True, eq=False)
class Decoded:
    """What a file says, unchecked: arrays `(N,)` of numbers.

    byte: where event i lies in the file; None if the format packs its arrays
    sensor: (H, W), if the file tells it
    ordered: whether the format promises ascending times; else events are sorted, as old cameras did not
    """

    t: np.ndarray
    x: np.ndarray
    y: np.ndarray
    p: np.ndarray
    byte: Callable[[int], int] | None = None
    sensor: tuple[int, int] | None = None
    ordered: bool = True

    def only(self, kept: np.ndarray) -> Decoded:
        """The events that a mask `(N,)` keeps."""
        arrays = (getattr(self, key)[kept] for key in KEYS)
        return Decoded(*arrays, self.byte and (lambda i: self.byte(np.flatnonzero(kept)[i])), self.sensor, self.ordered)

    def transposed(self) -> Decoded:
        """x and y exchanged."""
        return Decoded(self.t, self.y, self.x, self.p, self.byte, self.sensor and self.sensor[::-1], self.ordered)

    def place(self, i: int) -> str:
        return f"event {i}" + (f", byte {self.byte(i)}" if self.byte else "")


def read_events(path: str | os.PathLike, size: tuple[int, int] | None = None) -> Events:
    """The events of a file, by its extension.

    size: (H, W) of the sensor in pixels, in which the coordinates must lie; None: what the file tells, else any

    Events out of order are sorted by time (stably) in .npz, .npy, .mat and AEDAT 2.0, and refused in formats that
    promise the order. A recording during which the sensor's clock wrapped around (t falls by more than half of 2^32) is
    refused: sorted, its end would come first.

    FileNotFoundError if there is no file; ValueError naming it, and where it can the event and its byte, if the format
    is unknown, the file is cut off or too long, holds no events, arrays of different lengths, other numbers than
    integers, another polarity, or pixels outside of the sensor.
    """
    try:
        data = Path(path).read_bytes()
    except FileNotFoundError:
        raise MissingFile(f"{path}: no such file") from None
    try:
        return checked(decode(data, Path(path).suffix), size)
    except UserError as error:
        raise UserError(f"{path}: {error}") from None


def decode(data: bytes, ending: str) -> Decoded:
    """What a file of this extension says; ValueError (without the file's name) if it cannot be read."""
    if ending.lower() not in READERS:
        raise UserError(f"no format of recordings ends in {ending or 'nothing'}: known are {', '.join(READERS)}")
    if not data:
        raise UserError("empty file" + (": make it anew" if ending.lower() == ".npz" else ""))
    return READERS[ending.lower()](data)


def checked(found: Decoded, size: tuple[int, int] | None = None) -> Events:
    """The events, in order; ValueError (without the file's name) that says where the first fault is."""
    for key in KEYS:
        if getattr(found, key).dtype.kind not in "iub":
            raise UserError(f"{key} is {getattr(found, key).dtype}, integers wanted")
    fit_together(found)
    height, width = size or found.sensor or LARGEST
    for key, limit in (("y", height), ("x", width)):
        _within(found, key, limit - 1, f" leaves the sensor, whose {key} goes from 0 to {limit - 1}")
    _within(found, "p", 1, ", only 0 and 1 wanted")
    return as_events(*_in_order(found))


def _within(found: Decoded, key: str, largest: int, fault: str) -> None:
    values = getattr(found, key)
    if not 0 <= values.min() <= values.max() <= largest:
        first = int(np.argmax((values < 0) | (values > largest)))
        what = "polarity p" if key == "p" else key
        raise UserError(f"{what} from {values.min()} to {values.max()}{fault} ({found.place(first)})")


def _in_order(found: Decoded) -> list[np.ndarray]:
    """t, x, y, p in ascending order of time."""
    if found.t.max() > np.iinfo(np.int64).max:
        raise UserError(f"t reaches {found.t.max()}, microseconds of 63 bits wanted")
    t = found.t.astype(np.int64)
    arrays, steps = [t, found.x, found.y, found.p], np.diff(t)
    if not len(steps) or steps.min() >= 0:
        return arrays
    last = int(steps.argmin()) + 1
    if steps.min() < -CLOCK // 2:
        raise UserError(
            f"t falls by {-steps.min()} at {found.place(last)}: a clock of 32 bits that ran over; "
            f"add {CLOCK} to t from there on"
        )
    if found.ordered:
        first = int(np.argmax(steps < 0)) + 1
        raise UserError(f"t falls from {t[first - 1]} to {t[first]} at {found.place(first)}: times out of order")
    order = np.argsort(t, kind="stable")
    return [array[order] for array in arrays]


def _records(data: bytes, start: int, kind: str | np.dtype) -> np.ndarray:
    """The rest of a file as records of equal size; ValueError for a piece of one."""
    size = np.dtype(kind).itemsize
    if over := (len(data) - start) % size:
        at = len(data) - over
        raise UserError(f"{over} bytes are left at byte {at}, where an event of {size} bytes is wanted: cut off?")
    return np.frombuffer(data, kind, offset=start)


def atis_bin(data: bytes) -> Decoded:
    """N-MNIST and N-Caltech101: events of 40 bits without a header, most significant bit first: x (8), y (8),
    polarity (1: brighter), t in microseconds (23).

    Specification: Orchard, Jayawant, Cohen, Thakor, "Converting Static Image Datasets to Spiking Neuromorphic Datasets
    Using Saccades", 2015, and the page of the data sets, garrickorchard.com/datasets. By the authors' Python reader an
    event with y = 240 is none: it marks that the clock ran over, and adds 2^13 microseconds from there on.
    """
    rows = _records(data, 0, "(5,)u1")
    x, y, high = rows[:, 0], rows[:, 1], rows[:, 2].astype(np.int64)
    t = (high & 127) << 16 | rows[:, 3].astype(np.int64) << 8 | rows[:, 4]
    found = Decoded(t, x, y, rows[:, 2] >> 7, lambda i: 5 * i)
    marks = y == CLOCK_MARK
    if not marks.any():
        return found
    t += CLOCK_STEP * np.cumsum(marks)
    return found.only(~marks)


def aedat(data: bytes) -> Decoded:
    """AEDAT 2.0, 3.1 and 4 by the version in the first line, `#!AER-DAT2.0`."""
    first = data[:32].split(b"\n")[0].strip()
    version = first.removeprefix(b"#!AER-DAT") if first.startswith(b"#!AER-DAT") else b""
    if version.startswith(b"4."):
        return aedat4(data)
    reader = {b"2.0": aedat2, b"3.1": aedat3}.get(version)
    if not reader:
        told = f"AEDAT {version.decode(errors='replace')}" if version else "a first line without #!AER-DAT"
        raise UserError(f"{told}; AEDAT 2.0, 3.1 and 4 are read (jAER and DV convert others)")
    return reader(data, _after_header(data, b"#", b"#!END-HEADER" if version == b"3.1" else None))


def _after_header(data: bytes, mark: bytes, last: bytes | None = None) -> int:
    """Where a header ends that has `mark` at the start of each line, and ends with the line `last`."""
    at = 0
    while data.startswith(mark, at):
        end = data.find(b"\n", at) + 1
        if not end:
            raise UserError(f"ends within its header, in the line at byte {at}: cut off?")
        line, at = data[at:end].strip(), end
        if last and line == last:
            return at
    if last:
        raise UserError(f"no line {last.decode()} before byte {at}, where the header ends: cut off?")
    return at


def aedat2(data: bytes, start: int) -> Decoded:
    """CIFAR10-DVS: AEDAT 2.0 of a DVS128. Big-endian pairs of an address and a time in microseconds, 32 bits each.

    Specification: iniVation, "AEDAT 2.0", and jAER's class DVS128 for the address: polarity (bit 0), x (bits 1 to 7,
    from the right), y (bits 8 to 14, from below), bit 15 for signals that are no pixel's. In jAER bit 0 is 1 where a
    pixel grew darker, as in CIFAR10-DVS; iniVation's page has it the other way round. Here (0, 0) is top left.
    """
    chip = re.search(rb"AEChip: *(\S+)", data[:start])
    if chip and not chip[1].endswith(b"DVS128"):
        raise UserError(f"recorded by {chip[1].decode(errors='replace')}; of AEDAT 2.0 only a DVS128 is read")
    words = _records(data, start, "(2,)>u4")
    address = words[:, 0].astype(np.int64)
    x, y, p = 127 - (address >> 1 & 127), 127 - (address >> 8 & 127), 1 - (address & 1)
    t = words[:, 1].astype(np.uint32).view(np.int32)
    found = Decoded(t, x, y, p, lambda i: start + 8 * i, (128, 128), ordered=False)
    if (strange := address >> 16 != 0).any():
        first = int(strange.argmax())
        raise UserError(f"address {address[first]:#x} at {found.place(first)} has more bits than those of a DVS128")
    external = address >> 15 != 0
    return found.only(~external) if external.any() else found


def aedat3(data: bytes, start: int) -> Decoded:
    """DVS128 Gesture: AEDAT 3.1. Packets of events of one type, little-endian; those of polarity events are read.

    Specification: iniVation, "AEDAT 3.1". The header of a packet has 28 bytes (`_polarity_packets`). An event has 32
    bits: valid (bit 0), polarity (bit 1), y (15 bits, from the top), x (15 bits), and the lower 31 bits of its time in
    microseconds; the packet has the upper bits. Events that are not valid are left out, as the specification says.
    """
    packets = list(_polarity_packets(data, start))
    starts, counts, overflows = np.array(packets, dtype=np.int64).reshape(-1, 3).T
    pieces = [np.frombuffer(data, "<u4", 2 * number, at) for at, number, _ in packets]
    word, low = np.concatenate([*pieces, np.zeros(0, "<u4")]).reshape(-1, 2).T
    before = np.cumsum(counts) - counts

    def byte(i: int) -> int:
        packet = int(np.searchsorted(before, i, "right")) - 1
        return int(starts[packet] + 8 * (i - before[packet]))

    t = low | np.repeat(overflows, counts) << 31
    sensor = next((size for chip, size in CHIPS.items() if chip in data[:start]), None)
    found = Decoded(t, word >> 17, word >> 2 & 2**15 - 1, word >> 1 & 1, byte, sensor)
    valid = word & 1 == 1
    return found if valid.all() else found.only(valid)


def _polarity_packets(data: bytes, at: int) -> Iterator[tuple[int, int, int]]:
    """First byte, number of events and overflow of the clock of each packet of polarity events."""
    while at < len(data):
        if len(data) - at < 28:
            raise UserError(f"ends within the header of the packet at byte {at}: cut off?")
        kind, _, size, _, overflow, capacity, number, _ = struct.unpack_from("<hhiiiiii", data, at)
        end = at + 28 + size * capacity
        if size <= 0 or capacity < 0 or end > len(data):
            told = f"{capacity} events of {size} bytes, {len(data) - at - 28} bytes are left"
            raise UserError(f"the packet at byte {at} has {told}: cut off, or damaged before it")
        if kind == 1:
            if size != 8 or not 0 <= number <= capacity or overflow < 0:
                raise UserError(f"the packet at byte {at} has {number} of {capacity} polarity events of {size} bytes")
            yield at + 28, number, overflow
        at = end


def dat(data: bytes) -> Decoded:
    """N-CARS and Prophesee's cameras: a DAT file of contrast detection (TD, CD) events.

    Specification: Prophesee, "DAT File Format": text lines that begin with %, one byte for the type of the events and
    one for their size, then little-endian pairs of t in microseconds and x (14 bits), y (14), polarity (4). Files of a
    version before 2 have x (9), y (8), polarity (1), as Prophesee's MATLAB script `load_atis_data` reads them; without
    a header there are no bytes for type and size either.
    """
    start = _after_header(data, b"%")
    told = dict(re.findall(rb"(?m)^% *(Version|Width|Height) +(\d+)", data[:start]))
    if start:
        kind, size = (*data[start : start + 2], -1, -1)[:2]
        if kind not in (0, 12) or size != 8:
            raise UserError(
                f"events of type {kind} and {size} bytes at byte {start}; CD events (0 or 12, 8 bytes) wanted"
            )
        start += 2
    words = _records(data, start, "(2,)<u4")
    t, word = words[:, 0], words[:, 1]
    bits_x, bits_y, bits_p = (14, 14, 4) if int(told.get(b"Version", 0)) >= 2 else (9, 8, 1)
    x, y, p = word & 2**bits_x - 1, word >> bits_x & 2**bits_y - 1, word >> bits_x + bits_y & 2**bits_p - 1
    sensor = (int(told[b"Height"]), int(told[b"Width"])) if {b"Height", b"Width"} <= told.keys() else None
    return Decoded(t, x, y, p, lambda i: start + 8 * i, sensor)


def aedat4(data: bytes) -> Decoded:
    """AEDAT 4 of iniVation's DV, whose packets are compressed: read by the optional package `aedat`. Of several streams
    of events the first is taken. A file that is cut off is told; on one whose bytes are wrong the package may crash."""
    try:
        import aedat as package
    except ImportError:
        raise UserError('AEDAT 4 needs another package: pip install "tcja_gen[aedat4]"') from None
    with tempfile.TemporaryDirectory() as folder:
        (file := Path(folder) / "recording.aedat4").write_bytes(data)
        try:
            decoder = package.Decoder(file)
            streams = {number: told for number, told in decoder.id_to_stream().items() if told["type"] == "events"}
            packets = [packet for packet in decoder if "events" in packet]
        except BaseException as error:  # a panic of its Rust code is no Exception
            if isinstance(error, KeyboardInterrupt | SystemExit):
                raise
            raise UserError(f"not a readable AEDAT 4, or cut off ({one_line(error)})") from None
    if not streams:
        raise UserError("no stream of events in it")
    number, told = next(iter(streams.items()))
    pieces = [packet["events"] for packet in packets if packet["stream_id"] == number]
    if not pieces:
        raise UserError("no events in it, one or more wanted")
    events = np.concatenate(pieces)
    return Decoded(*(events[key] for key in ("t", "x", "y", "on")), None, (told["height"], told["width"]))


def mat(data: bytes) -> Decoded:
    """MATLAB files (`matlab`) with a struct of fields x, y, p, ts (or t, pol), or with such variables.

    Specification: the TD structs of Orchard's MATLAB functions (garrickorchard.com): x and y count from 1, p is 1 for
    darker and 2 for brighter, ts in microseconds. Others count from 0, with p of 0 and 1, or -1 and 1. There is no
    header to tell them apart, so p does. A file where p is always 1 and no pixel is 0 may be either, and is refused.
    """
    contents = variables(data)
    structs = [value for value in contents.values() if isinstance(value, dict)]
    whole = [one for one in (*structs, contents) if all(not one.keys().isdisjoint(names) for names in NAMES.values())]
    return _from_zero(Decoded(*_named([*whole, *structs, contents][0]), ordered=False))


def _from_zero(found: Decoded) -> Decoded:
    """Pixels that count from 0, and polarities 0 and 1."""
    if not len(found.p):
        return found
    least, most = found.p.min(), found.p.max()
    if least == most == 1 and found.x.min() > 0 and found.y.min() > 0:
        raise UserError("p is 1 everywhere: write 0 and 1 for it, since 1 and 2 are another custom")
    if least >= 1 and most == 2:
        return Decoded(found.t, found.x - 1, found.y - 1, found.p - 1, ordered=False)
    if least == -1 and not (found.p == 0).any():
        return Decoded(found.t, found.x, found.y, (found.p + 1) // 2, ordered=False)
    return found


def npy(data: bytes) -> Decoded:
    """A structured array with fields t (or ts, timestamp), x, y, p (or pol, polarity), as NumPy's `save` writes it."""
    stream = io.BytesIO(data)
    try:
        version = np.lib.format.read_magic(stream)
        header = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}[version]
        shape, _, kind = header(stream)
    except Exception as error:
        raise UserError(f"not a readable npy, or cut off ({one_line(error)})") from None
    if len(shape) != 1 or not kind.names or kind.hasobject or not kind.itemsize:
        raise UserError(f"an array {shape} of {kind}; one of events wanted, with fields t, x, y, p")
    records = _records(data, stream.tell(), kind)
    if len(records) != shape[0]:
        raise UserError(f"{len(records)} events follow its header, which tells of {shape[0]}: cut off, or too long")
    return Decoded(*_named({name: records[name] for name in kind.names}), ordered=False)


def npz(data: bytes) -> Decoded:
    """Arrays t, x, y, p, as `write_events` and SpikingJelly write them."""
    return Decoded(**arrays_of(data, KEYS), ordered=False)


READERS: dict[str, Callable[[bytes], Decoded]] = {
    ".bin": atis_bin,
    ".aedat": aedat,
    ".aedat4": aedat,
    ".dat": dat,
    ".mat": mat,
    ".npz": npz,
    ".npy": npy,
}


def _named(found: dict[str, np.ndarray]) -> list[np.ndarray]:
    """t, x, y, p by any of their `NAMES`, as integers."""
    chosen = {key: next((name for name in names if name in found), None) for key, names in NAMES.items()}
    if lacking := [" or ".join(NAMES[key]) for key, name in chosen.items() if name is None]:
        there = ", ".join(name if name.isprintable() else ascii(name) for name in found) or "nothing of numbers"
        raise UserError(f"it holds {there}, and no {', no '.join(lacking)}")
    return [_whole(key, np.asarray(found[name]).ravel()) for key, name in chosen.items()]


def _whole(key: str, values: np.ndarray) -> np.ndarray:
    """Integers, also where they are written as floating-point numbers, as in MATLAB."""
    if values.dtype.kind != "f":
        return values
    with np.errstate(invalid="ignore"):
        whole = values.astype(np.int64)
    if not np.array_equal(whole, values):
        first = int(np.argmax(whole != values))
        raise UserError(f"{key} is {values[first]} at event {first}, integers wanted")
    return whole


def arrays_of(data: bytes, keys: tuple[str, ...]) -> dict[str, np.ndarray]:
    """The named arrays of an npz, never unpickled; ValueError without the file's name."""
    try:
        with np.load(io.BytesIO(data), allow_pickle=False) as archive:
            missing = [key for key in keys if key not in archive.files]
            found = ", ".join(archive.files) or "none"
            _check_members(archive.zip)
            arrays = {} if missing else {key: archive[key] for key in keys}
    except UserError:
        raise
    except Exception as error:  # on broken bytes numpy, zipfile and zlib raise many unrelated types
        raise UserError(f"not a readable npz, or cut off ({one_line(error)}): make it anew") from None
    if missing:
        raise UserError(f"arrays {found}, wanted {', '.join(keys)}")
    return arrays


def _check_members(archive: zipfile.ZipFile) -> None:
    """ValueError for arrays that would unpack to too much."""
    for member in archive.infolist():
        if member.file_size > BIGGEST:
            size = f"{member.file_size / 1e6:,.0f} MB, at most {BIGGEST / 1e6:,.0f} MB are read"
            raise UserError(f"{member.filename} unpacks to {size}")
        if member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):  # the others unpack without a bound
            raise UserError(f"{member.filename} is packed by another method than deflate: make it anew")


def sums(path: Path) -> list:
    """What tells a file's content from another: of an npz name, length and checksum of each array, as it lists them; of
    others length and checksum. ValueError naming an npz that is none."""
    try:
        if path.suffix.lower() != ".npz":
            return _sum(path, path.stat().st_mtime_ns, path.stat().st_size)
        with zipfile.ZipFile(path) as archive:
            return [[member.filename, member.file_size, member.CRC] for member in archive.infolist()]
    except (zipfile.BadZipFile, OSError) as error:
        what = "not a readable npz, or cut off" if path.suffix.lower() == ".npz" else "unreadable"
        raise UserError(f"{path}: {what} ({one_line(error)}): make it anew") from None


@lru_cache(maxsize=2**18)  # the splits of a set are loaded one after the other
def _sum(path: Path, time: int, size: int) -> list:
    return [size, zlib.crc32(path.read_bytes())]
