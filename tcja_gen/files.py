"""Files that appear whole or not at all, that stay after a power cut, and whose text is UTF-8.

Whatever this package keeps is written here. A file is written under another name in the same folder, flushed to the
disk, and renamed; its permissions are those that the folder and the umask give to any new file. What cannot be written
leaves nothing behind.
"""

import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from uuid import uuid4


@contextmanager
def replacing(path: Path, put: Callable[[Path, Path], None] = os.replace) -> Iterator[Path]:
    """A temporary name beside `path`; what is written there replaces `path` when the block succeeds.

    The temporary file is there, empty, when the block begins: a place that cannot be written to is an OSError before
    any work is done. Missing folders are made. put: `unless_there` where the first of several writers is to win.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{uuid4().hex}.tmp")
    try:
        temporary.touch(exist_ok=False)
        mode = temporary.stat().st_mode  # some writers make a new file, which only its owner can read
        yield temporary
        temporary.chmod(mode)
        flush(temporary)
        put(temporary, path)
        flush(path.parent)
    finally:
        temporary.unlink(missing_ok=True)


def write(path: Path, content: bytes | memoryview | str) -> None:
    """Writes a whole file, text as UTF-8. OSError if it cannot be done; an older file is then still there."""
    with replacing(path) as temporary:
        temporary.write_bytes(content.encode() if isinstance(content, str) else content)


def claim(path: Path, content: str) -> bool:
    """Writes a whole text file where there is none. Of several processes that try at once, one is told True."""
    try:
        with replacing(path, _put_first) as temporary:
            temporary.write_bytes(content.encode())
    except FileExistsError:
        return False
    return True


def unless_there(temporary: Path, path: Path) -> None:
    """Puts a file at `path` if there is none; of several processes at once exactly one succeeds."""
    with suppress(FileExistsError):
        _put_first(temporary, path)


def _put_first(temporary: Path, path: Path) -> None:
    """The same; FileExistsError where there is one."""
    try:
        os.link(temporary, path)
    except FileExistsError:
        raise
    except OSError:  # a file system without links; there the last of two at the same moment wins
        if path.exists():
            raise FileExistsError(path) from None
        os.replace(temporary, path)


def probe(folder: Path) -> None:
    """OSError now, rather than after the work, if nothing can be written to a folder; nothing is left there."""
    there = next(place for place in (folder.absolute(), *folder.absolute().parents) if place.exists())
    try:
        with tempfile.TemporaryFile(dir=there) as file:
            file.write(bytes(4096))
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(folder)) from None


def flush(path: Path) -> None:
    """Waits until a file, or the names in a folder, are on the disk; where the system cannot do that for a folder
    (Windows), they get there when it likes."""
    try:
        handle = os.open(path, os.O_RDWR if path.is_file() else os.O_RDONLY)
    except PermissionError:
        return
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
