"""Folders and zips of images; members of a zip are read in memory, nothing is extracted.

Layout, alike in both, with hidden files and `__MACOSX` left out:

- a top folder `train/` or `test/` makes top folders splits (`train`, `validation` or `val`, `test`, in any
  case), and what lies beside them is not used; a split that is missing is carved out of `train/` (see
  `catalogue`);
- the first folder below (below the split, if there are splits) is the class; without such folders there are
  no labels;
- a single top folder that holds everything is stepped into, as zips made of a folder have it.

Files and classes come in natural order: `img2` before `img10`.
"""

from __future__ import annotations

import os
import re
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from ..errors import UserError
from .catalogue import PARTS, Catalogue, partition
from .pictures import decode, one_line

if TYPE_CHECKING:
    from PIL.Image import Image

EXTENSIONS = (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp", ".tif", ".tiff", ".pgm", ".ppm")
SPLIT_FOLDERS = {**{part: part for part in PARTS}, "val": "validation"}


@dataclass(frozen=True)
class Tree:
    """Visible files and folders below `path` by their relative names with `/`, in natural order."""

    path: Path
    files: list[str]
    folders: list[str]
    read_bytes: Callable[[str], bytes]

    def read(self, name: str) -> bytes:
        """The bytes of a file; ValueError with the reason (without the name)."""
        try:
            return self.read_bytes(name)
        except Exception as error:  # OSError from a folder; a zip adds half a dozen unrelated types
            raise UserError(f"unreadable ({one_line(error)})") from None

    def within(self, base: tuple[str, ...]) -> list[tuple[str, tuple[str, ...]]]:
        """Files as (name, parts of the name below `base`)."""
        return [(name, tuple(name.split("/"))[len(base) :]) for name in self.files]


@dataclass(frozen=True)
class Entry:
    """An image file in its place: `split` or `label` is None where the layout has none."""

    name: str
    split: str | None
    label: str | None


def open_tree(path: Path) -> Tree:
    """List a folder or a zip; ValueError if it is neither."""
    if path.is_dir():
        files, folders = _walk(path)
        return Tree(path, files, folders, lambda name: (path / name).read_bytes())
    try:
        archive = zipfile.ZipFile(path)
    except (zipfile.BadZipFile, OSError) as error:
        raise UserError(f"{path} is neither a folder nor a readable zip ({one_line(error)})") from None
    members = _visible(archive.namelist())
    files = [name for name in members if not name.endswith("/")]
    folders = {name.rstrip("/") for name in members} - set(files)
    for name in files:
        folders.update(str(parent) for parent in Path(name).parents[:-1])
    return Tree(path, files, _visible(folders), archive.read)


def place(tree: Tree) -> tuple[list[Entry], list[str]]:
    """The image files in their places by the layout, and the names of those outside the splits."""
    base = _base(tree)
    files = [(name, parts) for name, parts in tree.within(base) if name.lower().endswith(EXTENSIONS)]
    has_splits = not {"train", "test"}.isdisjoint(_top_folders(tree, base))
    entries, outside = [], []
    for name, parts in files:
        split = SPLIT_FOLDERS.get(parts[0].lower()) if has_splits and len(parts) > 1 else None
        if has_splits and split is None:
            outside.append(name)
            continue
        below = parts[1:] if has_splits else parts
        entries.append(Entry(name, split, below[0] if len(below) > 1 else None))
    return sorted(entries, key=lambda entry: PARTS.index(entry.split or "train")), outside


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
    first = _picture(tree, entries[0].name)

    def picture(i: int) -> Image:
        image = first if i == 0 else _picture(tree, entries[i].name)
        if size is None and (image.size != first.size or image.width != image.height):
            raise UserError(
                f"{path / entries[i].name} is {_shape(image)}, {entries[0].name} is {_shape(first)}: "
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
    )


def stray_entry(entries: list[Entry]) -> Entry | None:
    """The first image without a class where others have one."""
    without = [entry for entry in entries if entry.label is None]
    return without[0] if 0 < len(without) < len(entries) else None


def natural(name: str) -> tuple:
    """Sort key of a relative name: folder by folder, numbers by value."""
    pieces = [re.split(r"(\d+)", part.lower()) for part in name.split("/")]
    return [[int(p) if k % 2 else p for k, p in enumerate(piece)] for piece in pieces], name


def _picture(tree: Tree, name: str) -> Image:
    try:
        return decode(tree.read(name))
    except UserError as error:
        advice = f"`tcja-gen check {tree.path}` names every bad file"
        raise UserError(f"{tree.path / name}: {error}; {advice}") from None


def _shape(image: Image) -> str:
    return f"{image.width} x {image.height}"


def _walk(path: Path) -> tuple[list[str], list[str]]:
    files, folders = [], []
    for here, below, names in os.walk(path, followlinks=True):
        prefix = "" if here == str(path) else Path(here).relative_to(path).as_posix() + "/"
        files += [prefix + name for name in names]
        folders += [prefix + name for name in below]
    return _visible(files), _visible(folders)


def _visible(names) -> list[str]:
    hidden = re.compile(r"(^|/)(\.|__MACOSX(/|$))")
    return sorted({name for name in names if not hidden.search(name)}, key=natural)


def _base(tree: Tree) -> tuple[str, ...]:
    base = ()
    while True:
        tops = {parts[0] for name, parts in tree.within(base)}
        folders = _top_folders(tree, base)
        if len(tops) != 1 or not folders or not folders.isdisjoint({"train", "test"}):
            return base
        base += (tops.pop(),)


def _top_folders(tree: Tree, base: tuple[str, ...]) -> set[str]:
    return {parts[0].lower() for name, parts in tree.within(base) if len(parts) > 1}
