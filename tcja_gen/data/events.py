"""Event recordings as frames of counts, and recordings made from moving pictures.

An event says that the pixel (x, y) grew brighter (p = 1) or darker (p = 0) at time t. A file is an npz with the arrays
t, x, y, p, as SpikingJelly writes them into its `events_np` folders. A network reads T frames of counts,
`(T, 2, H, W)`: `integrate` cuts a recording into T slices, in one of two ways. Both give SpikingJelly's frames; where
SpikingJelly fails, on a slice of time without an event, the frame is empty.

`moving` and `record` make recordings as N-MNIST and N-Caltech101 were made: still pictures, filmed by an event sensor
in three saccades along a triangle. They are for tests and demos, and draw no random numbers.
"""

from __future__ import annotations

import os
import zipfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..errors import MissingFile, UserError
from .pictures import one_line

KEYS = ("t", "x", "y", "p")
WAYS = ("number", "time")  # how `integrate` cuts
BIGGEST = 2**30  # bytes of an array: an npz of 1 MB can hold one of as many
CLOCK = 2**32  # what many sensors' clocks count to
DARKEST = 0.05  # added to an intensity in [0, 1] before its logarithm: what a sensor sees in the dark
ROUNDING = 1e-9  # a change that misses the threshold by rounding alone still counts


@dataclass(frozen=True, eq=False)
class Events:
    """A recording: `t` int64 microseconds, ascending; `x`, `y` int16 pixels; `p` uint8, 1 is brighter; all `(N,)`.

    ValueError (one line, without a file's name) if the arrays do not fit together.
    """

    t: np.ndarray
    x: np.ndarray
    y: np.ndarray
    p: np.ndarray

    def __post_init__(self):
        arrays = {key: getattr(self, key) for key in KEYS}
        if len({array.shape for array in arrays.values()}) > 1 or self.t.ndim != 1:
            shapes = ", ".join(f"{key} {array.shape}" for key, array in arrays.items())
            raise UserError(f"arrays of unequal shape ({shapes}), one value an event wanted in each")
        if not len(self):
            raise UserError("no events in it, one or more wanted")
        if np.any(np.diff(self.t) < 0):
            raise UserError("t is not in ascending order: sort the events by time")
        if int(self.p.max()) > 1 or int(self.p.min()) < 0:
            raise UserError(f"polarity p from {self.p.min()} to {self.p.max()}, only 0 and 1 wanted")

    def __len__(self) -> int:
        return len(self.t)


def read_events(path: str | os.PathLike, size: tuple[int, int] | None = None) -> Events:
    """The events of an npz; sorted by time (stably) if they are not yet.

    size: (H, W) of the sensor in pixels, in which the coordinates must lie; None: they must be 0 to 32767

    A recording during which the sensor's clock wrapped around (t falls by more than half of 2^32) is refused: sorted,
    its end would come first.

    FileNotFoundError if there is no file; ValueError naming it if it is no npz, is cut off, lacks one of t,
    x, y, p, or holds no events, arrays of different lengths, other types than integers, or pixels outside of the
    sensor.
    """
    found = read_arrays(path, KEYS)
    try:
        for key, array in found.items():
            if array.dtype.kind not in "iub":
                raise UserError(f"{key} is {array.dtype}, integers wanted")
        return _events(found, size or (2**15, 2**15))
    except UserError as error:
        raise UserError(f"{path}: {error}") from None


def write_events(path: str | os.PathLike, events: Events) -> None:
    """Write a recording as a compressed npz with the keys t, x, y, p; missing folders are made."""
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    with open(path, "wb") as file:  # np.savez would add .npz to a path without it
        np.savez_compressed(file, **{key: getattr(events, key) for key in KEYS})


def integrate(events: Events, time_steps: int, by: str = "number", *, size: tuple[int, int]) -> np.ndarray:
    """Count the events in T frames: int64 `(T, 2, H, W)`, polarity 0 first; each event in exactly one frame.

    by: `number`: N // T events a frame, and the rest in the last one; with fewer events than T each has a frame of its
        own, and the last frames are empty.
        `time`: (last t - first t) // T microseconds a frame, at least 1, and the rest in the last one; a frame without
        an event is empty.
    size: (H, W) of the sensor in pixels

    ValueError if T is not positive, `by` is another word, or an event lies outside of the sensor.
    """
    check_cut(time_steps, by)
    _inside(events.x, events.y, size)
    height, width = size
    frame = _frame_of_each(events.t, time_steps, by)
    place = (frame * 2 + events.p) * height + events.y  # int64, as frame is
    counts = np.bincount(place * width + events.x, minlength=time_steps * 2 * height * width)
    return counts.reshape(time_steps, 2, height, width)


def check_cut(time_steps: int, by: str) -> None:
    """ValueError if a recording cannot be cut into so many frames in this way."""
    if time_steps < 1:
        raise UserError(f"time_steps {time_steps}: at least 1 frame wanted")
    if by not in WAYS:
        raise UserError(f"cannot cut recordings by {by!r}: take number or time")


def read_arrays(path: str | os.PathLike, keys: tuple[str, ...]) -> dict[str, np.ndarray]:
    """The named arrays of an npz, never unpickled; FileNotFoundError, or ValueError naming the file."""
    try:
        with open(path, "rb") as file, np.load(file, allow_pickle=False) as archive:
            missing = [key for key in keys if key not in archive.files]
            found = ", ".join(archive.files) or "none"
            _check_members(archive.zip)
            arrays = {} if missing else {key: archive[key] for key in keys}
    except FileNotFoundError:
        raise MissingFile(f"{path}: no such file") from None
    except UserError as error:
        raise UserError(f"{path}: {error}") from None
    except Exception as error:  # on broken bytes numpy, zipfile and zlib raise many unrelated types
        raise UserError(f"{path}: not a readable npz, or cut off ({one_line(error)}): make it anew") from None
    if missing:
        raise UserError(f"{path}: arrays {found}, wanted {', '.join(keys)}")
    return arrays


def _check_members(archive: zipfile.ZipFile) -> None:
    """ValueError for arrays that would unpack to too much."""
    for member in archive.infolist():
        if member.file_size > BIGGEST:
            size = f"{member.file_size / 1e6:,.0f} MB, at most {BIGGEST / 1e6:,.0f} MB are read"
            raise UserError(f"{member.filename} unpacks to {size}")
        if member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):  # the others unpack without a bound
            raise UserError(f"{member.filename} is packed by another method than deflate: make it anew")


def moving(image: np.ndarray, size: tuple[int, int] | None = None, *, frames: int = 31, reach: float = 3) -> np.ndarray:
    """Film a still picture `(H, W)` in three saccades along a triangle: float32 `(frames, H', W')` in [0, 1].

    image: uint8, or float in [0, 1]; outside of it everything is black
    size: (H', W') of the film; None adds `reach` pixels on every side (28 x 28 gives 34 x 34, as N-MNIST has it)
    frames: number of frames, evenly spaced in time; the last shows the picture where the first does
    reach: how far the picture moves from the middle, in pixels

    ValueError if the picture does not fit.
    """
    picture = _intensity(image)
    margin = int(np.ceil(reach))
    height, width = size or tuple(side + 2 * margin for side in picture.shape)
    top, left = (height - picture.shape[0]) // 2, (width - picture.shape[1]) // 2
    if min(top, left) < margin:
        raise UserError(f"a picture of {picture.shape} that moves by {reach} does not fit into {(height, width)}")
    ways = [_along_triangle(k / max(frames - 1, 1)) for k in range(frames)]
    film = [_placed(picture, (height, width), top + reach * down, left + reach * right) for down, right in ways]
    return np.stack(film)


def record(
    video: np.ndarray, duration_us: int = 300_000, threshold: float = 0.2, *, logarithmic: bool = True
) -> Events:
    """What an event sensor sees of a film `(F, H, W)`, uint8 or float in [0, 1].

    Each pixel remembers its level at its last event, at the start that of frame 0. When its level differs from that by
    the threshold, it sends an event. Between two frames the level changes linearly, which gives the event's time.

    duration_us: from the first frame to the last, in microseconds
    threshold: of the level; the level is the logarithm of the intensity, or the intensity itself
    logarithmic: whether the level is the logarithm, as in real sensors

    ValueError if nothing moves enough for one event.
    """
    intensity = _intensity(video).astype(np.float64)
    levels = np.log(intensity + DARKEST) if logarithmic else intensity
    times = np.linspace(0, duration_us, len(levels))
    remembered, pieces = levels[0], []
    for k in range(1, len(levels)):
        remembered, piece = _between(remembered, levels[k - 1], levels[k], times[k - 1], times[k], threshold)
        pieces.append(piece)
    if not sum(len(piece[0]) for piece in pieces):
        raise UserError(f"no pixel of the film changes by the threshold {threshold}: lower it, or move the picture")
    t, x, y, p = (np.concatenate(column) for column in zip(*pieces, strict=True))
    order = np.argsort(t, kind="stable")
    return _as_events(t[order], x[order], y[order], p[order])


def _events(found: dict[str, np.ndarray], size: tuple[int, int]) -> Events:
    if len({array.shape for array in found.values()}) == 1:  # else Events says what is wrong
        _inside(found["x"], found["y"], size)
        t = found["t"]
        if t.size and t.max() > np.iinfo(np.int64).max:
            raise UserError(f"t reaches {t.max()}, microseconds of 63 bits wanted")
        steps = np.diff(t.astype(np.int64)) if t.ndim == 1 else np.zeros(0)
        if np.any(steps < -CLOCK // 2):
            raise UserError(
                f"t falls by {-steps.min()} at event {steps.argmin() + 1}: a clock of 32 bits that ran over; "
                f"add {CLOCK} to t from there on"
            )
        if np.any(steps < 0):
            order = np.argsort(t, kind="stable")
            found = {key: array[order] for key, array in found.items()}
    return _as_events(**found)


def _as_events(t: np.ndarray, x: np.ndarray, y: np.ndarray, p: np.ndarray) -> Events:
    if p.size and not 0 <= p.min() <= p.max() <= 1:  # before uint8 makes 255 of -1
        raise UserError(f"polarity p from {p.min()} to {p.max()}, only 0 and 1 wanted")
    return Events(t.astype(np.int64), x.astype(np.int16), y.astype(np.int16), p.astype(np.uint8))


def _inside(x: np.ndarray, y: np.ndarray, size: tuple[int, int]) -> None:
    """ValueError if a coordinate is outside of a sensor of (H, W)."""
    for name, values, limit in (("y", y, size[0]), ("x", x, size[1])):
        if values.size and not 0 <= values.min() <= values.max() < limit:
            found = f"{name} from {values.min()} to {values.max()}"
            raise UserError(f"{found} leaves the sensor, whose {name} goes from 0 to {limit - 1}")


def _frame_of_each(t: np.ndarray, time_steps: int, by: str) -> np.ndarray:
    """The frame of every event: int64 `(N,)`."""
    if by == "number":
        position, step = np.arange(len(t)), len(t) // time_steps
    else:
        position, step = t - t[0], (t[-1] - t[0]) // time_steps
    return np.minimum(position // max(int(step), 1), time_steps - 1)


def _intensity(picture: np.ndarray) -> np.ndarray:
    """Grey values in [0, 1], float32 from uint8; ValueError for others."""
    picture = np.asarray(picture)
    if picture.dtype == np.uint8:
        return picture.astype(np.float32) / 255
    if picture.dtype.kind != "f" or not 0 <= picture.min() <= picture.max() <= 1:
        raise UserError(f"intensities are {picture.dtype} up to {picture.max()}, wanted uint8, or float in [0, 1]")
    return picture


def _along_triangle(way: float) -> tuple[float, float]:
    """Where the picture is (down, right), each in [-1, 1], after this part of the way round."""
    corners = [0, 1 / 3, 2 / 3, 1]
    return float(np.interp(way, corners, [-1, 1, -1, -1])), float(np.interp(way, corners, [-1, 0, 1, -1]))


def _placed(picture: np.ndarray, size: tuple[int, int], top: float, left: float) -> np.ndarray:
    """A black frame with the picture at a place between pixels: a weighted sum of the four places around it."""
    height, width = picture.shape
    frame = np.zeros((size[0] + 1, size[1] + 1), np.float32)  # one row and column more, for weights of zero
    row, column = int(np.floor(top)), int(np.floor(left))
    for down, by_row in ((0, 1 - (top - row)), (1, top - row)):
        for right, by_column in ((0, 1 - (left - column)), (1, left - column)):
            y, x = row + down, column + right
            frame[y : y + height, x : x + width] += by_row * by_column * picture
    return frame[:-1, :-1].clip(0, 1)


def _between(
    remembered: np.ndarray, before: np.ndarray, after: np.ndarray, start: float, end: float, threshold: float
) -> tuple[np.ndarray, tuple[np.ndarray, ...]]:
    """The levels remembered `(H, W)` at the later frame, and the events (t, x, y, p) on the way to it."""
    change = after - remembered
    number = np.floor(np.abs(change) / threshold + ROUNDING).astype(np.int64)  # (H, W) events
    sign = np.sign(change)
    y, x = np.nonzero(number)
    repeats = number[y, x]
    y, x = np.repeat(y, repeats), np.repeat(x, repeats)
    nth = np.arange(len(y)) - np.repeat(np.cumsum(repeats) - repeats, repeats) + 1  # 1, 2 ... within each pixel
    level = remembered[y, x] + sign[y, x] * nth * threshold
    way = ((level - before[y, x]) / (after - before)[y, x]).clip(0, 1)
    t = np.rint(start + way * (end - start)).astype(np.int64)
    return remembered + sign * number * threshold, (t, x, y, (sign[y, x] > 0).astype(np.uint8))
