"""Where the recordings of an event data set lie, and which split each belongs to.

A named set (`KNOWN`) is looked for under the root, in a folder of its name (`n-mnist`, or SpikingJelly's `NMNIST`).
Taken is the first of these that is there:

    NMNIST/Train/7/00001.bin, or NMNIST/Train.zip                files as published; also in NMNIST/extract or download
    NMNIST/frames_number_16_split_by_number/train/7/00001.npz    frames (T, 2, H, W) that SpikingJelly made, if they fit
    NMNIST/events_np/train/7/00001.npz                           recordings that SpikingJelly converted

Any other folder is a set of one's own: in one of these two layouts of SpikingJelly's, or [train|test/]CLASS/FILE with
recordings in any format of `event_files`, or laid out as DVS128 Gesture.

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

import difflib
import os
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ..errors import MissingFile, UserError
from ..registry import DATASETS
from .catalogue import PARTS, SPLIT_SEED, SPLITS, carve
from .event_files import READERS, Decoded, arrays_of, checked, decode, sums
from .events import Events
from .folders import EXTENSIONS, SPLIT_FOLDERS, Tree, natural, open_tree, stamp
from .pictures import one_line

TEST_SHARE, VALIDATION_SHARE = 10, 12  # one recording in so many of a class; another number moves every split
BACKGROUND = "BACKGROUND_Google"
TRIALS = {"trials_to_train.txt": "train", "trials_to_test.txt": "test"}  # DVS128 Gesture's lists
CIFAR10 = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")


@dataclass(frozen=True)
class Known:
    """A published set: SpikingJelly's folder, sensor (H, W), number of classes, and where to get it.

    published: folders of the files as published, each of which may be a zip of its name
    transposed: SpikingJelly exchanges x and y, and so do we
    """

    folder: str
    sensor: tuple[int, int]
    classes: int
    origin: str
    published: tuple[str, ...]
    transposed: bool = False


KNOWN = {
    "dvs128-gesture": Known(
        "DVS128Gesture",
        (128, 128),
        11,
        "https://ibm.ent.box.com/s/3hiq58ww1pbbjrinh367ykfdf60xsfm8/folder/50167556794",
        ("DvsGesture",),
    ),
    "cifar10-dvs": Known(
        "CIFAR10DVS",
        (128, 128),
        10,
        "https://figshare.com/articles/dataset/CIFAR10-DVS_New/4724671",
        CIFAR10,
        transposed=True,
    ),
    "n-caltech101": Known(
        "NCaltech101",
        (180, 240),
        101,
        "https://www.garrickorchard.com/datasets/n-caltech101",
        ("Caltech101",),
    ),
    "n-mnist": Known(
        "NMNIST",
        (34, 34),
        10,
        "https://www.garrickorchard.com/datasets/n-mnist",
        ("Train", "Test"),
    ),
}


@dataclass(frozen=True, eq=False)
class Recording:
    """A recording of a set, or frames that SpikingJelly made of one.

    name: below the set's folder, without regard to where that is
    path: as messages name it
    content: of the file, as the cache knows it (`sums`)
    window: microseconds from the first on, up to and without the last, of a file of several recordings
    transposed: whether x and y are exchanged
    """

    name: str
    path: Path
    read: Callable[[], bytes]
    content: Callable[[], list]
    window: tuple[int, int] | None = None
    transposed: bool = False

    def events(self, sensor: tuple[int, int] | None) -> Events:
        """ValueError that names the file and the first fault."""
        try:
            return checked(self._decoded(), sensor)
        except UserError as error:
            raise UserError(f"{self.path}: {error}") from None

    def sensor(self) -> tuple[int, int] | None:
        """(H, W), if the file tells it."""
        try:
            return self._decoded().sensor
        except UserError as error:
            raise UserError(f"{self.path}: {error}") from None

    def frames(self) -> np.ndarray:
        """The array of a file of frames, as it is there."""
        try:
            return arrays_of(self.read(), ("frames",))["frames"]
        except UserError as error:
            raise UserError(f"{self.path}: {error}") from None

    def _decoded(self) -> Decoded:
        found = decode(self.read(), self.path.suffix)
        if self.window:
            first, end = self.window
            found = found.only((found.t >= first) & (found.t < end))
            if not len(found.t):
                raise UserError(f"no events from {first} to {end} microseconds, where its labels have a recording")
        return found.transposed() if self.transposed else found


@dataclass(frozen=True, eq=False)
class Place:
    """A folder that holds a set, or the frames of one.

    path: as messages name it
    files: by name below `path`, in natural order
    folders: in it, in natural order, by name
    made: T and the way of cutting of frames that SpikingJelly made; None for recordings
    endings: of the files that count
    published: as it was published, with its other files
    """

    path: Path
    files: dict[str, Recording]
    folders: list[str]
    made: tuple[int, str] | None = None
    endings: tuple[str, ...] = tuple(READERS)
    published: bool = False


@dataclass(frozen=True, eq=False)
class Recordings:
    """The files of a set, those of training first, then validation, then test."""

    files: list[Recording]
    labels: Tensor  # (N,)
    classes: tuple[str, ...]
    counts: dict[str, int]  # each of PARTS -> recordings


def find(source: str | os.PathLike, root: Path) -> tuple[str, Path, Known | None]:
    """Name, folder, and what is known of a set by its name or its folder's."""
    if str(source) in KNOWN:
        known = KNOWN[str(source)]
        folders = root / known.folder, root / str(source)
        return str(source), next((folder for folder in folders if folder.is_dir()), folders[0]), known
    path = Path(source)
    if path.is_dir():
        return path.resolve().name, path, known_as(path.resolve().name)
    if path.exists() or len(path.parts) > 1:
        raise MissingFile(f"{source}: no such folder")
    close = difflib.get_close_matches(str(source).lower(), KNOWN, n=1)
    hint = f", did you mean {close[0]!r}?" if close else ":"
    raise UserError(f"unknown event data {str(source)!r}{hint} known are {', '.join(KNOWN)}, or give a folder's path")


for _name in KNOWN:
    DATASETS.register(_name, find)


def known_as(name: str) -> Known | None:
    """The published set of this name, or whose folder has it."""
    return next((known for key, known in KNOWN.items() if name in (key, known.folder)), None)


def is_event_folder(folder: Path) -> bool:
    """Whether a folder has one of the layouts: by its folders' names, or as it has recordings and no image."""
    known = known_as(folder.resolve().name)
    if any(_converted(folder)) or (known and _home(folder, known)):
        return True
    recordings = False
    for _, _, names in os.walk(folder):
        endings = {os.path.splitext(name)[1].lower() for name in names if not name.startswith(".")}
        if not endings.isdisjoint(EXTENSIONS):
            return False
        recordings |= not endings.isdisjoint(READERS)
    return recordings


def place_of(folder: Path, known: Known | None, time_steps: int, by: str) -> Place:
    """Where a training takes a set from; MissingFile if it is not there, ValueError if it is unfinished."""
    if home := known and _home(folder, known):
        return _published(home, known)
    for path in _converted(folder):
        if way(path) in (None, (time_steps, by)):
            if reason := unfinished(path):
                raise UserError(f"{path} {reason}")
            return _place(path)
    if folder.is_dir() and is_event_folder(folder) and not any(_converted(folder)):
        return _place(folder, known is not None and known.transposed)
    made = f"frames_number_{time_steps}_split_by_{by}"
    raise MissingFile(f"{folder} has neither recordings (events_np) nor {made}: {recipe(folder, known)}")


def places_of(source: str | os.PathLike, root: str | os.PathLike = "data") -> Iterator[tuple[Place, Known | None]]:
    """Every place of a set, of recordings and of frames that SpikingJelly made, and what is known of the set;
    FileNotFoundError or ValueError if there is none."""
    _, folder, known = find(source, Path(root))
    home = known and _home(folder, known)
    paths = list(_converted(folder)) or [folder] * (not home and folder.is_dir() and is_event_folder(folder))
    if not home and not paths:
        raise MissingFile(f"{folder} has neither recordings nor frames to check: {recipe(folder, known)}")
    yield from [(_published(home, known), known)] if home else []
    yield from ((_place(path, known is not None and known.transposed), known) for path in paths)


def single(path: Path, known: Known | None = None) -> Recording:
    """A file as a recording, of a known set or none, or as frames."""
    turned = known is not None and known.transposed
    return _recording(Tree(path.parent, [], [], path.read_bytes, stamp), path.name, path.name, turned)


def way(base: Path) -> tuple[int, str] | None:
    """T and the way of cutting, from the name of a folder of frames; None if it has another name."""
    found = re.fullmatch(r"frames_number_([0-9]+)_split_by_(\w+)", base.name)
    return found and (int(found[1]), found[2])


def _converted(folder: Path) -> Iterator[Path]:
    """Folders that SpikingJelly wrote: frames first."""
    yield from (path for path in sorted(folder.glob("frames_number_*")) if path.is_dir() and way(path))
    yield from (path for path in [folder / "events_np"] if path.is_dir())


def _home(folder: Path, known: Known) -> Path | None:
    """The folder that has one of the published parts of a set."""
    homes = folder, folder / "extract", folder / "download"
    return next((home for home in homes if any(_part(home, name) for name in known.published)), None)


def _part(home: Path, name: str) -> Path | None:
    """A published folder, or the zip of it."""
    if (home / name).is_dir():
        return home / name
    return home / f"{name}.zip" if (home / f"{name}.zip").is_file() else None


def _published(home: Path, known: Known) -> Place:
    parts = {name: _part(home, name) for name in known.published}
    if missing := [name for name, part in parts.items() if not part]:
        raise MissingFile(f"{home} lacks {', '.join(missing)} (a folder, or a .zip): unpack the whole set there")
    if len(parts) == 1:
        return _place(next(iter(parts.values())), known.transposed, published=True)
    files, folders = {}, []
    for name, part in parts.items():
        place = _place(part, known.transposed)
        files |= {f"{name}/{below}": replace(file, name=f"{name}/{below}") for below, file in place.files.items()}
        folders += [name, *(f"{name}/{below}" for below in place.folders)]
    return Place(home, files, folders, published=True)


def _place(path: Path, transposed: bool = False, published: bool = False) -> Place:
    """All files of a folder, or of a zip; of a zip of one folder that has its name, those of the folder."""
    tree = open_tree(path)
    inner = f"{path.stem}/" if tree.members and all(name.startswith(f"{path.stem}/") for name in tree.files) else ""
    names = {name.removeprefix(inner): name for name in tree.files}
    files = {below: _recording(tree, name, below, transposed) for below, name in names.items()}
    folders = [name.removeprefix(inner) for name in tree.folders if f"{name}/" != inner]
    endings = (".npz",) if way(path) or path.name == "events_np" else tuple(READERS)
    return Place(path, files, folders, way(path), endings, published or not TRIALS.keys().isdisjoint(files))


def _recording(tree: Tree, name: str, below: str, transposed: bool) -> Recording:
    path = tree.path / name
    transposed = transposed and path.suffix.lower() != ".npz"  # which SpikingJelly has transposed already
    if not tree.members:
        return Recording(below, path, partial(_bytes, path), partial(sums, path), None, transposed)
    member = tree.members[name]
    content = [member.file_size, member.CRC]
    return Recording(below, path, partial(tree.read, name), lambda: content, None, transposed)


def _bytes(path: Path) -> bytes:
    if not path.is_file():  # a pipe would be waited for
        raise UserError("no regular file, or a link to nothing")
    try:
        return path.read_bytes()
    except OSError as error:
        raise UserError(f"unreadable ({one_line(error)})") from None


def unfinished(base: Path) -> str:
    """What is to be done with a folder that SpikingJelly was stopped in; nothing for others."""
    marker = base.with_name(base.name + ".building")
    if not marker.exists():
        return ""
    return f"is unfinished, as SpikingJelly was stopped: remove it and {marker}, and convert again"


def recipe(folder: Path, known: Known | None) -> str:
    """The line that tells how to get a set."""
    if known is None:
        return f"put the recordings into [train|test/]CLASS/ in it ({', '.join(READERS)})"
    return f"download {', '.join(known.published)} from {known.origin} and unpack them there; a zip may stay one"


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
