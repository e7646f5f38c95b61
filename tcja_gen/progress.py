"""Progress of long work on stderr: a bar in a terminal and in a notebook, elsewhere a line every so often.

A log file or a batch job gets lines, since a bar would fill it with control characters. Short work shows nothing.
"""

import sys
import time
import warnings
from collections.abc import Iterable, Iterator, Sequence
from typing import TypeVar

T = TypeVar("T")

DELAY = 2  # seconds until a bar appears
FIRST, EVERY = 5, 60  # seconds until the first line, and between lines


def track(items: Sequence[T], title: str | None) -> Iterable[T]:
    """The items, one by one. title: what is done with them; None shows nothing."""
    if title is None:
        return items
    if in_notebook() or (sys.stderr and sys.stderr.isatty()):
        return _bar()(items, title, delay=DELAY, leave=False, mininterval=0.5)
    return _lines(items, title)


def in_notebook() -> bool:
    """Whether this runs in a Jupyter kernel."""
    shell = getattr(sys.modules.get("IPython"), "get_ipython", lambda: None)()
    return hasattr(shell, "kernel")


def clock(seconds: float) -> str:
    """ "m:ss" or "h:mm:ss"."""
    minutes, seconds = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{seconds:02d}" if hours else f"{minutes}:{seconds:02d}"


def _bar() -> type:
    if not in_notebook():
        from tqdm import tqdm

        return tqdm
    with warnings.catch_warnings():  # tqdm warns where ipywidgets are missing, and draws its bar as text
        warnings.simplefilter("ignore")
        from tqdm.auto import tqdm

    return tqdm


def _lines(items: Sequence[T], title: str) -> Iterator[T]:
    started = time.monotonic()
    due = started + FIRST
    for done, item in enumerate(items):
        if (now := time.monotonic()) >= due:
            left = f", {clock((now - started) * (len(items) - done) / done)} left" if done else ""
            print(f"{title}: {done:,} of {len(items):,}{left}", file=sys.stderr, flush=True)
            due = now + EVERY
        yield item
