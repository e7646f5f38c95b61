"""Where what is slow to make is kept: event frames, and what scores need. The folder is `$XDG_CACHE_HOME/tcja_gen`, by
default `~/.cache/tcja_gen`.

A file's name is the SHA-256 of everything its content depends on, so a changed image, split, size, extractor
or mode never meets an old file. Files appear whole or not at all.
"""

import hashlib
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from uuid import uuid4


def cache_file(kind: str, suffix: str, **facts) -> Path:
    """The cache's path for a thing of this kind that depends on exactly these JSON-ready facts."""
    root = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    key = hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()
    return Path(root) / "tcja_gen" / f"{kind}-{key[:32]}{suffix}"


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A temporary name beside `path`; what is written there replaces `path` when the block succeeds."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f"{path.name}.{uuid4().hex}.tmp")
    try:
        yield temporary
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
