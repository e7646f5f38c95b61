"""The class and the split of each recording of an event data set.

A set with splits has folders train, validation (or val) and test, in any case; the folder below is the class. DVS128
Gesture has lists instead: trials_to_train.txt and trials_to_test.txt name files of several gestures each, and
user01_led_labels.csv tells class, first and last microsecond of each gesture in user01_led.aedat. A gesture is named as
SpikingJelly names it, train/0/user01_led_0, so that the splits are the same from its files.

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

import os
from collections.abc import Iterator
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from ..errors import MissingFile, UserError
from .catalogue import PARTS, SPLIT_SEED, SPLITS, carve
from .event_layout import TRIALS, Place
from .event_names import KNOWN, Known
from .event_recording import Recording
from .folders import SPLIT_FOLDERS, natural

TEST_SHARE, VALIDATION_SHARE = 10, 12  # one recording in so many of a class; another number moves every split
BACKGROUND = "BACKGROUND_Google"


@dataclass(frozen=True, eq=False)
class Recordings:
    """The files of a set, those of training first, then validation, then test."""

    files: list[Recording]
    labels: Tensor  # (N,)
    classes: tuple[str, ...]
    counts: dict[str, int]  # each of PARTS -> recordings


def recordings_in(place: Place, known: Known | None, whole: bool) -> Recordings:
    """All files of a set in order; ValueError if classes are empty, or missing where it must be `whole`."""
    entries = _without_background(entries_of(place), known)
    classes = _class_order({label for _, label, _ in entries})
    if not classes:
        raise UserError(f"{place.path}: no recordings found, wanted [train|test/]CLASS/{_stars(place)} in it")
    if whole and len(classes) != known.classes:
        advice = "unpack" if place.published else "convert"
        raise UserError(
            f"{place.path} has {len(classes)} classes, wanted {known.classes}: {advice} the whole set again"
        )
    number = {label: k for k, label in enumerate(classes)}
    labels = torch.tensor([number[label] for _, label, _ in entries])
    parts = _parts([split for split, _, _ in entries], labels)
    order = torch.cat([parts[part] for part in PARTS])
    files = [entries[i][2] for i in order.tolist()]
    return Recordings(files, labels[order], classes, {part: len(parts[part]) for part in PARTS})


def entries_of(place: Place) -> list[tuple[str | None, str, Recording]]:
    """(split or None, class, recording) of every recording, in natural order of the files' names."""
    if not TRIALS.keys().isdisjoint(place.files):
        return sorted(_gestures(place), key=lambda entry: natural(entry[2].name))
    halves = {"train", "test"}.intersection(name.lower() for name in place.folders)
    depth = 2 if halves else 1  # folders above a recording: the split's and the class's
    found = {folder: [] for folder in place.folders if folder.count("/") == depth - 1 and _split(folder, halves)[1]}
    for name, file in place.files.items():
        above, _, _ = name.rpartition("/")
        if not name.lower().endswith(place.endings):
            continue
        if name.count("/") == depth - 1 and _split(name, halves)[1]:
            raise UserError(f"{file.path} lies beside class folders: move it into one")
        if above in found:
            found[above].append(file)
    if empty := next((folder for folder, files in found.items() if not files), None):
        reason = f"class folder without recordings ({_stars(place)}): fill it or remove it"
        raise UserError(f"{place.path / empty}: {reason}")
    return [(_split(folder, halves)[0], folder.split("/")[-1], file) for folder in found for file in found[folder]]


def _split(name: str, halves: set[str]) -> tuple[str | None, bool]:
    """The split of a file or folder by its top folder; whether it belongs to the set."""
    if not halves:
        return None, True
    split = SPLIT_FOLDERS.get(name.split("/")[0].lower())
    return split, split is not None


def _gestures(place: Place) -> Iterator[tuple[str, str, Recording]]:
    """The gestures in DVS128 Gesture's files, by its lists and labels."""
    for trials, split in TRIALS.items():
        for line in _lines(place, trials, trials):
            stem, ending = os.path.splitext(line.strip())
            if not stem:
                continue
            file = place.files.get(stem + ending)
            if not file:
                raise MissingFile(f"{place.path / (stem + ending)}: no such file, but {trials} names it")
            seen: dict[str, int] = {}
            for label, window in _labels(place, f"{stem}_labels.csv", trials):
                number = seen[label] = seen.get(label, -1) + 1
                yield split, label, replace(file, name=f"{split}/{label}/{stem}_{number}", window=window)


def _labels(place: Place, name: str, trials: str) -> Iterator[tuple[str, tuple[int, int]]]:
    """Class, counted from 0, and first and last microsecond of each line of a table of labels."""
    for number, line in enumerate(_lines(place, name, trials), start=1):
        if number == 1 or not line.strip():  # the names of the columns
            continue
        try:
            label, first, end = (int(word) for word in line.split(","))
        except ValueError:
            raise UserError(f"{place.path / name}: line {number} is {line!r}, wanted class,start,end") from None
        if label < 1 or not 0 <= first < end:
            raise UserError(f"{place.path / name}: line {number} has no class from 1 on, or no time: {line!r}")
        yield str(label - 1), (first, end)


def _lines(place: Place, name: str, trials: str) -> list[str]:
    """The lines of a text file of a set."""
    if name not in place.files:
        raise MissingFile(f"{place.path / name}: no such file, wanted with the recordings of {trials}")
    return place.files[name].read().decode(errors="replace").splitlines()


def _stars(place: Place) -> str:
    return ", ".join(f"*{ending}" for ending in place.endings)


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


def in_folds(recordings: Recordings, split: str, name: str, fold: int, folds: int) -> Tensor:
    """Positions of a split in `Recordings.files`, ascending, for cross-validation: fold number `fold` of so many is for
    validation, the others are for training, and there is no test split.

    The recordings of every class, of all splits of the set, are shuffled and dealt out to the folds in turn. A fold
    depends on the names of the files alone.
    """
    if not 0 <= fold < folds or folds < 2:
        raise UserError(f"fold {fold} of {folds}: wanted 2 folds or more, and one of 0 to {folds - 1}")
    labels, generator = recordings.labels, torch.Generator().manual_seed(SPLIT_SEED)
    numbers = torch.empty_like(labels)
    for label in labels.unique():
        own = (labels == label).nonzero().flatten()
        numbers[own[torch.randperm(len(own), generator=generator)]] = torch.arange(len(own)) % folds
    parts = {"train": numbers != fold, "validation": numbers == fold}
    chosen = [parts[part] for part in SPLITS[split] if part in parts]
    if not chosen or not (rows := torch.stack(chosen).any(0).nonzero().flatten()).numel():
        raise UserError(f"{name} in {folds} folds has no recording in split {split!r}: validation is fold {fold}")
    return rows


def stratified(indices: Tensor, labels: Tensor, share: int) -> tuple[Tensor, Tensor]:
    """Kept and held-out indices, ascending: one in `share` of every class is held out (`catalogue.carve`)."""
    halves = [carve(indices[labels[indices] == label], share, len(indices)) for label in labels.unique()]
    kept, held = (torch.cat(half).sort().values for half in zip(*halves, strict=True))
    return kept, held
