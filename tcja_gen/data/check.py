"""All bad files of a data set, by name; loading it stops at the first one.

Reported are
- files that cannot be read or decoded, or are smaller than `pictures.SMALLEST`
- different sizes, or grey and colour, if no size or channels were asked for (once, with two examples)
- files that training ignores: no image by their extension, or outside of the split folders
- images beside class folders; folders without images, or linked to twice; a layout that is not clear
- the same bytes in two splits

Hidden files and `__MACOSX` are ignored.
"""

import hashlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from ..errors import UserError
from ..progress import track
from .as_pictures import pictures_folder
from .builtin import BUILTIN, faults
from .catalogue import PARTS
from .event_files import READERS, read_events
from .event_layout import Place, is_recording, places_of, unfinished
from .event_names import Known
from .event_sets import reader_of
from .event_splits import Recordings, entries_of, recordings_in
from .folders import EXTENSIONS, Entry, Tree, open_tree, place, split_entries, stray_entry
from .image_sets import registered_catalogue
from .images import check_shape, find_source
from .pictures import decode
from .sources import is_events


@dataclass(frozen=True)
class Problem:
    """A file or folder, and what is wrong with it."""

    file: str
    reason: str


def _problem(file: Path, error: UserError) -> Problem:
    """An error as a problem of the file, whose name it may begin with."""
    return Problem(str(file), str(error).removeprefix(f"{file}: "))


def check_images(
    source: str | os.PathLike,
    *,
    root: str | os.PathLike = "data",
    size: int | None = None,
    channels: int | None = None,
) -> list[Problem]:
    """All problems of a named set, a folder or a zip; an empty list if training can use all of it.

    `size` and `channels` are what `load_images` will get. ValueError if the source is unknown or no zip.
    """
    check_shape(size, channels)
    found = find_source(source)
    if found in BUILTIN and (pictures := pictures_folder(found, Path(root))):
        found = pictures
    if found in BUILTIN:
        return [Problem(str(file), reason) for file, reason in faults(found, Path(root))]
    if not isinstance(found, Path):
        return _of_registered(found, Path(root), size, channels)
    tree = open_tree(found)
    try:
        entries, outside = place(tree)
    except UserError as error:
        return [_problem(found, error)]
    problems = [*_places(tree, entries, outside), *_contents(tree, entries, size, channels)]
    return [Problem(str(found / file), reason) for file, reason in problems]


def _of_registered(name: str, root: Path, size: int | None, channels: int | None) -> list[Problem]:
    try:
        registered_catalogue(name, size, channels, root)
    except UserError as error:
        return [Problem(name, str(error).removeprefix(f"data set {name!r}").lstrip(":, "))]
    return []


def check_data(
    source: str | os.PathLike,
    *,
    root: str | os.PathLike = "data",
    size: int | None = None,
    channels: int | None = None,
) -> list[Problem]:
    """`check_images` or, for event recordings, `check_events`, which take neither size nor channels (ValueError). A
    file is a zip, or one recording."""
    one = is_recording(source)
    if not one and not is_events(source):
        return check_images(source, root=root, size=size, channels=channels)
    if size or channels:
        raise UserError(f"{source}: recordings; --size and --channels are for images, leave them out")
    return _of_file(Path(source)) if one else check_events(source, root=root)


def _of_file(file: Path) -> list[Problem]:
    try:
        read_events(file)
    except UserError as error:
        return [_problem(file, error)]
    return []


def check_events(source: str | os.PathLike, *, root: str | os.PathLike = "data") -> list[Problem]:
    """All recordings of a set that `read_events` refuses (keys, lengths, types, pixels outside of the sensor), and
    frames made of them that cannot be taken; what is passed over; the same recording in two splits."""
    return [problem for place, known in places_of(source, root) for problem in _of_recordings(place, known)]


def _of_recordings(place: Place, known: Known | None) -> Iterator[Problem]:
    try:
        if reason := unfinished(place.path):
            raise UserError(reason)
        recordings = recordings_in(place, known, whole=False)
    except UserError as error:
        yield _problem(place.path, error)
        return
    yield from _passed_over(place)
    yield from _recordings(place, known, recordings)


def _passed_over(place: Place) -> Iterator[Problem]:
    """Files that are no recording of the set. A published set has others, too, which are not told."""
    used = {recording.path for _, _, recording in entries_of(place)}
    for name, file in place.files.items():
        if file.path not in used and (not place.published or name.lower().endswith(tuple(READERS))):
            yield Problem(str(file.path), "no recording in the folder of a class: ignored in training")


def _recordings(place: Place, known: Known | None, recordings: Recordings) -> Iterator[Problem]:
    """Problems of the files, one by one and as a set."""
    sound, digests = None, {}  # what has read one; content -> split and file
    parts = [part for part in PARTS for _ in range(recordings.counts[part])]
    for part, recording in track([*zip(parts, recordings.files, strict=True)], "checking"):
        path = recording.path
        try:
            read = sound or reader_of(place, known, recording)
            read(recording)
            sound = read
            content = repr((recording.content(), recording.window))
            twin_part, twin = digests.setdefault(content, (part, path))
        except UserError as error:
            yield _problem(path, error)
            continue
        if twin_part != part:
            yield Problem(str(path), f"same content as {twin}: {twin_part} and {part} share a recording")


def _places(tree: Tree, entries: list[Entry], outside: list[str]) -> Iterator[tuple[str, str]]:
    """Problems that show without opening a file."""
    if not entries:
        yield "", "no images found"
    images = {entry.name for entry in entries} | set(outside)
    for name in tree.files:
        if not name.lower().endswith(EXTENSIONS):
            yield name, "not an image file by its extension: ignored in training"
    for name in outside:
        yield name, "outside the folders train, validation and test: ignored in training"
    if stray := stray_entry(entries):
        yield stray.name, "lies beside class folders: move it into one of them"
    for link in tree.again:
        yield link, "link to a folder that is read under another name: ignored in training"
    for folder in tree.folders:
        if not any(name.startswith(f"{folder}/") for name in images):
            yield folder, "folder without images"


def _contents(tree: Tree, entries: list[Entry], size: int | None, channels: int | None) -> Iterator[tuple[str, str]]:
    """Problems of the pictures, one by one and as a set."""
    sizes: dict[tuple[int, int], str] = {}  # each size found, and the first file that has it
    modes: dict[str, str] = {}
    digests: dict[bytes, tuple[str, str]] = {}  # content -> split and name
    split_of = _split_names(entries)
    for entry, split in track([*zip(entries, split_of, strict=True)], f"checking {tree.path.name}"):
        try:
            data = tree.read(entry.name)
            image = decode(data)
        except UserError as error:
            yield entry.name, str(error)
            continue
        sizes.setdefault(image.size, entry.name)
        modes.setdefault(image.mode, entry.name)
        twin_split, twin = digests.setdefault(hashlib.sha256(data).digest(), (split, entry.name))
        if twin_split != split:
            yield entry.name, f"same bytes as {twin}: {twin_split} and {split} share an image"
    yield from _as_a_set(sizes, modes, size, channels)


def _as_a_set(sizes: dict, modes: dict, size: int | None, channels: int | None) -> Iterator[tuple[str, str]]:
    shapes = [f"{width} x {height} ({name})" for (width, height), name in sizes.items()]
    if size is None and (len(sizes) > 1 or any(width != height for width, height in sizes)):
        yield "", f"images are not of one square size, {', '.join(shapes[:2])}: give a size (--size 32)"
    if channels is None and len(modes) > 1:
        named = ", ".join(f"{mode} ({name})" for mode, name in modes.items())
        yield "", f"images mix grey and colour, {named}: give the channels (1 or 3)"


def _split_names(entries: list[Entry]) -> list[str]:
    names = [""] * len(entries)
    for part, indices in split_entries(entries).items():
        for i in indices.tolist():
            names[i] = part
    return names
