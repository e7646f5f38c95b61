"""Files that appear whole or not at all, that stay after a power cut, and whose text is UTF-8.

Whatever this package keeps is written here. A file is written under another name in the same folder, flushed to the
disk, and renamed; its permissions are those that the folder and the umask give to any new file. What cannot be written
leaves nothing behind.
"""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from uuid import uuid4


@contextmanager
def replacing(path: Path, put: Callable[[Path, Path], object] = os.replace) -> Iterator[Path]:
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


def unless_there(temporary: Path, path: Path) -> None:
    """Puts a file at `path` if there is none; of several processes at once exactly one succeeds."""
    try:
        os.link(temporary, path)
    except FileExistsError:
        pass
    except OSError:  # a file system without links; there the last of two at the same moment wins
        if not path.exists():
            os.replace(temporary, path)


def write(path: Path, content: bytes | str) -> None:
    """Writes a whole file, text as UTF-8. OSError if it cannot be done; an older file is then still there."""
    with replacing(path) as temporary:
        temporary.write_bytes(content.encode() if isinstance(content, str) else content)


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
