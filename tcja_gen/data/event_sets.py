"""`load_events`: one split of event recordings as frames of counts, an `EventSet`.

Where the recordings lie is told in `event_layout`, which split each belongs to in `event_splits`, how frames are made
and kept in `event_frames`.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ..errors import MissingFile, UserError
from .catalogue import SPLITS, even
from .event_files import READERS
from .event_frames import Cut, cut_of, kept
from .event_layout import Place, find, is_recording, place_of
from .event_names import KNOWN, Known, known_as
from .event_recording import Recording, single
from .event_splits import in_folds, recordings_in, rows_of
from .events import check_cut, integrate


@dataclass(frozen=True, eq=False)
class EventSet:
    """Frames of one split: event counts `(N, T, 2, H, W)`, uint8, or int16 if a count of the set exceeds 255.

    `labels` int64 `(N,)` index `classes`; both tensors are on the CPU. `frames` may be a file mapped read-only:
    index it, but never write to it.
    """

    frames: Tensor
    labels: Tensor
    name: str
    split: str
    classes: tuple[str, ...]

    def __post_init__(self):
        frames, labels = self.frames, self.labels
        if frames.ndim != 5 or frames.shape[2] != 2 or frames.dtype not in (torch.uint8, torch.int16):
            found = f"{frames.dtype} {tuple(frames.shape)}"
            raise UserError(f"{self.name}: frames are {found}, wanted torch.uint8 or torch.int16 (N, T, 2, H, W)")
        if labels.shape != frames.shape[:1] or labels.dtype != torch.int64:
            found = f"{labels.dtype} {tuple(labels.shape)}"
            raise UserError(f"{self.name}: labels are {found}, wanted torch.int64 ({len(frames)},)")
        if len(labels) and not 0 <= int(labels.min()) <= int(labels.max()) < len(self.classes):
            found = f"{int(labels.min())} to {int(labels.max())}"
            raise UserError(f"{self.name}: labels go from {found}, wanted 0 to {len(self.classes) - 1}")

    def __len__(self) -> int:
        return len(self.frames)

    def __repr__(self) -> str:
        shape = " x ".join(map(str, self.frames.shape[1:]))
        return f"EventSet({self.name}, {self.split}: {len(self):,} recordings, {shape}, {len(self.classes)} classes)"

    @property
    def samples(self) -> Tensor:
        """What batches are cut from, as `ImageSet.samples`."""
        return self.frames

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 (hex) of the shape, the counts (as int16) and the labels; name and type play no part."""
        digest = hashlib.sha256(repr(tuple(self.frames.shape)).encode())
        for recording in self.frames:
            digest.update(recording.to(torch.int16).contiguous().numpy())
        digest.update(self.labels.contiguous().numpy())
        return digest.hexdigest()


def full_count(data: EventSet, share: float = 0.01, most: int = 1024) -> int:
    """The count that is exceeded in at most this share of the pixels with events; at least 1.

    most: recordings that are looked at, spread over the set
    """
    counted = torch.zeros(torch.iinfo(torch.int16).max + 1, dtype=torch.int64)
    for i in even(most, len(data)):
        counts = data.frames[i].flatten().long()
        counted += counts.bincount(minlength=len(counted))
    counted[0] = 0
    reached = counted.cumsum(0) >= (1 - share) * counted.sum()
    return max(int(reached.nonzero()[0]), 1)


def load_events(
    source: str | os.PathLike,
    split: str = "train",
    *,
    time_steps: int,
    by: str = "number",
    size: int | tuple[int, int] | None = None,
    sensor: tuple[int, int] | None = None,
    root: str | os.PathLike = "data",
    fold: tuple[int, int] | None = None,
) -> EventSet:
    """One split of an event data set as frames. The first call makes and keeps the frames of all splits.

    source: `dvs128-gesture`, `cifar10-dvs`, `n-caltech101`, `n-mnist`, or the path of a folder (`event_layout`)
    split: `train`, `validation`, `test`, `train+validation`, or `all`; recordings come in this order of parts
    time_steps, by: how recordings are cut into T frames, see `integrate`; of a set that is not there as published, the
        frames that SpikingJelly made for this T and way of cutting are taken, or its events (`event_layout.place_of`)
    size: side in pixels, or (H, W); None: the sensor's. Neighbouring pixels are merged: an event at (x, y) is counted
        at (x · W // width, y · H // height), so no event is lost
    sensor: (H, W) in pixels of the sensor, for a folder that is not named as a known set; None: what the files tell,
        else as `size`
    root: where the folders of the known sets lie
    fold: (k, n): instead of the set's splits, the k-th of n folds of all recordings is for validation, the others are
        for training, see `event_splits.in_folds`. The frames of these splits are in memory

    ValueError for a mistaken argument or a bad file, FileNotFoundError for missing data, one line each; OSError if
    the disk of the cache is full.
    """
    if split not in SPLITS:
        raise UserError(f"unknown split {split!r}: take one of {', '.join(SPLITS)}")
    check_cut(time_steps, by)
    name, folder, known = find(source, Path(root))
    place = place_of(folder, known, time_steps, by)
    recordings = recordings_in(place, known, whole=str(source) in KNOWN)
    cut = cut_of(place, recordings, time_steps, by, sensor or (known.sensor if known else None), size)
    rows = in_folds(recordings, split, name, *fold) if fold else rows_of(recordings.counts, split, name)
    frames = kept(recordings, cut)[rows]
    return EventSet(frames, recordings.labels[rows], name, split, recordings.classes)


def first_of_each_class(
    source: str | os.PathLike, *, time_steps: int, by: str = "time", root: str | os.PathLike = "data", most: int = 10
) -> tuple[Tensor, tuple[str, ...]]:
    """One training recording of each class as frames of counts `(N, T, 2, H, W)`, int64, and the classes' names: to
    look at a set, of which nothing else is read. The arguments are those of `load_events`; of one recording, these are
    its frames and its file's name.

    most: classes; of more, the first, the last and some between are taken
    """
    check_cut(time_steps, by)
    if is_recording(source):
        return _frames_of([single(Path(source), None)], None, time_steps, by), (Path(source).name,)
    _, folder, known = find(source, Path(root))
    place = place_of(folder, known, time_steps, by)
    recordings = recordings_in(place, known, whole=False)
    chosen = torch.linspace(0, len(recordings.classes) - 1, min(most, len(recordings.classes))).round().long().tolist()
    files = [recordings.files[int((recordings.labels == label).nonzero()[0])] for label in chosen]
    sensor = known.sensor if known else None
    if place.made:
        cut = Cut(True, time_steps, by, *[tuple(sensor or files[0].frames().shape[-2:])] * 2)
        frames = torch.from_numpy(np.stack([cut.frames(file) for file in files]))
    else:
        frames = _frames_of(files, sensor, time_steps, by)
    return frames, tuple(recordings.classes[label] for label in chosen)


def _frames_of(files: list[Recording], sensor: tuple[int, int] | None, time_steps: int, by: str) -> Tensor:
    """Frames of counts `(N, T, 2, H, W)`; of as many pixels as the events fill where nothing tells the sensor."""
    events = [file.events(sensor) for file in files]
    sensor = sensor or files[0].sensor() or tuple(max(int(getattr(e, k).max()) + 1 for e in events) for k in "yx")
    return torch.from_numpy(np.stack([integrate(each, time_steps, by, size=sensor) for each in events]))


def load_recording(
    path: str | os.PathLike, *, time_steps: int, by: str = "number", size: tuple[int, int], like: str = ""
) -> Tensor:
    """Counts `(T, 2, H, W)`, int64, of one recording, or of one file of frames that SpikingJelly made.

    like: name of the set that was recorded in the same way (`n-mnist`, `NMNIST`); for others the sensor is what the
        file tells, else `size`

    The rules and the other arguments are those of `load_events`; ValueError or FileNotFoundError naming the file.
    """
    known = known_as(like)
    file = single(Path(path), known)
    if not file.path.is_file():
        raise MissingFile(f"{path}: no such file, a recording is wanted ({', '.join(READERS)})")
    made = file.path.suffix.lower() == ".npz" and "frames.npy" in [name for name, *_ in file.content()]
    sensor = known.sensor if known else (not made and file.sensor()) or size
    return torch.from_numpy(Cut(made, time_steps, by, tuple(sensor), tuple(size)).frames(file))


def reader_of(place: Place, known: Known | None, first: Recording) -> Callable[[Recording], object]:
    """The function that reads a file of a place, or raises a ValueError with its name and what is wrong. If the sensor
    is not known, frames must have the size of those in `first`."""
    sensor = known.sensor if known else None
    if not place.made:
        return lambda recording: recording.events(sensor)
    sensor = sensor or first.frames().shape[-2:]
    return Cut(True, *place.made, sensor, sensor).frames
