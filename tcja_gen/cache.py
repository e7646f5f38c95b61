"""The cache of things that are slow to compute: event frames, compiled kernels, and what scores need.

The folder is `$XDG_CACHE_HOME/tcja_gen`, by default `~/.cache/tcja_gen`. A file's name is the SHA-256 of everything
that its content depends on, including the version of the code that made it. So a changed image, split, size, extractor
or mode never reads an old file.

The cache never stops the work. A file that cannot be read is made anew. Where no file can be written, the work goes on
without the cache. A note on stderr reports either case.
"""

import hashlib
import json
import os
import sys
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, TypeVar

from .files import move_if_absent, replacing

T = TypeVar("T")


def key(**facts) -> str:
    """A name (32 hex digits) for a thing that depends on exactly these facts, which JSON can write."""
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:32]


def cache_file(kind: str, suffix: str, **facts) -> Path:
    """The path in the cache of a thing of this kind that depends on exactly these facts, which JSON can write."""
    return _folder() / f"{kind}-{key(**facts)}{suffix}"


def _folder() -> Path:
    try:
        return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "tcja_gen"
    except RuntimeError:  # a user without a home, as in some containers: nothing can be stored
        return Path(os.devnull) / "tcja_gen"


def entry(kind: str, suffix: str, version: int, read: Callable[[Path], T], **facts) -> "Entry[T]":
    """The cache's entry for a thing of this kind that depends on exactly these facts, which JSON can write.

    version: of the code that makes the thing; starts at 1 and rises when the same facts give another content
    read: reads the thing from its file; any error means that the file is damaged
    """
    versioned = {} if version == 1 else {"version": version}  # files from before there were versions stay valid
    return Entry(cache_file(kind, suffix, **facts, **versioned), read)


@dataclass(frozen=True)
class Entry(Generic[T]):
    """A file of the cache. If several processes make it at once, all of them use the one that is finished first."""

    file: Path
    read: Callable[[Path], T]

    def get(self) -> T | None:
        """The thing in the cache, or None if it is not there. A file that cannot be read is removed, with a note."""
        try:
            before = self.file.stat()
        except OSError:
            return None
        try:
            return self.read(self.file)
        except Exception as error:  # a damaged file can raise anything in its reader
            _note(f"{self.file} cannot be read and is made anew ({_reason(error)})")
        with suppress(OSError):
            if os.path.samestat(self.file.stat(), before):  # and not a file that another process has just written
                self.file.unlink()
        return None

    def store(self, write: Callable[[Path], object]) -> T:
        """Lets `write` fill the file and reads it back. If another process stored it first, that file is read.

        OSError, before `write` is called, if the cache cannot be written to.
        """
        with replacing(self.file, move_if_absent) as temporary:
            write(temporary)
        return self.read(self.file)

    def try_store(self, thing: T, write: Callable[[Path], object]) -> T:
        """As `store`. If the thing cannot be stored, a note says so and the thing itself is returned."""
        try:
            return self.store(write)
        except (OSError, ValueError, EOFError) as error:
            _note(f"{self.file.parent}: not kept there, and made anew next time ({_reason(error)})")
            return thing


def _note(text: str) -> None:
    print(f"note: {text}", file=sys.stderr)


def _reason(error: Exception) -> str:
    text = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return " ".join(text.split()) or type(error).__name__
