"""The built-in sets of images, read from the files that torchvision's `download=True` writes below the data root, or
from folders of pictures there (`as_pictures`).

| name | own shape | splits |
|---|---|---|
| digits | 1 x 8 x 8 | carved three ways; embedded in scikit-learn; grey levels 0 to 16 as round(255 v / 16) |
| mnist, fashion-mnist | 1 x 28 x 28 | train (validation carved out of it) and test |
| cifar10, cifar100 | 3 x 32 x 32 | train (validation carved out of it) and test |
| celeba | 3 x 64 x 64 | its official three; centre crop 148 then bilinear resize, as in FSVAE; no classes |
| celeba-10k | 3 x 64 x 64 | train (validation carved out of it) and test of 10,000 halved pictures; no classes |
"""

from __future__ import annotations

import contextlib
import math
import sys
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from ..errors import MissingFile, UserError
from ..process import first_ahead, this_process
from ..progress import track
from ..registry import DATASETS
from .as_pictures import pictures_catalogue, pictures_folder
from .catalogue import Catalogue, partition
from .folders import stamp
from .pictures import centre_crop, decode, one_line

if TYPE_CHECKING:
    from PIL.Image import Image

MISSING = "missing"
CELEBA_LIST, CELEBA_IMAGES = "list_eval_partition.txt", "img_align_celeba"
CELEBA_CROP = 148  # FSVAE's; the aligned pictures are 178 x 218


@dataclass(frozen=True)
class Builtin:
    """A built-in set: pixels a side, channels, torchvision's class (None: it has none), where its files come from, and
    their folder below the data root ("": it comes with scikit-learn)."""

    size: int
    channels: int
    dataset: str | None = None
    origin: str = ""
    folder: str = ""


BUILTIN = {
    "digits": Builtin(8, 1),
    "mnist": Builtin(28, 1, "MNIST", "https://ossci-datasets.s3.amazonaws.com/mnist/", "MNIST/raw"),
    "fashion-mnist": Builtin(
        28, 1, "FashionMNIST", "https://github.com/zalandoresearch/fashion-mnist", "FashionMNIST/raw"
    ),
    "cifar10": Builtin(
        32, 3, "CIFAR10", "https://www.cs.toronto.edu/~kriz/cifar-10-python.tar.gz", "cifar-10-batches-py"
    ),
    "cifar100": Builtin(
        32, 3, "CIFAR100", "https://www.cs.toronto.edu/~kriz/cifar-100-python.tar.gz", "cifar-100-python"
    ),
    "celeba": Builtin(64, 3, "CelebA", "http://mmlab.ie.cuhk.edu.hk/projects/CelebA.html", "celeba"),
    "celeba-10k": Builtin(64, 3, origin="https://github.com/karthikSingireddy/cs389-hw4", folder="celeba"),
}


def builtin_catalogue(name: str, size: int | None, channels: int | None, root: Path, download: bool) -> Catalogue:
    """The pictures of a built-in set; FileNotFoundError for missing files, ValueError for damaged ones."""
    own = BUILTIN[name]
    shape = {"name": name, "size": size or own.size, "channels": channels or own.channels}
    if not own.folder:
        return _digits(shape)
    if pictures := pictures_folder(name, root):
        return pictures_catalogue(name, pictures, shape)
    _require(name, root, download)
    return _celeba(root / own.folder, shape) if name == "celeba" else _torchvision(own.dataset, root, shape)


for _name in BUILTIN:
    DATASETS.register(_name, builtin_catalogue)


def faults(name: str, root: Path) -> list[tuple[Path, str]]:
    """Missing or damaged files of a built-in set, with the reason."""
    own = BUILTIN[name]
    folder = root / own.folder
    if not own.folder or pictures_folder(name, root):
        return []
    if own.dataset is None:
        return [(folder / split, MISSING) for split in ("train", "test")]
    found = [(file, _fault(file, md5)) for file, md5 in _wanted(own.dataset, folder)]
    if name == "celeba" and not any(reason == MISSING for _, reason in found):
        found += [(picture, _undecodable(picture)) for picture in track(_celeba_list(folder)[0], "checking celeba")]
    return [(file, reason) for file, reason in found if reason]


def _undecodable(picture: Path) -> str | None:
    try:
        decode(picture.read_bytes())
    except FileNotFoundError:
        return MISSING
    except UserError as error:
        return str(error)


def _digits(shape: dict[str, Any]) -> Catalogue:
    """scikit-learn's digits, from its file: importing scikit-learn takes longer than many a test or a sample."""
    folder = Path(find_spec("sklearn").origin).parent
    table = np.loadtxt(folder / "datasets" / "data" / "digits.csv.gz", delimiter=",")  # (1797, 64 pixels and the label)
    pixels = np.rint(table[:, :-1].reshape(-1, 8, 8) * 255 / 16).astype(np.uint8)
    parts = partition(torch.arange(len(pixels)))
    return _of_arrays(shape, pixels, table[:, -1].astype(int), parts, [str(digit) for digit in range(10)])


def _torchvision(dataset: str, root: Path, shape: dict[str, Any]) -> Catalogue:
    import torchvision

    halves = [getattr(torchvision.datasets, dataset)(root, train=train) for train in (True, False)]
    pixels = np.concatenate([np.asarray(half.data) for half in halves])  # (N, H, W) or (N, H, W, 3)
    labels = np.concatenate([np.asarray(half.targets) for half in halves])
    n, total = len(halves[0].data), len(pixels)
    parts = partition(torch.arange(n), test=torch.arange(n, total))
    return _of_arrays(shape, pixels, labels, parts, halves[0].classes)


def _of_arrays(
    shape: dict[str, Any], pixels: np.ndarray, labels: np.ndarray, parts: dict, classes: list[str]
) -> Catalogue:
    import PIL.Image

    def picture(i: int) -> Image:
        return PIL.Image.fromarray(pixels[i])

    labels = torch.from_numpy(labels.astype(np.int64))
    return Catalogue(**shape, parts=parts, picture=picture, labels=labels, classes=tuple(classes), pixels=pixels)


def _celeba(folder: Path, shape: dict[str, Any]) -> Catalogue:
    files, part = _celeba_list(folder)

    def picture(i: int) -> Image:
        try:
            return centre_crop(decode(files[i].read_bytes()), CELEBA_CROP)
        except UserError as error:
            raise UserError(f"{files[i]}: {error}: put a sound copy there") from None

    parts = partition(*(torch.nonzero(part == number).flatten() for number in range(3)))
    return Catalogue(**shape, parts=parts, picture=picture, stamp=lambda i: stamp(files[i]))


def _celeba_list(folder: Path) -> tuple[list[Path], torch.Tensor]:
    """Pictures, and 0, 1 or 2 for train, validation or test, of the official list of lines `000001.jpg 0`."""
    listing = folder / CELEBA_LIST
    try:
        names, numbers = zip(*(line.split() for line in listing.read_text(encoding="utf-8").splitlines()), strict=True)
        return [folder / CELEBA_IMAGES / name for name in names], torch.tensor([int(n) for n in numbers])
    except ValueError:
        raise UserError(f"{listing} is damaged: lines like `000001.jpg 0` wanted") from None


def _wanted(dataset: str, folder: Path) -> list[tuple[Path, str | None]]:
    """Files of a set with their MD5 where torchvision knows it."""
    import torchvision

    cls = getattr(torchvision.datasets, dataset)
    if dataset == "CelebA":
        return [(folder / CELEBA_LIST, None), (folder / CELEBA_IMAGES, None)]
    if dataset.startswith("CIFAR"):
        files = [*cls.train_list, *cls.test_list, (cls.meta["filename"], cls.meta["md5"])]
        return [(folder / file, md5) for file, md5 in files]
    return [(folder / file.removesuffix(".gz"), None) for file, _ in cls.resources]


def _fault(file: Path, md5: str | None) -> str | None:
    from torchvision.datasets.utils import check_md5

    if not file.exists():
        return MISSING
    if md5 is not None and not check_md5(file, md5):
        return "damaged (MD5 differs from the published file's)"
    return _idx_fault(file) if file.name.endswith("-ubyte") else None


def _idx_fault(file: Path) -> str | None:
    """An IDX file opens with 0, 0, 8 (bytes), the number of axes, their lengths in 4 bytes, big end first."""
    with file.open("rb") as stream:
        head = stream.read(4)
        axes = [int.from_bytes(stream.read(4), "big") for _ in range(head[3] if len(head) == 4 else 0)]
    if head[:3] != b"\0\0\x08" or not axes:
        return "damaged (not an IDX file of bytes)"
    wanted, found = 4 + 4 * len(axes) + math.prod(axes), file.stat().st_size
    return None if wanted == found else f"damaged ({found} bytes, its header says {wanted})"


def _require(name: str, root: Path, download: bool) -> None:
    """Makes sure that the files of a set are there. Missing ones are downloaded, if that is asked for, by the first
    process for all. Otherwise FileNotFoundError names them; ValueError names a damaged one."""
    with first_ahead(this_process(torch.device("cpu")), download):
        found, advice = faults(name, root), f"--download fetches them from {BUILTIN[name].origin}"
        if BUILTIN[name].dataset is None:
            advice = f"fetch the pictures from {BUILTIN[name].origin}"
        elif found and download:
            failure = _download(BUILTIN[name].dataset, root)
            found, advice = faults(name, root), f"the download from {BUILTIN[name].origin} failed ({failure})"
    for file, reason in found:
        if reason != MISSING:
            raise UserError(f"{file} is {reason}: delete it and fetch it again with --download")
    if found:
        files = [str(file.relative_to(root / BUILTIN[name].folder)) for file, _ in found]
        more = f" and {len(files) - 8} more" if len(files) > 8 else ""
        where = root / BUILTIN[name].folder
        raise MissingFile(f"{name} wants {', '.join(files[:8])}{more} in {where}: {advice}, or put them there")


def _download(dataset: str, root: Path) -> str:
    """Let torchvision download below `root`; the reason if it fails. Its prints go to stderr."""
    import torchvision

    cls = getattr(torchvision.datasets, dataset)
    try:
        with contextlib.redirect_stdout(sys.stderr):
            cls(root, download=True)
    except Exception as error:  # network, archive and disk errors: whatever it is, the advice is the same
        return one_line(error)
    return "files are still missing"
