"""A recording of a set of event data: a file, or a part of one, that is read when it is wanted."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from ..errors import UserError
from .event_files import Decoded, arrays_of, checked, decode, sums
from .event_names import Known
from .events import Events
from .folders import Tree, stamp
from .pictures import one_line


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


def single(path: Path, known: Known | None = None) -> Recording:
    """A file as a recording, of a known set or none, or as frames."""
    turned = known is not None and known.transposed
    return recording_of(Tree(path.parent, [], [], path.read_bytes, stamp), path.name, path.name, turned)


def recording_of(tree: Tree, name: str, below: str, transposed: bool) -> Recording:
    """A file of a folder or zip. below: its name below the set's folder. transposed: x and y are exchanged."""
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
