"""`load_events`: one split of event recordings as frames of counts, an `EventSet`.

Where the recordings lie and which split each belongs to is told in `event_layout`, how frames are made and kept in
`event_frames`.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import torch
from torch import Tensor

from ..errors import MissingFile, UserError
from .catalogue import SPLITS
from .event_frames import Cut, cut_of, kept, sums
from .event_layout import KNOWN, Known, find, frames_or_recordings, recipe, recordings_in, rows_of
from .events import check_cut, read_arrays, read_events


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


def load_events(
    source: str | os.PathLike,
    split: str = "train",
    *,
    time_steps: int,
    by: str = "number",
    size: int | tuple[int, int] | None = None,
    sensor: tuple[int, int] | None = None,
    root: str | os.PathLike = "data",
) -> EventSet:
    """One split of an event data set as frames. The first call makes and keeps the frames of all splits.

    source: `dvs128-gesture`, `cifar10-dvs`, `n-caltech101`, `n-mnist`, or the path of a folder in the same layout
    split: `train`, `validation`, `test`, `train+validation`, or `all`; recordings come in this order of parts
    time_steps, by: how recordings are cut into T frames, see `integrate`; if SpikingJelly has made frames for this T
        and way of cutting, they are taken instead
    size: side in pixels, or (H, W); None: the sensor's. Neighbouring pixels are merged: an event at (x, y) is counted
        at (x · W // width, y · H // height), so no event is lost
    sensor: (H, W) in pixels of the sensor, for a folder that is not named as a known set; None: as `size`
    root: where the folders of the known sets lie

    ValueError for a mistaken argument or a bad file, FileNotFoundError for missing data, one line each; OSError if
    the disk of the cache is full.
    """
    if split not in SPLITS:
        raise UserError(f"unknown split {split!r}: take one of {', '.join(SPLITS)}")
    check_cut(time_steps, by)
    name, folder, known = find(source, Path(root))
    base = frames_or_recordings(folder, known, time_steps, by)
    recordings = recordings_in(base, known, whole=name in KNOWN)
    cut = cut_of(base, recordings, time_steps, by, sensor or (known.sensor if known else None), size)
    rows = rows_of(recordings.counts, split, name)
    frames = kept(recordings, cut)[rows]
    return EventSet(frames, recordings.labels[rows], name, split, recordings.classes)


def load_recording(
    path: str | os.PathLike, *, time_steps: int, by: str = "number", sensor: tuple[int, int], size: tuple[int, int]
) -> Tensor:
    """Counts `(T, 2, H, W)`, int64, of one recording, or of one file of frames that SpikingJelly made.

    The rules and the arguments are those of `load_events`; ValueError or FileNotFoundError naming the file.
    """
    if not Path(path).is_file():
        raise MissingFile(f"{path}: no such file, a recording (.npz) is wanted")
    made = "frames.npy" in [name for name, *_ in sums(Path(path))]
    return torch.from_numpy(Cut(made, time_steps, by, tuple(sensor), tuple(size)).frames(Path(path)))


def parts_of(source: str | os.PathLike, root: str | os.PathLike = "data") -> Iterator[tuple[Path, Known | None]]:
    """The folders of recordings, and of frames that SpikingJelly made, of a set, and what is known of it;
    FileNotFoundError or ValueError if there is none."""
    _, folder, known = find(source, Path(root))
    bases = [base for base in sorted(folder.glob("*")) if base.is_dir() and (base.name == "events_np" or way(base))]
    if not bases:
        raise MissingFile(f"{folder} has neither recordings nor frames to check: {recipe(folder, known)}")
    yield from ((base, known) for base in bases)


def way(base: Path) -> tuple[int, str] | None:
    """T and the way of cutting, from the name of a folder of frames; None if it has another name."""
    found = re.fullmatch(r"frames_number_([0-9]+)_split_by_(\w+)", base.name)
    return found and (int(found[1]), found[2])


def reader_of(base: Path, known: Known | None, path: Path) -> Callable[[Path], object]:
    """The function that reads a file of a folder of `parts_of`, or raises a ValueError with its name and what is wrong.
    If the sensor is not known, frames must have the size of those in `path`."""
    sensor = known.sensor if known else None
    if base.name == "events_np":
        return lambda path: read_events(path, sensor)
    sensor = sensor or read_arrays(path, ("frames",))["frames"].shape[-2:]
    return Cut(True, *way(base), sensor, sensor).frames
