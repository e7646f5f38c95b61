"""Named sets that lie below the data root as folders of pictures: `train/` and `test/`, with or without class folders.

- `cifar10` in `cifar10-png/`: a file's name is the image's number in CIFAR-10's own order, train/frog/00000.png.
  Images, labels and order, and so the fingerprint, are the same as from torchvision's files.
- `celeba-10k` in `celeba/`: the first 10,000 aligned pictures of CelebA at half their size, 89 x 109 pixels, in two
  splits. The centre of 74 pixels is FSVAE's crop of 148.

Scores on CelebA-10k do not compare with scores on CelebA. A lossy copy of CIFAR-10 (JPEG) is not CIFAR-10, and refused
under its name; give it as a folder.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from ..errors import UserError
from .catalogue import Catalogue, partition
from .folders import Entry, Tree, open_tree, place, read_picture
from .pictures import centre_crop

if TYPE_CHECKING:
    from PIL.Image import Image


@dataclass(frozen=True)
class Pictures:
    """folder: below the data root. numbered: file names are the images' numbers, 0 to n - 1 in each split, and the
    files PNG. crop: pixels of the centre that is used; None: all"""

    folder: str
    numbered: bool = False
    crop: int | None = None


PICTURES = {"cifar10": Pictures("cifar10-png", numbered=True), "celeba-10k": Pictures("celeba", crop=74)}


def pictures_folder(name: str, root: Path) -> Path | None:
    """The folder of a named set that lies as pictures below the data root; None if it does not."""
    folder = root / PICTURES[name].folder if name in PICTURES else None
    return folder if folder and all((folder / split).is_dir() for split in ("train", "test")) else None


def pictures_catalogue(name: str, folder: Path, shape: dict) -> Catalogue:
    """The pictures of a named set. UserError, which names the file, for pictures that are not those of the set."""
    own, tree = PICTURES[name], open_tree(folder)
    entries = [entry for entry in place(tree)[0] if entry.split in ("train", "test")]
    if own.numbered:
        entries = _in_order(folder, entries)
    ends = [sum(entry.split == "train" for entry in entries), len(entries)]
    classes = sorted({entry.label for entry in entries if entry.label})
    numbers = {label: number for number, label in enumerate(classes)}
    return Catalogue(
        **shape,
        parts=partition(torch.arange(ends[0]), test=torch.arange(*ends)),
        picture=lambda i: _cropped(tree, entries[i].name, own.crop),
        labels=torch.tensor([numbers[entry.label] for entry in entries]) if classes else None,
        classes=tuple(classes) or None,
        stamp=lambda i: [entries[i].name, own.crop, *tree.stamp(entries[i].name)],
    )


def _in_order(folder: Path, entries: list[Entry]) -> list[Entry]:
    """The pictures of train, then of test, each by their numbers."""
    ordered = []
    for split in ("train", "test"):
        part = sorted((e for e in entries if e.split == split), key=lambda entry: Path(entry.name).stem.zfill(9))
        for number, entry in enumerate(part):
            file = Path(entry.name)
            if file.suffix.lower() != ".png" or file.stem.lstrip("0") != str(number).lstrip("0") or not entry.label:
                wanted = f"PNG files {split}/CLASS/NUMBER.png are wanted, with the numbers 0 to n - 1, each once"
                raise UserError(f"{folder / file}: not picture {number} of {split}; {wanted}")
        ordered += part
    return ordered


def _cropped(tree: Tree, name: str, crop: int | None) -> Image:
    image = read_picture(tree, name)
    return image if crop is None else centre_crop(image, crop)
