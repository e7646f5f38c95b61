"""Files that appear whole or not at all, that survive a power cut, and whose text is UTF-8.

All files of this package are written by these functions. A file is written under a temporary name in the same folder,
flushed to the disk, and renamed. It has the permissions of any new file in that folder. A write that fails leaves
nothing behind, and its error names the file. A link stays, and what it leads to is written.
"""

import errno
import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from uuid import uuid4


@contextmanager
def replacing(path: Path, move: Callable[[Path, Path], None] = os.replace) -> Iterator[Path]:
    """Yields a temporary file in the folder of `path`. It replaces `path` when the block succeeds.

    The temporary file exists, empty, when the block begins. So a folder that cannot be written to raises an OSError
    before any work is done. Missing folders are made. move: `move_if_absent` if the first of several writers wins.
    """
    check_replaceable(path)
    path = Path(os.path.realpath(path)) if path.is_symlink() else path
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{uuid4().hex}.tmp")
    try:
        with naming(path, temporary):
            temporary.touch(exist_ok=False)
            mode = temporary.stat().st_mode  # some writers replace the file by one that only its owner can read
            yield temporary
            temporary.chmod(mode)
            flush(temporary)
            move(temporary, path)
            flush(path.parent)
    finally:
        temporary.unlink(missing_ok=True)


def check_replaceable(path: Path) -> None:
    """OSError if `path` is there and is no regular file. A folder's name is taken; a device or a pipe would be gone."""
    if path.exists() and not path.is_file():
        kind = "a folder" if path.is_dir() else "a device or a pipe"
        raise OSError(errno.EINVAL, f"{kind}, where a file was to be written", str(path))


@contextmanager
def naming(path: Path, temporary: Path | None = None) -> Iterator[None]:
    """An OSError in the block that names no file, as on a full disk, or the temporary one, names `path`: the block is
    about writing it."""
    try:
        yield
    except OSError as error:
        if error.errno is None or error.filename not in (None, str(temporary)):
            raise
        raise type(error)(error.errno, error.strerror, str(path)) from error


def write(path: Path, content: bytes | memoryview | str) -> None:
    """Writes a file, text as UTF-8. OSError if that fails; an older file of this name then stays as it was."""
    with replacing(path) as temporary:
        temporary.write_bytes(content.encode() if isinstance(content, str) else content)


def write_if_absent(path: Path, content: str) -> bool:
    """Writes a text file if there is none of this name, and returns whether it did.

    If several processes try at once, exactly one of them gets True.
    """
    try:
        with replacing(path, _move_new) as temporary:
            temporary.write_bytes(content.encode())
    except FileExistsError:
        return False
    return True


def move_if_absent(temporary: Path, path: Path) -> None:
    """Gives a file the name `path` if there is none of this name. Of several processes exactly one succeeds."""
    with suppress(FileExistsError):
        _move_new(temporary, path)


def _move_new(temporary: Path, path: Path) -> None:
    """Gives a file the name `path`; FileExistsError if there is one."""
    try:
        os.link(temporary, path)
    except FileExistsError:
        raise
    except OSError:  # a file system without links: of two processes at the same moment, the later one wins
        if path.exists():
            raise FileExistsError(path) from None
        os.replace(temporary, path)


def check_file(path: Path) -> None:
    """OSError if a file cannot be written to `path`: asked before the work rather than after it."""
    check_replaceable(path)
    check_writable(path.parent)


def check_writable(folder: Path) -> None:
    """OSError if nothing can be written to a folder: asked before the work rather than after it. Leaves no file."""
    existing = next(parent for parent in (folder.absolute(), *folder.absolute().parents) if parent.exists())
    try:
        with tempfile.TemporaryFile(dir=existing) as file:
            file.write(bytes(4096))
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(folder)) from None


def flush(path: Path) -> None:
    """Waits until a file, or the list of names in a folder, is on the disk. Windows cannot do it for a folder; there
    this does not wait."""
    try:
        handle = os.open(path, os.O_RDWR if path.is_file() else os.O_RDONLY)
    except PermissionError:
        return
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def last_part(path: str) -> str:
    """A path without the folders of this machine that it lies in, to give away. What was a path stays one: "./digits"
    is a folder, "digits" may be the name of a data set."""
    name = Path(path).name
    return name if path == name else f"./{name}"
