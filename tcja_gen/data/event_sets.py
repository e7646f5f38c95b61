"""Event data sets as frames of counts: `load_events` finds the recordings, `EventSet` is what the other rooms get.

Layout on disk, SpikingJelly's, in a folder for each set (`KNOWN`):

    DVS128Gesture/events_np/train/10/user01_0.npz                        recordings: t, x, y, p
    DVS128Gesture/frames_number_16_split_by_number/train/10/user01_0.npz  frames (T, 2, H, W), read if they fit

The folders train, validation (or val) and test are there where a set has splits; the next folder is the class.

Classes with numbers for names are in the order of the numbers, so that gesture 10 has label 10 (sorted as text it
would come after 1); others are in the order of their names.

Splits are official where there are folders for them. CIFAR10-DVS and N-Caltech101 have none. The literature takes
nine parts of ten of each class for training, and so it is here: one recording of ten in every class, rounded down,
is for testing, drawn with a fixed seed from the files in natural order (TCJA's code takes the last tenth of the
files of each class). Where validation is missing it is drawn in the same way, one in twelve of each
class of the training recordings. A split depends on the names of the files and on nothing else.

N-Caltech101 comes with 101 folders: 100 kinds of things, Faces_easy among them (its authors dropped Faces, which has
the same pictures), and BACKGROUND_Google, which the published 101 classes include. It is therefore left out only
where 101 classes remain without it. Faces and Faces_easy are two classes if both are there.

Frames are made once and kept in $XDG_CACHE_HOME/tcja_gen (~/.cache/tcja_gen), one .npy a set, T, way and size; it
is mapped, not read, so that the 10 GB of N-Caltech101 at T = 14 need no memory. Its name is a hash of the files'
names and of the sizes and checksums (CRC-32) that an npz lists for its arrays: content, where times of change
would not survive a copy, at the cost of some bytes of each file, where a full hash would read all of them.
"""

from __future__ import annotations

import difflib
import hashlib
import os
import shutil
import warnings
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ..cache import cache_file, replacing
from .catalogue import PARTS, SPLITS, carve
from .events import check_cut, integrate, read_arrays, read_events
from .folders import SPLIT_FOLDERS, natural
from .pictures import one_line

TEST_SHARE, VALIDATION_SHARE = 10, 12  # one recording in so many of a class; another number moves every split
CACHE_FORMAT = 1  # another number makes every kept file anew
BACKGROUND = "BACKGROUND_Google"


@dataclass(frozen=True)
class Known:
    """A published set: folder, sensor (H, W), number of classes, SpikingJelly's reader, and where to get it.

    `origin` is empty where the reader fetches the set by itself.
    """

    folder: str
    sensor: tuple[int, int]
    classes: int
    reader: str
    origin: str


KNOWN = {
    "dvs128-gesture": Known(
        "DVS128Gesture",
        (128, 128),
        11,
        "dvs128_gesture.DVS128Gesture",
        "https://ibm.ent.box.com/s/3hiq58ww1pbbjrinh367ykfdf60xsfm8/folder/50167556794",
    ),
    "cifar10-dvs": Known("CIFAR10DVS", (128, 128), 10, "cifar10_dvs.CIFAR10DVS", ""),
    "n-caltech101": Known(
        "NCaltech101",
        (180, 240),
        101,
        "n_caltech101.NCaltech101",
        "https://www.garrickorchard.com/datasets/n-caltech101",
    ),
    "n-mnist": Known("NMNIST", (34, 34), 10, "n_mnist.NMNIST", "https://www.garrickorchard.com/datasets/n-mnist"),
}


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
            raise ValueError(f"{self.name}: frames are {found}, wanted torch.uint8 or torch.int16 (N, T, 2, H, W)")
        if labels.shape != frames.shape[:1] or labels.dtype != torch.int64:
            found = f"{labels.dtype} {tuple(labels.shape)}"
            raise ValueError(f"{self.name}: labels are {found}, wanted torch.int64 ({len(frames)},)")
        if len(labels) and not 0 <= int(labels.min()) <= int(labels.max()) < len(self.classes):
            found = f"{int(labels.min())} to {int(labels.max())}"
            raise ValueError(f"{self.name}: labels go from {found}, wanted 0 to {len(self.classes) - 1}")

    def __len__(self) -> int:
        return len(self.frames)

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
    """Load one split of an event data set as frames; the first time makes the frames of all splits.

    source: `dvs128-gesture`, `cifar10-dvs`, `n-caltech101`, `n-mnist`, or the path of a folder in the same layout
    split: `train`, `validation`, `test`, `train+validation`, or `all`; recordings come in this order of parts
    time_steps, by: how recordings are cut into T frames, see `integrate`; frames that SpikingJelly has already
        made for this T and way are taken instead
    size: side in pixels or (H, W): the pixel (x, y) counts at (x · W // width, y · H // height), so that no event is
        lost and counts grow; None keeps the sensor's. (A network that pools 128 to 48 itself wants None.)
    sensor: (H, W) in pixels, wanted for a folder of recordings which is not called as a known one; without it the
        size is taken for the sensor's
    root: where the folders of the known sets lie

    ValueError for a mistaken argument or a bad file, FileNotFoundError for missing data, one line each; OSError if
    the disk of the cache is full.
    """
    if split not in SPLITS:
        raise ValueError(f"unknown split {split!r}: take one of {', '.join(SPLITS)}")
    check_cut(time_steps, by)
    name, folder, known = _find(source, Path(root))
    base = _base(folder, known, time_steps, by)
    recordings = _recordings(base, known, whole=name in KNOWN)
    cut = _cut(base, recordings, time_steps, by, sensor or (known.sensor if known else None), size)
    rows = _rows(recordings.counts, split, name)
    frames = _mapped(_kept(recordings, cut))[rows]
    return EventSet(frames, recordings.labels[rows], name, split, recordings.classes)


def load_recording(
    path: str | os.PathLike, *, time_steps: int, by: str = "number", sensor: tuple[int, int], size: tuple[int, int]
) -> Tensor:
    """Counts `(T, 2, H, W)`, int64, of one recording, or of one file of frames that SpikingJelly made.

    The rules and the arguments are those of `load_events`; ValueError or FileNotFoundError naming the file.
    """
    if not Path(path).is_file():
        raise FileNotFoundError(f"{path}: no such file, a recording (.npz) is wanted")
    made = "frames.npy" in [name for name, *_ in _sums(Path(path))]
    return torch.from_numpy(_Cut(made, time_steps, by, tuple(sensor), tuple(size)).frames(Path(path)))


def recordings_of(source: str | os.PathLike, root: str | os.PathLike = "data") -> Iterator[tuple[Path, Known | None]]:
    """Every recording of a set, and what is known of the set; FileNotFoundError or ValueError if there is none."""
    _, folder, known = _find(source, Path(root))
    base = folder / "events_np"
    if not base.is_dir():
        raise FileNotFoundError(f"{base}: no recordings to check: {_recipe(folder, known)}")
    for _, _, path in _entries(base):
        yield path, known


def stratified(indices: Tensor, labels: Tensor, share: int) -> tuple[Tensor, Tensor]:
    """Kept and held-out indices, ascending: one in `share` of every class is held out (`catalogue.carve`)."""
    halves = [carve(indices[labels[indices] == label], share, len(indices)) for label in labels.unique()]
    kept, held = (torch.cat(half).sort().values for half in zip(*halves, strict=True))
    return kept, held


def binned(frames: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Counts `(..., H, W)` on a coarser grid `(..., H', W')`: pixel (x, y) goes to (x · W' // W, y · H' // H)."""
    for axis, new in ((-2, size[0]), (-1, size[1])):
        first = -(-np.arange(new) * frames.shape[axis] // new)  # the first pixel of each bin
        frames = np.add.reduceat(frames, first, axis=axis)
    return frames


@dataclass(frozen=True, eq=False)
class _Recordings:
    """The files of a set, those of training first, then validation, then test."""

    files: list[tuple[str, Path]]  # name below the set's folder, path
    labels: Tensor  # (N,)
    classes: tuple[str, ...]
    counts: dict[str, int]  # each of PARTS -> recordings


@dataclass(frozen=True)
class _Cut:
    """How files become frames; together with the files it is what a kept file depends on."""

    made: bool  # by SpikingJelly, so that only the size is left to do
    time_steps: int
    by: str
    sensor: tuple[int, int]
    size: tuple[int, int]

    def frames(self, path: Path) -> np.ndarray:
        """Integer counts `(T, 2, H, W)` of a file; ValueError naming it."""
        if self.made:
            counts = _made_frames(path, (self.time_steps, 2, *self.sensor))
        else:
            counts = integrate(read_events(path, self.sensor), self.time_steps, self.by, size=self.sensor)
        return counts if self.size == self.sensor else binned(counts, self.size)


def _find(source: str | os.PathLike, root: Path) -> tuple[str, Path, Known | None]:
    """Name, folder, and what is known of a set by its name or its folder's."""
    if str(source) in KNOWN:
        known = KNOWN[str(source)]
        return str(source), root / known.folder, known
    path = Path(source)
    if path.is_dir():
        name = path.resolve().name
        return name, path, next((known for known in KNOWN.values() if known.folder == name), None)
    if path.exists() or len(path.parts) > 1:
        raise FileNotFoundError(f"{source}: no such folder")
    close = difflib.get_close_matches(str(source).lower(), KNOWN, n=1)
    hint = f", did you mean {close[0]!r}?" if close else ":"
    raise ValueError(f"unknown event data {str(source)!r}{hint} known are {', '.join(KNOWN)}, or give a folder's path")


def _base(folder: Path, known: Known | None, time_steps: int, by: str) -> Path:
    """The folder of the frames already made, else of the recordings."""
    wanted = [f"frames_number_{time_steps}_split_by_{by}", "events_np"]
    for base in (folder / name for name in wanted):
        marker = base.with_name(base.name + ".building")
        if marker.exists():
            raise ValueError(
                f"{base} is unfinished, as SpikingJelly was stopped: remove it and {marker}, and convert again"
            )
        if base.is_dir():
            return base
    raise FileNotFoundError(f"{folder} has neither {wanted[1]} nor {wanted[0]}: {_recipe(folder, known)}")


def _recipe(folder: Path, known: Known | None) -> str:
    """How to get a known set, in one line."""
    if known is None:
        return "put the recordings into events_np/[train|test/]CLASS/*.npz (arrays t, x, y, p)"
    module, reader = known.reader.split(".")
    fetch = f"put the archive of {known.origin} into {folder / 'download'}, then " if known.origin else "to fetch it, "
    code = f"from spikingjelly.datasets.{module} import {reader}; {reader}({str(folder)!r}, data_type='event')"
    return f'{fetch}run `python -c "{code}"` (needs a torchaudio that matches torch)'


def _recordings(base: Path, known: Known | None, whole: bool) -> _Recordings:
    """All files of a set in order; ValueError if classes are empty, or missing where it must be `whole`."""
    entries = _without_background(_entries(base), known)
    classes = _class_order({label for _, label, _ in entries})
    if not classes:
        raise ValueError(f"{base}: no recordings found, wanted [train|test/]CLASS/*.npz in it")
    if whole and len(classes) != known.classes:
        raise ValueError(f"{base} has {len(classes)} classes, wanted {known.classes}: convert the whole set again")
    number = {label: k for k, label in enumerate(classes)}
    labels = torch.tensor([number[label] for _, label, _ in entries])
    parts = _parts([split for split, _, _ in entries], labels)
    order = torch.cat([parts[part] for part in PARTS])
    files = [(path.relative_to(base).as_posix(), path) for path in (entries[i][2] for i in order.tolist())]
    return _Recordings(files, labels[order], classes, {part: len(parts[part]) for part in PARTS})


def _entries(base: Path) -> list[tuple[str | None, str, Path]]:
    """(split or None, class, file) of every recording, in natural order of the files' names."""
    tops = _folders(base)
    if {"train", "test"}.isdisjoint(top.name.lower() for top in tops):
        return [(None, *entry) for entry in _by_class(base)]
    splits = [(SPLIT_FOLDERS.get(top.name.lower()), top) for top in tops]
    return [(split, *entry) for split, top in splits if split for entry in _by_class(top)]


def _by_class(folder: Path) -> Iterator[tuple[str, Path]]:
    if stray := next(folder.glob("*.npz"), None):
        raise ValueError(f"{stray} lies beside class folders: move it into one")
    for place in _folders(folder):
        files = [file for file in place.glob("*.npz") if not file.name.startswith(".")]
        if not files:
            raise ValueError(f"{place}: class folder without recordings (*.npz): fill it or remove it")
        yield from ((place.name, file) for file in sorted(files, key=lambda file: natural(file.name)))


def _folders(folder: Path) -> list[Path]:
    visible = [path for path in folder.iterdir() if path.is_dir() and not path.name.startswith(".")]
    return sorted(visible, key=lambda path: natural(path.name))


def _without_background(entries: list, known: Known | None) -> list:
    """The entries without those of BACKGROUND_Google, if all classes of N-Caltech101 remain."""
    others = {label for _, label, _ in entries} - {BACKGROUND}
    if known is KNOWN["n-caltech101"] and len(others) >= known.classes:
        return [entry for entry in entries if entry[1] != BACKGROUND]
    return entries


def _class_order(names: set[str]) -> tuple[str, ...]:
    numbers = all(name.isdecimal() for name in names)
    return tuple(sorted(names, key=lambda name: (int(name), name) if numbers else name))


def _parts(splits: list[str | None], labels: Tensor) -> dict[str, Tensor]:
    """Indices of each of PARTS: those given by folders; what is missing is carved out of training."""
    given = {part: torch.tensor([i for i, split in enumerate(splits) if split == part]).long() for part in PARTS}
    train, validation, test = given.values()
    if not any(splits):
        train = torch.arange(len(splits))
    if not len(test):
        train, test = stratified(train, labels, TEST_SHARE)
    if not len(validation):
        train, validation = stratified(train, labels, VALIDATION_SHARE)
    return {"train": train, "validation": validation, "test": test}


def _rows(counts: dict[str, int], split: str, name: str) -> slice:
    """Where a split lies in the files' order; every one of SPLITS is a run of parts."""
    before = sum(counts[part] for part in PARTS[: PARTS.index(SPLITS[split][0])])
    number = sum(counts[part] for part in SPLITS[split])
    if not number:
        found = ", ".join(f"{part} {count}" for part, count in counts.items())
        raise ValueError(f"{name} has no recording in split {split!r} ({found}): add some or take another split")
    return slice(before, before + number)


def _cut(
    base: Path,
    recordings: _Recordings,
    time_steps: int,
    by: str,
    sensor: tuple[int, int] | None,
    size: int | tuple[int, int] | None,
) -> _Cut:
    """What is to be done to each file; ValueError if the sensor is unknown or smaller than the size."""
    made = base.name != "events_np"
    if sensor is None and made:
        sensor = read_arrays(recordings.files[0][1], ("frames",))["frames"].shape[-2:]
    size = (size, size) if isinstance(size, int) else size
    if sensor is None and size is None:
        raise ValueError(
            f"{base}: the sensor that recorded it is not known: give its sides, sensor=(H, W), "
            "in training --model.image-size (and --model.image-width)"
        )
    sensor, size = tuple(sensor or size), tuple(size or sensor)
    if len(size) != 2 or not all(1 <= new <= side for new, side in zip(size, sensor, strict=False)):
        raise ValueError(
            f"size {size} does not lie between 1 and the sensor's {tuple(sensor)}: counts can only be merged"
        )
    return _Cut(made, time_steps, by, tuple(sensor), size)


def _made_frames(path: Path, shape: tuple[int, ...]) -> np.ndarray:
    """Frames that SpikingJelly made, as int64 of this shape; ValueError naming the file if they are others."""
    frames = read_arrays(path, ("frames",))["frames"]
    if frames.shape != shape:
        raise ValueError(f"{path}: frames are {frames.shape}, wanted (T, 2, H, W) = {shape}: make them anew")
    if frames.dtype.kind not in "iuf":
        raise ValueError(f"{path}: frames are {frames.dtype}, wanted event counts: make them anew")
    with np.errstate(invalid="ignore"):
        counts = frames.astype(np.int64)
    if counts.min() < 0 or not np.array_equal(counts, frames):
        raise ValueError(f"{path}: frames hold values that are no event counts (0, 1, 2 ...): make them anew")
    return counts


def _kept(recordings: _Recordings, cut: _Cut) -> Path:
    """The .npy of all frames, made if it is not there."""
    files = [[name, _sums(path)] for name, path in recordings.files]
    path = cache_file("event-frames", ".npy", format=CACHE_FORMAT, cut=vars(cut), files=files)
    if not path.exists():
        paths = [path for _, path in recordings.files]
        with replacing(path) as temporary:
            if not _fill(temporary, paths, cut, np.uint8):
                _fill(temporary, paths, cut, np.int16)
    return path


def _sums(path: Path) -> list:
    """Name, length and checksum of each array, as the npz lists them; ValueError naming a file that is no npz."""
    try:
        with zipfile.ZipFile(path) as archive:
            return [[member.filename, member.file_size, member.CRC] for member in archive.infolist()]
    except (zipfile.BadZipFile, OSError) as error:
        raise ValueError(f"{path}: not a readable npz, or cut off ({one_line(error)}): make it anew") from None


def _fill(target: Path, paths: list[Path], cut: _Cut, dtype: type) -> bool:
    """Write the frames of all files as one .npy; False, with the file unfinished, at a count too large for uint8."""
    from tqdm import tqdm

    shape = (len(paths), cut.time_steps, 2, *cut.size)
    _check_space(target.parent, int(np.prod(shape)) * np.dtype(dtype).itemsize)
    header = {"descr": np.lib.format.dtype_to_descr(np.dtype(dtype)), "fortran_order": False, "shape": shape}
    with open(target, "wb") as file:  # written, not mapped: a full disk is an error here and a crash there
        np.lib.format.write_array_header_1_0(file, header)
        for path in tqdm(paths, "frames", delay=2, leave=False, disable=None):
            frames = cut.frames(path)
            if frames.max() > np.iinfo(dtype).max:
                if dtype is np.uint8:
                    return False
                raise ValueError(
                    f"{path}: {frames.max()} events in one pixel and frame: take more steps or a larger size"
                )
            file.write(frames.astype(dtype).tobytes())
    return True


def _check_space(folder: Path, wanted: int) -> None:
    free = shutil.disk_usage(folder).free
    if free < wanted:
        found = f"{free / 1e9:.1f} GB free, {wanted / 1e9:.1f} GB wanted for the frames"
        raise OSError(f"{folder} has {found}: make room, or set XDG_CACHE_HOME to a folder on a larger disk")


def _mapped(path: Path) -> Tensor:
    """A .npy as a tensor that reads from the file when it is indexed."""
    with warnings.catch_warnings():  # torch has no read-only tensors and says so; EventSet says it, too
        warnings.filterwarnings("ignore", message="The given NumPy array is not writable")
        return torch.from_numpy(np.load(path, mmap_mode="r"))
