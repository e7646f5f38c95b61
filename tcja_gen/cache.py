"""Where what is slow to make is kept: event frames, and what scores need. The folder is `$XDG_CACHE_HOME/tcja_gen`, by
default `~/.cache/tcja_gen`.

A file's name is the SHA-256 of everything its content depends on, so a changed image, split, size, extractor
or mode never meets an old file.
"""

import hashlib
import json
import os
from pathlib import Path


def cache_file(kind: str, suffix: str, **facts) -> Path:
    """The cache's path for a thing of this kind that depends on exactly these JSON-ready facts."""
    root = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    key = hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()
    return Path(root) / "tcja_gen" / f"{kind}-{key[:32]}{suffix}"
