"""Where the recordings of an event data set lie.

A named set (`KNOWN`) is looked for under the root, in a folder of its name (`n-mnist`, or SpikingJelly's `NMNIST`).
Taken is the first of these that is there:

    NMNIST/Train/7/00001.bin, or NMNIST/Train.zip                files as published; also in NMNIST/extract or download
    NMNIST/frames_number_16_split_by_number/train/7/00001.npz    frames (T, 2, H, W) that SpikingJelly made, if they fit
    NMNIST/events_np/train/7/00001.npz                           recordings that SpikingJelly converted

Any other folder is a set of one's own: in one of these two layouts of SpikingJelly's, or [train|test/]CLASS/FILE with
recordings in any format of `event_files`, or laid out as DVS128 Gesture.

Which class and split each recording has is told in `event_splits`.
"""

from __future__ import annotations

import difflib
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from ..errors import MissingFile, UserError
from ..registry import DATASETS
from .event_files import READERS
from .event_names import KNOWN, Known, known_as
from .event_recording import Recording, recording_of
from .folders import EXTENSIONS, is_hidden, open_tree

TRIALS = {"trials_to_train.txt": "train", "trials_to_test.txt": "test"}  # DVS128 Gesture's lists


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


def is_recording(source: str | os.PathLike) -> bool:
    """Whether a source is one file of event recordings, by its extension."""
    return Path(source).suffix.lower() in READERS and Path(source).is_file()


def is_event_folder(folder: Path) -> bool:
    """Whether a folder has one of the layouts: by its folders' names, or as it has recordings and no image."""
    known = known_as(folder.resolve().name)
    if any(_converted(folder)) or (known and _home(folder, known)):
        return True
    recordings, seen = False, set()
    for path, folders, names in os.walk(folder, followlinks=True):
        shown = [name for name in folders if not is_hidden(name)]
        real = {name: os.path.realpath(os.path.join(path, name)) for name in shown}
        folders[:] = [name for name in shown if real[name] not in seen]  # a link may lead back
        seen.update(real.values())
        endings = {os.path.splitext(name)[1].lower() for name in names if not is_hidden(name)}
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
    files = {below: recording_of(tree, name, below, transposed) for below, name in names.items()}
    folders = [name.removeprefix(inner) for name in tree.folders if f"{name}/" != inner]
    endings = (".npz",) if way(path) or path.name == "events_np" else tuple(READERS)
    return Place(path, files, folders, way(path), endings, published or not TRIALS.keys().isdisjoint(files))


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
