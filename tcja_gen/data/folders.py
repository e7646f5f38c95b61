r"""Folders and zips of images. A zip is read in memory; nothing is extracted.

The layout is the same in both; hidden files and `__MACOSX` are ignored:

- If there is a top folder `train/` or `test/`, the top folders are the splits: `train`, `validation` or `val`, `test`,
  in any case. What lies beside them is not used. A split that is missing is held out of `train/` (`catalogue`).
- The first folder below the split, or the top folder if there are no splits, is the class. Without class folders there
  are no labels.
- If a single top folder holds all images, as in a zip of a folder, the rules apply to what is in it.

Only images count: other files and empty folders change nothing. In a folder that `sample` wrote the grid and the film
beside the samples do not count. A folder `train/` or `test/` is refused if it lies
where it is no split, or if it may as well be a class; otherwise its images would be mixed with others without a word.

Files and classes come in natural order: `img2` before `img10`. Links are followed, and a folder that is linked to is
read once. Member names of a zip may have `\` in place of `/`, as old .NET tools write them.
"""

from __future__ import annotations

import os
import re
import zipfile
from collections.abc import Callable, Container, Iterable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path, PurePosixPath
from shlex import quote
from typing import TYPE_CHECKING

import torch

from ..errors import UserError
from .catalogue import PARTS, Catalogue, partition
from .pictures import decode, one_line

if TYPE_CHECKING:
    from PIL.Image import Image

BIGGEST = 2**28  # bytes of a file: a zip of 1 MB can hold one of 1 GB
EXTENSIONS = (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp", ".tif", ".tiff", ".pgm", ".ppm")
SAMPLES, BESIDE = (
    ".samples.json",
    ("samples.png", "film.gif"),
)  # what `sample` writes beside SEED.png; the first tells so
NUMBER = re.compile(r"(\d+)")
HALVES = {"train", "test"}  # what makes folders splits
SPLIT_FOLDERS = {**{part: part for part in PARTS}, "val": "validation"}


@dataclass(frozen=True)
class Tree:
    """Visible files and folders below `path` by their relative names with `/`, in natural order."""

    path: Path
    files: list[str]
    folders: list[str]
    read_bytes: Callable[[str], bytes]
    stamp: Callable[[str], list]  # facts that change with a file's bytes
    again: tuple[str, ...] = ()  # links to folders that are read under another name
    members: Mapping[str, zipfile.ZipInfo] = field(default_factory=dict)  # of a zip, by name
    samples: frozenset[str] = frozenset()  # folders that `sample` wrote, "" for the top

    def images(self) -> list[str]:
        """Names of the files that count as images."""
        found = [name for name in self.files if name.lower().endswith(EXTENSIONS)]
        return [name for name in found if _above(name) not in self.samples or PurePosixPath(name).name not in BESIDE]

    def read(self, name: str) -> bytes:
        """The bytes of a file; ValueError with the reason (without the name)."""
        try:
            return self.read_bytes(name)
        except UserError:
            raise
        except Exception as error:  # OSError from a folder; a zip adds half a dozen unrelated types
            raise UserError(f"unreadable ({one_line(error)})") from None


@dataclass(frozen=True)
class Entry:
    """An image file with its split and its label (name of the class); None if the layout has none."""

    name: str
    split: str | None
    label: str | None


def has_images(path: Path) -> bool:
    """Whether this is a zip, or a folder with an image in it and without a run."""
    if not path.is_dir():
        return path.is_file() and path.suffix.lower() == ".zip"
    tree = open_tree(path)
    return bool(tree.images()) and not any(PurePosixPath(name).name == "config.toml" for name in tree.files)


def open_tree(path: Path) -> Tree:
    """List a folder or a zip; ValueError if it is neither."""
    if path.is_dir():
        files, folders, again = _walk(path)
        read_bytes, stamp_of = lambda name: _read_file(path / name), lambda name: stamp(f"{path}/{name}")
        samples = frozenset(name for name in ("", *folders) if (path / name / SAMPLES).is_file())
        return Tree(path, files, folders, read_bytes, stamp_of, again, samples=samples)
    try:
        archive = zipfile.ZipFile(path)
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError) as error:
        raise UserError(f"{path} is neither a folder nor a readable zip ({one_line(error)})") from None
    members = {_member_name(info.filename): info for info in archive.infolist()}
    files = _visible(name for name, info in members.items() if name and not info.filename.endswith(("/", "\\")))
    folders = {str(parent) for name in files for parent in PurePosixPath(name).parents[:-1]}
    folders.update(name for name in members if name)
    folders = _visible(folders.difference(files))
    opened = {os.getpid(): archive}  # one in each process: those that `reading` forks would share the place in the file

    def read_bytes(name: str) -> bytes:
        if os.getpid() not in opened:
            opened[os.getpid()] = zipfile.ZipFile(path)
        return _read_member(opened[os.getpid()], members[name])

    def stamp_of(name: str) -> list:
        return [members[name].file_size, members[name].CRC]

    samples = frozenset(_above(name) for name in members if PurePosixPath(name).name == SAMPLES)
    return Tree(path, files, folders, read_bytes, stamp_of, members=members, samples=samples)


def place(tree: Tree) -> tuple[list[Entry], list[str]]:
    """The image files with their splits and labels, and the names of those outside of the splits. ValueError if a
    folder called train or test may be a split or a class."""
    images = [(name, tuple(name.split("/"))) for name in tree.images()]
    base = _base([parts for _, parts in images])
    images = [(name, parts[len(base) :]) for name, parts in images]
    has_splits = not HALVES.isdisjoint(_tops(parts for _, parts in images))
    entries, outside = [], []
    for name, parts in images:
        split = SPLIT_FOLDERS.get(parts[0].lower()) if has_splits and len(parts) > 1 else None
        if has_splits and split is None:
            outside.append(name)
            continue
        below = parts[1:] if has_splits else parts
        entries.append(Entry(name, split, below[0] if len(below) > 1 else None))
    _refuse_doubtful(tree.path, entries, outside, [parts for _, parts in images], has_splits)
    return sorted(entries, key=lambda entry: PARTS.index(entry.split or "train")), outside


def _refuse_doubtful(path: Path, entries: list[Entry], outside: list[str], images: list[tuple], has_splits: bool):
    """ValueError for a train/ that lies deeper than where splits are, or is alone among other folders of images."""
    deeper = [parts for parts in images if not HALVES.isdisjoint(part.lower() for part in parts[:-1])]
    if deeper and not has_splits:
        raise UserError(
            f"{path}: {'/'.join(deeper[0])} lies in a {_half(deeper[0])}/ that is not at the top, where it would be a "
            "split: name the folder that holds train/ and test/, and move what lies beside it elsewhere"
        )
    splits, others = {entry.split for entry in entries}, [name for name in outside if "/" in name]
    if others and len(splits) == 1:
        raise UserError(
            f"{path}: {splits.pop()}/ is the only split, and there are images beside it ({others[0]}): "
            "if it is a class give it another name, else move what lies beside it elsewhere"
        )


def split_entries(entries: list[Entry]) -> dict[str, torch.Tensor]:
    """Indices of the entries in train, validation and test."""
    given = {split: [i for i, entry in enumerate(entries) if entry.split == split] for split in PARTS}
    if not any(given.values()):  # no split folders
        return partition(torch.arange(len(entries)))
    kept = {split: torch.tensor(indices) for split, indices in given.items() if indices}
    return partition(kept.get("train", torch.arange(0)), kept.get("validation"), kept.get("test"))


def folder_catalogue(path: Path, size: int | None, channels: int | None) -> Catalogue:
    """The pictures of a folder or zip; ValueError if there are none, or some lie beside class folders."""
    tree = open_tree(path)
    entries, _ = place(tree)
    if not entries:
        raise UserError(f"{path}: no images found (looked for {', '.join(EXTENSIONS)})")
    classes = sorted({entry.label for entry in entries if entry.label}, key=natural)
    if stray := stray_entry(entries):
        raise UserError(f"{path / stray.name} lies beside class folders ({classes[0]} ...): move it into one")
    numbers = {label: number for number, label in enumerate(classes)}
    first = read_picture(tree, entries[0].name)

    def picture(i: int) -> Image:
        image = first if i == 0 else read_picture(tree, entries[i].name)
        if size is None and (image.size != first.size or image.width != image.height):
            other = f"{entries[0].name} is {_shape(first)}" if image.size != first.size else "which is not square"
            raise UserError(
                f"{path / entries[i].name} is {_shape(image)}, {other}: "
                "give a size (--size 32, in training --model.image-size 32) to bring all images to one square"
            )
        if channels is None and image.mode != first.mode:
            raise UserError(
                f"{path / entries[i].name} is {image.mode}, {entries[0].name} is {first.mode}: "
                "give the channels (--channels 1 or 3, in training --model.image-channels)"
            )
        return image

    return Catalogue(
        name=path.resolve().name,
        size=size or min(first.size),
        channels=channels or len(first.getbands()),
        parts=split_entries(entries),
        picture=picture,
        labels=torch.tensor([numbers[entry.label] for entry in entries]) if classes else None,
        classes=tuple(classes) or None,
        stamp=lambda i: [entries[i].name, *tree.stamp(entries[i].name)],
        as_they_are=(size is None, channels is None),
        first=(*first.size, len(first.getbands())),
    )


def stray_entry(entries: list[Entry]) -> Entry | None:
    """The first image without a class where others have one."""
    without = [entry for entry in entries if entry.label is None]
    return without[0] if 0 < len(without) < len(entries) else None


def natural(name: str) -> tuple:
    """Sort key of a relative name: folder by folder, numbers by value."""
    return [_natural(part) for part in name.split("/")], name


@lru_cache(maxsize=100_000)  # names of folders come again and again, and those of files in several sorts
def _natural(part: str) -> list[str | int]:
    return [int(piece) if k % 2 else piece for k, piece in enumerate(NUMBER.split(part.lower()))]


def read_picture(tree: Tree, name: str) -> Image:
    try:
        return decode(tree.read(name))
    except UserError as error:
        advice = f"`tcja-gen check {quote(str(tree.path))}` names every bad file"
        raise UserError(f"{tree.path / name}: {error}; {advice}") from None


def _shape(image: Image) -> str:
    return f"{image.width} x {image.height}"


def _read_file(path: Path) -> bytes:
    if not path.is_file():  # a pipe would be waited for
        raise UserError("no regular file, or a link to nothing")
    if (size := path.stat().st_size) > BIGGEST:
        raise UserError(_too_big(size))
    return path.read_bytes()


def stamp(path: str | Path) -> list:
    """Facts that change when a file does: its size, the times of its last changes, and its number on the disk."""
    facts = os.stat(path)
    return [facts.st_size, facts.st_mtime_ns, facts.st_ctime_ns, facts.st_ino]


def _read_member(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> bytes:
    if info.file_size > BIGGEST:
        raise UserError(_too_big(info.file_size))
    if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):  # the others unpack without a bound
        raise UserError("packed by another method than deflate: pack the zip anew")
    with archive.open(info) as file:
        return file.read(info.file_size + 1)  # never more, whatever the member holds


def _too_big(size: int) -> str:
    return f"{size / 1e6:,.0f} MB, at most {BIGGEST / 1e6:,.0f} MB are read of a file"


def _member_name(name: str) -> str:
    """A member's name below the zip, without the empty and `.` parts that some tools write."""
    return "/".join(part for part in name.replace("\\", "/").split("/") if part not in ("", "."))


def _walk(path: Path) -> tuple[list[str], list[str], tuple[str, ...]]:
    """Files and folders below `path`, and links to folders that are read under another name."""
    files, folders, links = _listed(path, "", set())
    seen = {os.path.realpath(path / name) for name in folders}
    above = [Path(os.path.realpath(path)), *Path(os.path.realpath(path)).parents]
    again = []
    while links:  # after all real folders, and before the links that are found behind them
        name = links.pop(0)
        target = os.path.realpath(path / name)
        if target in seen or Path(target) in above:
            again.append(name)
            continue
        seen.add(target)
        found = _listed(path, f"{name}/", seen)
        seen.update(os.path.realpath(path / folder) for folder in found[1])
        files, folders, links = files + found[0], [*folders, name, *found[1]], links + found[2]
    return _visible(files), _visible(folders), tuple(_visible(again))


def _listed(path: Path, prefix: str, seen: Container[str]) -> tuple[list[str], list[str], list[str]]:
    """Names in `path`/`prefix` and below: files, folders that are not `seen`, and links to folders, not followed."""
    files, folders, links, waiting = [], [], [], [prefix]
    while waiting:
        here = waiting.pop()
        try:
            found = [(here + entry.name, entry) for entry in os.scandir(path / here) if not is_hidden(entry.name)]
        except OSError as error:
            raise UserError(f"{path / here}: this folder cannot be read ({error.strerror})") from None
        for name, entry in found:
            if not os.path.isdir(entry.path) if entry.is_symlink() else not entry.is_dir():
                files.append(name)
            elif entry.is_symlink():
                links.append(name)
            elif os.path.realpath(entry.path) not in seen:
                folders.append(name)
                waiting.append(f"{name}/")
    return files, folders, sorted(links, key=natural)


def _visible(names: Iterable[str]) -> list[str]:
    return sorted({name for name in names if not is_hidden(name)}, key=natural)


def _above(name: str) -> str:
    """The folder of a name, "" at the top."""
    return name.rpartition("/")[0]


def is_hidden(name: str) -> bool:
    """Whether a path with / in it is passed over: hidden, or what macOS adds to zips."""
    return bool(re.search(r"(^|/)(\.|__MACOSX(/|$))", name))


def _base(images: list[tuple[str, ...]]) -> tuple[str, ...]:
    """The folders that hold all images, down to the first that has splits or more than one thing in it."""
    base = ()
    while True:
        below = [parts[len(base) :] for parts in images]
        if len({parts[0] for parts in below}) != 1 or any(len(parts) == 1 for parts in below):
            return base
        if not HALVES.isdisjoint(_tops(below)):
            return base
        base += below[0][:1]


def _tops(images: Iterable[tuple[str, ...]]) -> set[str]:
    return {parts[0].lower() for parts in images if len(parts) > 1}


def _half(parts: tuple[str, ...]) -> str:
    return next(part for part in parts if part.lower() in HALVES)
