"""Memory over hours: training, sampling and scoring in one process, round after round.

    python experiments/reliability/memory.py                # two hours
    python experiments/reliability/memory.py --minutes 10

A round trains a small generator for 60 steps with checkpoints, grids and logs, resumes it, loads it, samples,
reconstructs, scores, and draws its figures, as somebody does who works in one notebook all day. The memory of
the process is noted after each. The first tenth of the time, ten rounds at least, is warm-up: kernels, caches of the
allocator, modules that are imported late. From there on the medians of the first and of the last quarter of the rounds
are compared; exit code 1 if the last is more than 2 % above the first. Linux.
"""

import argparse
import gc
import os
import shutil
import statistics
import sys
import tempfile
import time
from pathlib import Path

import tcja_gen as tg
from tcja_gen import report

LIMIT = 0.02
WARM_UP = 10  # rounds at least
SETTINGS = {
    "batch": 32,
    "warmup": 5,
    "log_every": 10,
    "sample_every": 30,
    "checkpoint_every": 20,
    "device": "cpu",
    "model": {"encoder": "16C3s2-TCJA-32C3s2-TCJA", "latent": {"channels": 16}},
}


def one_round(folder: Path, number: int) -> None:
    run = tg.train(out=str(folder / "run"), quiet=True, seed=number, steps=60, **SETTINGS)
    tg.resume(run.folder, quiet=True)  # nothing is left to do but to load, to save and to draw
    model = tg.load(run.folder)
    images = model.sample(seeds=range(64))
    model.reconstruct(images)
    tg.evaluate(model, "digits", metrics=["fad", "reconstruction", "kid-classifier"], n=128)
    report.figures(run.folder, folder / "figures")
    shutil.rmtree(folder / "run")


def resident() -> float:
    """Memory of the process in MB."""
    gc.collect()
    pages = int(Path("/proc/self/statm").read_text(encoding="utf-8").split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


def rounds(minutes: float) -> list[tuple[float, float]]:
    """(minutes since the start, MB) after each round."""
    start, found = time.monotonic(), []
    with tempfile.TemporaryDirectory() as folder:
        while not found or found[-1][0] < minutes:
            one_round(Path(folder), len(found))
            found.append(((time.monotonic() - start) / 60, resident()))
            print(f"round {len(found)}  {found[-1][0]:.1f} min  {found[-1][1]:.0f} MB", file=sys.stderr, flush=True)
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description="Memory of training, sampling and scoring in one process.")
    parser.add_argument("--minutes", type=float, default=120)
    asked = parser.parse_args()
    found = rounds(asked.minutes)
    settled = [memory for i, (at, memory) in enumerate(found) if i >= WARM_UP and at > asked.minutes / 10]
    if len(settled) < 8:
        sys.exit(f"{len(found)} rounds are too few to tell; --minutes {2 * asked.minutes:g}")
    quarter = len(settled) // 4
    first, last = statistics.median(settled[:quarter]), statistics.median(settled[-quarter:])
    growth = last / first - 1
    print("| minutes | rounds | MB after warm-up | MB at the end | growth | bar |\n|--:|--:|--:|--:|--:|--:|")
    print(f"| {found[-1][0]:.0f} | {len(found)} | {first:.0f} | {last:.0f} | {growth:+.2%} | {LIMIT:.0%} |")
    return int(growth > LIMIT)


if __name__ == "__main__":
    sys.exit(main())
