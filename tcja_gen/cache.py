"""Where what is slow to make is kept: event frames, and what scores need. The folder is `$XDG_CACHE_HOME/tcja_gen`, by
default `~/.cache/tcja_gen`.

A file's name is the SHA-256 of everything its content depends on, so a changed image, split, size, extractor
or mode never meets an old file. The version of the code that makes it is part of that. A kept file never stands in the
way: one that cannot be read is made anew, and where nothing can be kept the work goes on without; a note says so.
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

from .files import replacing, unless_there

T = TypeVar("T")


def key(**facts) -> str:
    """A name for a thing that depends on exactly these JSON-ready facts."""
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:32]


def cache_file(kind: str, suffix: str, **facts) -> Path:
    """The cache's path for a thing of this kind that depends on exactly these JSON-ready facts."""
    return _folder() / f"{kind}-{key(**facts)}{suffix}"


def _folder() -> Path:
    try:
        return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "tcja_gen"
    except RuntimeError:  # a user without a home, as in some containers: nothing can be kept there
        return Path(os.devnull) / "tcja_gen"


def entry(kind: str, suffix: str, version: int, read: Callable[[Path], T], **facts) -> "Entry[T]":
    """A thing of this kind, made by this version of the code that makes it, that depends on exactly these facts.

    version: 1 until that code makes something else of the same facts
    read: the thing in a file; any error means that the file is damaged
    """
    made_by = {} if version == 1 else {"version": version}  # files from before there were versions stay good
    return Entry(cache_file(kind, suffix, **facts, **made_by), read)


@dataclass(frozen=True)
class Entry(Generic[T]):
    """A file of the cache. Of several processes that make it at once, all end with the thing of the first to finish."""

    file: Path
    read: Callable[[Path], T]

    def get(self) -> T | None:
        """The thing, if it is kept; None, with a note, if its file cannot be read, which is then removed."""
        try:
            found = self.file.stat()
        except OSError:
            return None
        try:
            return self.read(self.file)
        except Exception as error:  # a reader meets a damaged file with any error it likes
            _note(f"{self.file} cannot be read and is made anew ({_line(error)})")
        with suppress(OSError):
            if os.path.samestat(self.file.stat(), found):  # and not what another process has just put there
                self.file.unlink()
        return None

    def store(self, write: Callable[[Path], object]) -> T:
        """Has `write` fill a file, and reads what is then kept: that, or what another process kept before.

        OSError, before `write` is called, if there is no writing to the cache.
        """
        with replacing(self.file, unless_there) as temporary:
            write(temporary)
        return self.read(self.file)

    def keep(self, thing: T, write: Callable[[Path], object]) -> T:
        """`store`; the thing itself, with a note, if it cannot be kept."""
        try:
            return self.store(write)
        except (OSError, ValueError, EOFError) as error:
            _note(f"{self.file.parent}: not kept there, and made anew next time ({_line(error)})")
            return thing


def _note(text: str) -> None:
    print(f"note: {text}", file=sys.stderr)


def _line(error: Exception) -> str:
    told = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return " ".join(told.split()) or type(error).__name__
