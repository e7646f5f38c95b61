"""The pictures of a set as one array: read in several processes, and kept for the next time.

Reading tens of thousands of small files takes a minute, most of it in Pillow. On Linux each core reads a part of them,
in processes that are forked from this one (threads would wait for each other; other systems read in one process). The
pixels are kept in the cache (`cache`), unless they are few or the disk has little room. They are found again by the
names, sizes and times of change of the pictures' files, in a zip by their checksums. So all of a folder is read anew
when a file was replaced, and after the folder was copied.
"""

from __future__ import annotations

import multiprocessing
import shutil
import signal
import sys
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np

from ..cache import entry
from ..process import cores
from ..progress import track
from .catalogue import Catalogue
from .pictures import fit

VERSION = 2  # of the way from files to pixels; another number makes every kept file anew
MANY = 1000  # pictures: fewer are read at once, in this process, and not kept
CHUNK = 64  # pictures that a process reads at a time
ROOM = 4  # the disk must have so many times the room that the pixels take


def read(catalogue: Catalogue, indices: list[int]) -> np.ndarray:
    """The pictures of these indices, uint8 (n, channels, size, size). UserError for the first that cannot be read."""
    if len(indices) < MANY or catalogue.stamp is None:
        return _pixels(catalogue, indices)
    cached = entry(
        "pictures", ".npy", VERSION, lambda file: _load(file, catalogue, indices), **_facts(catalogue, indices)
    )
    pixels = cached.get()
    if pixels is None:
        pixels = _pixels(catalogue, indices)
        if _room(cached.file.parent) > ROOM * pixels.nbytes:
            pixels = cached.try_store(pixels, lambda file: _save(file, pixels))
    return pixels


def _facts(catalogue: Catalogue, indices: list[int]) -> dict:
    """All that the pixels depend on, as JSON takes it."""
    import PIL

    shape = [catalogue.size, catalogue.channels, catalogue.as_they_are]
    return {"pillow": PIL.__version__, "shape": shape, "files": [catalogue.stamp(i) for i in indices]}


def _load(file: Path, catalogue: Catalogue, indices: list[int]) -> np.ndarray:
    pixels = np.load(file, allow_pickle=False)
    if pixels.dtype != np.uint8 or pixels.shape != _shape(catalogue, indices):
        raise ValueError(f"{pixels.dtype} {pixels.shape}")
    return pixels


def _save(file: Path, pixels: np.ndarray) -> None:
    with file.open("wb") as opened:  # by its name, numpy would give it another ending
        np.save(opened, pixels)


def _room(folder: Path) -> int:
    """Free bytes on the disk of a folder, which need not exist yet; 0 if that cannot be known."""
    existing = next((place for place in (folder, *folder.parents) if place.is_dir()), None)
    return shutil.disk_usage(existing).free if existing else 0


def _shape(catalogue: Catalogue, indices: list[int]) -> tuple[int, ...]:
    return (len(indices), catalogue.channels, catalogue.size, catalogue.size)


# reading


def _pixels(catalogue: Catalogue, indices: list[int]) -> np.ndarray:
    pixels, row = np.empty(_shape(catalogue, indices), dtype=np.uint8), 0
    chunks = [indices[first : first + CHUNK] for first in range(0, len(indices), CHUNK)]
    may_fork = sys.platform == "linux" and not multiprocessing.current_process().daemon
    workers = min(cores(), len(chunks)) if len(indices) >= MANY and may_fork else 1
    for chunk in _chunks(catalogue, chunks, workers):
        pixels[row : row + len(chunk)] = chunk
        row += len(chunk)
    return pixels


def _chunks(catalogue: Catalogue, chunks: list[list[int]], workers: int) -> Iterator[list[np.ndarray]]:
    """The pictures of each chunk, in order."""
    title = f"reading {catalogue.name}, {CHUNK} pictures at a time"
    if workers == 1:
        yield from (_fitted(catalogue, chunk) for chunk in track(chunks, title))
        return
    forked = multiprocessing.get_context("fork")
    with ProcessPoolExecutor(workers, forked, initializer=_begin, initargs=(catalogue,)) as pool:
        results = pool.map(_in_worker, chunks)
        yield from (next(results) for _ in track(chunks, title))


def _fitted(catalogue: Catalogue, chunk: list[int]) -> list[np.ndarray]:
    return [fit(catalogue.picture(i), catalogue.size, catalogue.channels) for i in chunk]


def _begin(catalogue: Catalogue) -> None:
    """The start of a worker. It inherits the catalogue, which could not be sent, and leaves Ctrl-C to its parent."""
    global _catalogue
    _catalogue = catalogue
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)


def _in_worker(chunk: list[int]) -> list[np.ndarray]:
    return _fitted(_catalogue, chunk)
