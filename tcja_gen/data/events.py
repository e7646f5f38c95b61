"""Event recordings as frames of counts, and recordings made from moving pictures.

An event says that the pixel (x, y) grew brighter (p = 1) or darker (p = 0) at time t; `event_files` reads them from
files. A network reads T frames of counts, `(T, 2, H, W)`: `integrate` cuts a recording into T slices, in one of two
ways. Both give SpikingJelly's frames; where it fails, on a slice of time without an event, the frame is empty.

`moving` and `record` make recordings as N-MNIST and N-Caltech101 were made: still pictures, filmed by an event sensor
in three saccades along a triangle. They are for tests and demos, and draw no random numbers.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..errors import UserError
from ..files import replacing
from ..registry import FRAMES, register_frames

KEYS = ("t", "x", "y", "p")
ATIS_SIDE = 240  # pixels; y = 240 is no event in a .bin, but a mark of its clock
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
        fit_together(self)
        if np.any(np.diff(self.t) < 0):
            raise UserError("t is not in ascending order: sort the events by time")
        if int(self.p.max()) > 1 or int(self.p.min()) < 0:
            raise UserError(f"polarity p from {self.p.min()} to {self.p.max()}, only 0 and 1 wanted")

    def __len__(self) -> int:
        return len(self.t)


def fit_together(events) -> None:
    """ValueError if the arrays t, x, y, p are not all `(N,)`, or there are none."""
    arrays = {key: getattr(events, key) for key in KEYS}
    if len({array.shape for array in arrays.values()}) > 1 or events.t.ndim != 1:
        shapes = ", ".join(f"{key} {array.shape}" for key, array in arrays.items())
        raise UserError(f"arrays of unequal shape ({shapes}), one value an event wanted in each")
    if not len(events.t):
        raise UserError("no events in it, one or more wanted")


def write_events(path: str | os.PathLike, events: Events) -> None:
    """Write a recording: .bin as N-MNIST has it, else a compressed npz with the keys t, x, y, p.

    ValueError for events that a .bin cannot hold.
    """
    with replacing(Path(path)) as temporary:
        if Path(path).suffix == ".bin":
            temporary.write_bytes(_atis_bytes(path, events))
        else:
            with open(temporary, "wb") as file:  # np.savez would add .npz to a path without it
                np.savez_compressed(file, **{key: getattr(events, key) for key in KEYS})


def _atis_bytes(path: str | os.PathLike, events: Events) -> bytes:
    """40 bits an event, see `event_files.atis_bin`."""
    side, time = max(int(events.x.max()), int(events.y.max())), int(events.t.max())
    if side >= ATIS_SIDE or time >= 2**23 or min(int(events.x.min()), int(events.y.min()), int(events.t[0])) < 0:
        found = f"pixels up to {side} and times up to {time}"
        raise UserError(f"{path}: {found}; a .bin has pixels below {ATIS_SIDE} and times below {2**23}: write an .npz")
    t = events.t.astype(np.int64)
    columns = events.x, events.y, events.p.astype(np.int64) << 7 | t >> 16, t >> 8 & 255, t & 255
    return np.stack(columns, 1).astype(np.uint8).tobytes()


def integrate(events: Events, time_steps: int, by: str = "number", *, size: tuple[int, int]) -> np.ndarray:
    """Count the events in T frames: integers `(T, 2, H, W)`, polarity 0 first; each event in exactly one frame.

    by: `number`: N // T events a frame, and the rest in the last one; with fewer events than T each has a frame of its
        own, and the last frames are empty.
        `time`: (last t - first t) // T microseconds a frame, at least 1, and the rest in the last one; a frame without
        an event is empty.
        Others come from plugins (`registry.register_frames`), such as time surfaces.
    size: (H, W) of the sensor in pixels

    ValueError if T is not positive, `by` is another word, or an event lies outside of the sensor.
    """
    check_cut(time_steps, by)
    _inside(events.x, events.y, size)
    frames = np.asarray(FRAMES[by](events, time_steps, size))
    if frames.shape != (time_steps, 2, *size) or frames.dtype.kind not in "iu" or frames.min() < 0:
        found = f"{frames.dtype} {frames.shape} from {frames.min()} on"
        raise UserError(f"frames {by!r} are {found}, wanted integers {(time_steps, 2, *size)} from 0 on")
    return frames


@register_frames("number")
def _by_number(events: Events, time_steps: int, size: tuple[int, int]) -> np.ndarray:
    return _counts(events, np.arange(len(events)), len(events) // time_steps, time_steps, size)


@register_frames("time")
def _by_time(events: Events, time_steps: int, size: tuple[int, int]) -> np.ndarray:
    position = events.t - events.t[0]
    return _counts(events, position, position[-1] // time_steps, time_steps, size)


def _counts(events: Events, position: np.ndarray, step: int, time_steps: int, size: tuple[int, int]) -> np.ndarray:
    """Counts of frames of a length, in the unit of each event's position `(N,)`; the last takes the rest."""
    height, width = size
    frame = np.minimum(position // max(int(step), 1), time_steps - 1)  # (N,)
    place = (frame * 2 + events.p) * height + events.y  # int64, as frame is
    counts = np.bincount(place * width + events.x, minlength=time_steps * 2 * height * width)
    return counts.reshape(time_steps, 2, height, width)


def check_cut(time_steps: int, by: str) -> None:
    """ValueError if a recording cannot be cut into so many frames in this way."""
    if time_steps < 1:
        raise UserError(f"time_steps {time_steps}: at least 1 frame wanted")
    if by not in FRAMES:
        raise UserError(f"cannot cut recordings by {by!r}: take {' or '.join(FRAMES)}; --plugin FILE adds others")


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
    return as_events(t[order], x[order], y[order], p[order])


def as_events(t: np.ndarray, x: np.ndarray, y: np.ndarray, p: np.ndarray) -> Events:
    """Events of these arrays, whose values must fit into the types."""
    return Events(t.astype(np.int64), x.astype(np.int16), y.astype(np.int16), p.astype(np.uint8))


def _inside(x: np.ndarray, y: np.ndarray, size: tuple[int, int]) -> None:
    """ValueError if a coordinate is outside of a sensor of (H, W)."""
    for name, values, limit in (("y", y, size[0]), ("x", x, size[1])):
        if values.size and not 0 <= values.min() <= values.max() < limit:
            found = f"{name} from {values.min()} to {values.max()}"
            raise UserError(f"{found} leaves the sensor, whose {name} goes from 0 to {limit - 1}")


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
