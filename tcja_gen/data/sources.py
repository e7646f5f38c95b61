"""Any data set by name or path: images or event frames, and where it is found again."""

from __future__ import annotations

import os
from pathlib import Path

from ..errors import UserError
from ..registry import DATASETS
from .event_layout import is_event_folder
from .event_names import KNOWN
from .event_sets import EventSet, load_events
from .images import ImageSet, load_images


def is_events(source: str | os.PathLike) -> bool:
    """Whether a source is a named event set, or a folder in the layout of one (`event_layout`)."""
    if not isinstance(source, str | os.PathLike):
        return False
    if is_named(source):
        return str(source) in KNOWN
    return Path(source).is_dir() and is_event_folder(Path(source))


def is_named(source: str | os.PathLike) -> bool:
    """Whether a source is the name of a set, of the package or of a plugin, and not a path."""
    return str(source) in DATASETS


def place(source: str | os.PathLike, root: str | os.PathLike) -> dict[str, str]:
    """Where a source is, to be found again from any folder: "path" of a folder or zip; "root" of a named set, and the
    name of the "plugin" that registered it."""
    if not is_named(source):
        return {"path": os.path.abspath(source)}
    plugin = {"plugin": DATASETS.source(source).file.name} if source in DATASETS.from_plugins() else {}
    return {"root": os.path.abspath(root)} | plugin


def found_again(source: str, path: str | None) -> str | None:
    """The data set of an earlier run: its name; or its `path` of then, if that is still there; or else `source` as seen
    from this folder. None if all are gone. `source` may be another folder by now: compare the fingerprint."""
    if is_named(source):
        return source
    return next((place for place in (path, source) if place and Path(place).exists()), None)


def load(
    source: str | os.PathLike,
    split: str = "train",
    *,
    size: int | tuple[int, int] | None = None,
    channels: int | None = None,
    time_steps: int = 4,
    by: str = "number",
    root: str | os.PathLike = "data",
    download: bool = False,
    fold: tuple[int, int] | None = None,
) -> ImageSet | EventSet:
    """One split of images (`load_images`) or of event recordings (`load_events`). time_steps, by: how recordings are
    cut into frames. fold: (k, n), of recordings, see `load_events`."""
    if not is_events(source):
        return load_images(source, split, size=size, channels=channels, root=root, download=download)
    if channels not in (None, 2):
        raise UserError(f"{source}: event frames have 2 channels, {channels} were asked for")
    return load_events(source, split, time_steps=time_steps, by=by, size=size, root=root, fold=fold)
