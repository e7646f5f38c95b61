"""Threads that sleep while they wait for each other, as long as other processes want the cores, too.

libgomp's threads spin for milliseconds where they wait. On a machine of one's own that is the fastest there is. Beside
busy processes the thread that is waited for has no core, because those that wait for it have them all: the same
training is ten and more times slower. GOMP_SPINCOUNT and OMP_WAIT_POLICY choose once, for either case. But libgomp (see
GOMP_SPINCOUNT in its manual) spins 100 times in place of 300,000 whenever a process has more OpenMP threads than there
are CPUs. So a watcher looks how long the threads of this process were kept from running, and where that is much it
adds OpenMP threads that do nothing but sleep, until the machine is quiet again. No result depends on it.
"""

import ctypes
import functools
import os
import sys
import threading
import time
from pathlib import Path

import torch

INTERVAL = 0.25  # seconds between two looks
BUSY, QUIET = 0.1, 0.03  # share of the time that threads wait for a core, all of them together
PATIENCE = 8  # quiet looks, one after another, until the machine counts as quiet
TASKS = Path("/proc/self/task")


@functools.cache
def sleep_when_busy() -> None:
    """Starts the watcher, where there is libgomp, something to wait for, and no wish of the user's."""
    able = sys.platform == "linux" and (TASKS.parent / "schedstat").exists()
    if able and torch.get_num_threads() > 1 and not {"GOMP_SPINCOUNT", "OMP_WAIT_POLICY"} & os.environ.keys():
        threading.Thread(target=_watch, name="tcja_gen watches the load", daemon=True).start()


def _watch() -> None:
    crowd: Crowd | None = None
    quiet, before, since = 0, waited(), time.monotonic()
    while True:
        time.sleep(INTERVAL)
        after, now = waited(), time.monotonic()
        share = sum(after[task] - before[task] for task in after.keys() & before.keys()) / (now - since)
        before, since = after, now
        quiet = quiet + 1 if share < QUIET else 0
        if share > BUSY and not crowd:
            crowd = Crowd()
        elif quiet >= PATIENCE and crowd:
            crowd.leave()
            crowd = None


def waited() -> dict[str, float]:
    """Seconds that each thread of this process was ready to run and had no core."""
    found = {}
    for task in os.listdir(TASKS):
        try:
            found[task] = int((TASKS / task / "schedstat").read_text(encoding="utf-8").split()[1]) / 1e9
        except (OSError, IndexError):  # it has just ended
            continue
    return found


class Crowd:
    """A sleeping thread with a team of more OpenMP threads than there are CPUs, in every libgomp of this process."""

    def __init__(self):
        self.over = threading.Event()
        for gomp in runtimes():
            threading.Thread(target=self._stay, args=(gomp,), name="tcja_gen sleeps", daemon=True).start()

    def _stay(self, gomp: ctypes.CDLL) -> None:
        # not by an operation of torch: a program that ends in the middle of one in a daemon thread is aborted
        gomp.GOMP_parallel(gomp.omp_get_thread_num, None, len(os.sched_getaffinity(0)) + 1, 0)
        self.over.wait()

    def leave(self) -> None:
        """The team ends with its thread."""
        self.over.set()


def runtimes() -> list[ctypes.CDLL]:
    """torch brings a libgomp of its own; the compiled kernels may have come with that of the system."""
    lines = (TASKS.parent / "maps").read_text(encoding="utf-8").splitlines()
    paths = {line.split(maxsplit=5)[-1] for line in lines if "/libgomp" in line}
    return [ctypes.CDLL(path) for path in sorted(paths)]
