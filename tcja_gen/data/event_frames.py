"""Frames of counts from the files of an event data set, made once and kept.

They are kept in $XDG_CACHE_HOME/tcja_gen (~/.cache/tcja_gen): one .npy for each set, T, way of cutting, and size. The
file is memory-mapped, so that the 10 GB of N-Caltech101 at T = 14 need no memory. Its name is a hash of the recordings'
names, sizes and checksums (CRC-32). Unlike the files' times these survive a copy. An npz and a zip list them, so that
they are read at once; other files are read for them, once in a process.
"""

from __future__ import annotations

import shutil
import warnings
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ..cache import entry
from ..errors import UserError
from ..progress import track
from ..registry import FRAMES
from .event_layout import Place
from .event_recording import Recording
from .event_splits import Recordings
from .events import integrate

VERSION = 2  # of the way from files to frames; another number makes every kept file anew


@dataclass(frozen=True)
class Cut:
    """How recordings become frames. The kept frames depend on this and on the recordings."""

    made: bool  # by SpikingJelly, so that only the size is left to do
    time_steps: int
    by: str
    sensor: tuple[int, int]
    size: tuple[int, int]

    def frames(self, recording: Recording) -> np.ndarray:
        """Integer counts `(T, 2, H, W)` of a file; ValueError naming it."""
        if self.made:
            counts = _made_frames(recording, (self.time_steps, 2, *self.sensor))
        else:
            counts = integrate(recording.events(self.sensor), self.time_steps, self.by, size=self.sensor)
        return counts if self.size == self.sensor else binned(counts, self.size)


def cut_of(
    place: Place,
    recordings: Recordings,
    time_steps: int,
    by: str,
    sensor: tuple[int, int] | None,
    size: int | tuple[int, int] | None,
) -> Cut:
    """How each file becomes frames; ValueError if the sensor is unknown or smaller than the size."""
    if sensor is None and place.made:
        sensor = recordings.files[0].frames().shape[-2:]
    elif sensor is None:
        sensor = _told(recordings.files)
    size = (size, size) if isinstance(size, int) else size
    if sensor is None and size is None:
        raise UserError(
            f"{place.path}: the sensor that recorded it is not known: give its sides, sensor=(H, W), "
            "in training --model.image-size (and --model.image-width)"
        )
    sensor, size = tuple(sensor or size), tuple(size or sensor)
    if len(size) != 2 or not all(1 <= new <= side for new, side in zip(size, sensor, strict=False)):
        raise UserError(
            f"size {size} does not lie between 1 and the sensor's {tuple(sensor)}: counts can only be merged"
        )
    return Cut(place.made is not None, time_steps, by, tuple(sensor), size)


def _told(files: list[Recording]) -> tuple[int, int] | None:
    """The sensor (H, W) that the first file of one of the formats tells."""
    first = {file.path.suffix.lower(): file for file in reversed(files)}
    return next((sensor for file in first.values() if (sensor := file.sensor())), None)


def kept(recordings: Recordings, cut: Cut) -> Tensor:
    """All frames, mapped from their .npy, which is made if it is not there.

    They may be larger than the memory, so that there is no going on without a place: OSError before any work.
    """
    files = [[file.name, file.content(), *_how(file)] for file in recordings.files]

    def write(file: Path) -> None:
        if not _fill(file, recordings.files, cut, np.uint8):
            _fill(file, recordings.files, cut, np.int16)

    sha = FRAMES.source(cut.by).sha  # of a plugin, whose frames change with it
    how = vars(cut) | ({"plugin": sha} if sha else {})
    cached = entry("event-frames", ".npy", VERSION, mapped, cut=how, files=files)
    frames = cached.get()
    return cached.store(write) if frames is None else frames


def _how(file: Recording) -> list:
    """What else tells a recording from the others of its file; nothing for most."""
    return [list(file.window or ()), file.transposed] if file.window or file.transposed else []


def _fill(target: Path, files: list[Recording], cut: Cut, dtype: type) -> bool:
    """Write the frames of all files as one .npy; False, with the file unfinished, at a count too large for uint8."""
    shape = (len(files), cut.time_steps, 2, *cut.size)
    _check_space(target.parent, int(np.prod(shape)) * np.dtype(dtype).itemsize)
    header = {"descr": np.lib.format.dtype_to_descr(np.dtype(dtype)), "fortran_order": False, "shape": shape}
    with open(target, "wb") as file:  # written, not mapped: a full disk is an error here and a crash there
        np.lib.format.write_array_header_1_0(file, header)
        for recording in track(files, "frames"):
            frames = cut.frames(recording)
            if frames.max() > np.iinfo(dtype).max:
                if dtype is np.uint8:
                    return False
                raise UserError(
                    f"{recording.path}: {frames.max()} events in one pixel and frame: take more steps or a larger size"
                )
            file.write(frames.astype(dtype).tobytes())
    return True


def _check_space(folder: Path, wanted: int) -> None:
    free = shutil.disk_usage(folder).free
    if free < wanted:
        found = f"{free / 1e9:.1f} GB free, {wanted / 1e9:.1f} GB wanted for the frames"
        raise OSError(f"{folder} has {found}: make room, or set XDG_CACHE_HOME to a folder on a larger disk")


def mapped(path: Path) -> Tensor:
    """A .npy as a tensor that reads from the file when it is indexed."""
    with warnings.catch_warnings():  # torch has no read-only tensors and says so; EventSet says it, too
        warnings.filterwarnings("ignore", message="The given NumPy array is not writable")
        return torch.from_numpy(np.load(path, mmap_mode="r"))


def _made_frames(recording: Recording, shape: tuple[int, ...]) -> np.ndarray:
    """Frames that SpikingJelly made, as int64 of this shape; ValueError naming the file if they are others."""
    frames, path = recording.frames(), recording.path
    if frames.shape != shape:
        raise UserError(f"{path}: frames are {frames.shape}, wanted (T, 2, H, W) = {shape}: make them anew")
    if frames.dtype.kind not in "iuf":
        raise UserError(f"{path}: frames are {frames.dtype}, wanted event counts: make them anew")
    with np.errstate(invalid="ignore"):
        counts = frames.astype(np.int64)
    if counts.min() < 0 or not np.array_equal(counts, frames):
        raise UserError(f"{path}: frames hold values that are no event counts (0, 1, 2 ...): make them anew")
    return counts


def binned(frames: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Counts `(..., H, W)` on a coarser grid `(..., H', W')`: pixel (x, y) goes to (x · W' // W, y · H' // H)."""
    for axis, new in ((-2, size[0]), (-1, size[1])):
        first = -(-np.arange(new) * frames.shape[axis] // new)  # the first pixel of each bin
        frames = np.add.reduceat(frames, first, axis=axis)
    return frames
