"""Where the recordings of an event data set lie, and which split each belongs to.

Layout on disk, SpikingJelly's, in a folder for each set (`KNOWN`):

    DVS128Gesture/events_np/train/10/user01_0.npz                        recordings: t, x, y, p
    DVS128Gesture/frames_number_16_split_by_number/train/10/user01_0.npz  frames (T, 2, H, W), read if they fit

A set with splits has folders train, validation (or val) and test; the folder below is the class.

Classes that are numbers are ordered as numbers, so that gesture 10 has label 10; others are ordered by name.

Sets with such folders keep their official splits. CIFAR10-DVS and N-Caltech101 have none. The literature trains on nine
tenths of each class, and so do we: one recording of ten in every class, rounded down, is for testing, drawn with a
fixed seed from the files in natural order (TCJA's code takes the last tenth of each class). If validation is missing,
it is drawn in the same way: one in twelve of the training recordings of each class. A split depends on the names of the
files alone.

N-Caltech101 comes with 101 folders: 100 kinds of things, Faces_easy among them (its authors dropped Faces, which has
the same pictures), and BACKGROUND_Google, which the published 101 classes include. So it is left out only if 101
classes remain without it. Faces and Faces_easy are two classes if both are there.
"""

from __future__ import annotations

import difflib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from ..errors import MissingFile, UserError
from ..registry import DATASETS
from .catalogue import PARTS, SPLITS, carve
from .folders import SPLIT_FOLDERS, natural

TEST_SHARE, VALIDATION_SHARE = 10, 12  # one recording in so many of a class; another number moves every split
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
class Recordings:
    """The files of a set, those of training first, then validation, then test."""

    files: list[tuple[str, Path]]  # name below the set's folder, path
    labels: Tensor  # (N,)
    classes: tuple[str, ...]
    counts: dict[str, int]  # each of PARTS -> recordings


def find(source: str | os.PathLike, root: Path) -> tuple[str, Path, Known | None]:
    """Name, folder, and what is known of a set by its name or its folder's."""
    if str(source) in KNOWN:
        known = KNOWN[str(source)]
        return str(source), root / known.folder, known
    path = Path(source)
    if path.is_dir():
        name = path.resolve().name
        return name, path, next((known for known in KNOWN.values() if known.folder == name), None)
    if path.exists() or len(path.parts) > 1:
        raise MissingFile(f"{source}: no such folder")
    close = difflib.get_close_matches(str(source).lower(), KNOWN, n=1)
    hint = f", did you mean {close[0]!r}?" if close else ":"
    raise UserError(f"unknown event data {str(source)!r}{hint} known are {', '.join(KNOWN)}, or give a folder's path")


for _name in KNOWN:
    DATASETS.register(_name, find)


def frames_or_recordings(folder: Path, known: Known | None, time_steps: int, by: str) -> Path:
    """The folder of the frames already made, else of the recordings."""
    wanted = [f"frames_number_{time_steps}_split_by_{by}", "events_np"]
    for base in (folder / name for name in wanted):
        if reason := unfinished(base):
            raise UserError(f"{base} {reason}")
        if base.is_dir():
            return base
    raise MissingFile(f"{folder} has neither {wanted[1]} nor {wanted[0]}: {recipe(folder, known)}")


def unfinished(base: Path) -> str:
    """What is to be done with a folder that SpikingJelly was stopped in; nothing for others."""
    marker = base.with_name(base.name + ".building")
    if not marker.exists():
        return ""
    return f"is unfinished, as SpikingJelly was stopped: remove it and {marker}, and convert again"


def recipe(folder: Path, known: Known | None) -> str:
    """The line that tells how to get a set."""
    if known is None:
        return "put the recordings into events_np/[train|test/]CLASS/*.npz (arrays t, x, y, p)"
    module, reader = known.reader.split(".")
    fetch = f"put the archive of {known.origin} into {folder / 'download'}, then " if known.origin else "to fetch it, "
    code = f"from spikingjelly.datasets.{module} import {reader}; {reader}({str(folder)!r}, data_type='event')"
    return f'{fetch}run `python -c "{code}"` (needs spikingjelly, and a torchaudio that matches torch)'


def recordings_in(base: Path, known: Known | None, whole: bool) -> Recordings:
    """All files of a set in order; ValueError if classes are empty, or missing where it must be `whole`."""
    entries = _without_background(entries_of(base), known)
    classes = _class_order({label for _, label, _ in entries})
    if not classes:
        raise UserError(f"{base}: no recordings found, wanted [train|test/]CLASS/*.npz in it")
    if whole and len(classes) != known.classes:
        raise UserError(f"{base} has {len(classes)} classes, wanted {known.classes}: convert the whole set again")
    number = {label: k for k, label in enumerate(classes)}
    labels = torch.tensor([number[label] for _, label, _ in entries])
    parts = _parts([split for split, _, _ in entries], labels)
    order = torch.cat([parts[part] for part in PARTS])
    files = [(path.relative_to(base).as_posix(), path) for path in (entries[i][2] for i in order.tolist())]
    return Recordings(files, labels[order], classes, {part: len(parts[part]) for part in PARTS})


def entries_of(base: Path) -> list[tuple[str | None, str, Path]]:
    """(split or None, class, file) of every recording, in natural order of the files' names."""
    tops = _folders(base)
    if {"train", "test"}.isdisjoint(top.name.lower() for top in tops):
        return [(None, *entry) for entry in _by_class(base)]
    splits = [(SPLIT_FOLDERS.get(top.name.lower()), top) for top in tops]
    return [(split, *entry) for split, top in splits if split for entry in _by_class(top)]


def _by_class(folder: Path) -> Iterator[tuple[str, Path]]:
    if stray := next(iter(_recordings(folder)), None):
        raise UserError(f"{stray} lies beside class folders: move it into one")
    for place in _folders(folder):
        if not (files := _recordings(place)):
            raise UserError(f"{place}: class folder without recordings (*.npz): fill it or remove it")
        yield from ((place.name, file) for file in files)


def _recordings(folder: Path) -> list[Path]:
    """The files in a folder that end with .npz, in any case, in natural order."""
    files = [file for file in folder.iterdir() if file.suffix.lower() == ".npz" and not file.name.startswith(".")]
    return sorted(files, key=lambda file: natural(file.name))


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
    """Indices of each of PARTS, by folder; a part that is missing is held out of training."""
    given = {part: torch.tensor([i for i, split in enumerate(splits) if split == part]).long() for part in PARTS}
    train, validation, test = given.values()
    if not any(splits):
        train = torch.arange(len(splits))
    if not len(test):
        train, test = stratified(train, labels, TEST_SHARE)
    if not len(validation):
        train, validation = stratified(train, labels, VALIDATION_SHARE)
    return {"train": train, "validation": validation, "test": test}


def rows_of(counts: dict[str, int], split: str, name: str) -> slice:
    """The positions of a split in `Recordings.files`, where its parts are neighbours."""
    before = sum(counts[part] for part in PARTS[: PARTS.index(SPLITS[split][0])])
    number = sum(counts[part] for part in SPLITS[split])
    if not number:
        found = ", ".join(f"{part} {count}" for part, count in counts.items())
        raise UserError(f"{name} has no recording in split {split!r} ({found}): add some or take another split")
    return slice(before, before + number)


def stratified(indices: Tensor, labels: Tensor, share: int) -> tuple[Tensor, Tensor]:
    """Kept and held-out indices, ascending: one in `share` of every class is held out (`catalogue.carve`)."""
    halves = [carve(indices[labels[indices] == label], share, len(indices)) for label in labels.unique()]
    kept, held = (torch.cat(half).sort().values for half in zip(*halves, strict=True))
    return kept, held
