"""Makes OpenMP threads sleep while they wait for each other, as long as other processes also need the cores.

libgomp's threads spin for milliseconds while they wait. On an idle machine that is fastest. On a busy one the spinning
threads take the cores that the thread they wait for needs, and a training can be ten times slower or worse. The
variables GOMP_SPINCOUNT and OMP_WAIT_POLICY fix one behaviour for the whole run.

But libgomp spins only 100 times instead of 300,000 while a process has more OpenMP threads than there are CPUs (see
GOMP_SPINCOUNT in its manual). So a watcher measures how long the threads of this process waited for a core. If they
waited long, it adds OpenMP threads that only sleep, until the machine is quiet again. No result depends on it.
"""

import ctypes
import functools
import os
import sys
import threading
import time
from pathlib import Path

import torch

INTERVAL = 0.25  # seconds between two measurements
BUSY, QUIET = 0.1, 0.03  # seconds that threads waited for a core, summed over threads, per second
PATIENCE = 8  # quiet measurements in a row until the machine counts as quiet
TASKS = Path("/proc/self/task")


@functools.cache
def sleep_when_busy() -> None:
    """Starts the watcher on Linux, if torch uses several threads and the user has not set libgomp's variables."""
    measurable = sys.platform == "linux" and (TASKS.parent / "schedstat").exists()
    if measurable and torch.get_num_threads() > 1 and not {"GOMP_SPINCOUNT", "OMP_WAIT_POLICY"} & os.environ.keys():
        threading.Thread(target=_watch, name="tcja_gen watches the load", daemon=True).start()


def _watch() -> None:
    crowd: Crowd | None = None
    quiet, before, since = 0, seconds_waited(), time.monotonic()
    while True:
        time.sleep(INTERVAL)
        after, now = seconds_waited(), time.monotonic()
        share = sum(after[task] - before[task] for task in after.keys() & before.keys()) / (now - since)
        before, since = after, now
        quiet = quiet + 1 if share < QUIET else 0
        if share > BUSY and not crowd:
            crowd = Crowd()
        elif quiet >= PATIENCE and crowd:
            crowd.leave()
            crowd = None


def seconds_waited() -> dict[str, float]:
    """Seconds that each thread of this process was ready to run but had no core, by the thread's number."""
    seconds = {}
    for task in os.listdir(TASKS):
        try:
            seconds[task] = int((TASKS / task / "schedstat").read_text(encoding="utf-8").split()[1]) / 1e9
        except (OSError, IndexError):  # the thread has just ended
            continue
    return seconds


class Crowd:
    """For every libgomp of this process, a sleeping thread whose team has more OpenMP threads than there are CPUs."""

    def __init__(self):
        self.over = threading.Event()
        for gomp in runtimes():
            threading.Thread(target=self._stay, args=(gomp,), name="tcja_gen sleeps", daemon=True).start()

    def _stay(self, gomp: ctypes.CDLL) -> None:
        # not by a torch operation: if the program ends while a daemon thread is inside one, it is aborted
        gomp.GOMP_parallel(gomp.omp_get_thread_num, None, len(os.sched_getaffinity(0)) + 1, 0)
        self.over.wait()

    def leave(self) -> None:
        """Ends the sleeping threads, and with them their teams."""
        self.over.set()


def runtimes() -> list[ctypes.CDLL]:
    """All libgomp libraries in this process: torch has its own, and compiled kernels may use the system's."""
    lines = (TASKS.parent / "maps").read_text(encoding="utf-8").splitlines()
    paths = {line.split(maxsplit=5)[-1] for line in lines if "/libgomp" in line}
    return [ctypes.CDLL(path) for path in sorted(paths)]
