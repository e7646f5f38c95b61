"""Many measurements, each kept as a file: a run that was stopped goes on where it was, and a table of what there is."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterable
from dataclasses import asdict, fields, replace
from pathlib import Path

import torch
from measure import Case

from tcja_gen.process import environment, start
from tcja_gen.training.runs import versions

HERE = Path(__file__).parent
PROCESSES = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node"]


def measured(case: Case, folder: Path, limit: float) -> dict | None:
    """The result of a case, from its file or from a process of its own; None if the time limit forbids to start one."""
    name = ",".join(f"{f.name}={v}" for f in fields(Case) if (v := getattr(case, f.name)) != f.default)
    file = folder / f"{name or 'default'}.json"
    if not file.exists():
        if time.monotonic() > limit:
            return None
        launch = [*PROCESSES, str(case.processes)] if case.processes > 1 else []
        command = [sys.executable, *launch, str(HERE / "measure.py"), json.dumps(asdict(case))]
        threads = max(torch.get_num_threads() // case.processes, 1)
        variables = os.environ | {"OMP_NUM_THREADS": str(threads)}
        done = subprocess.run(command, capture_output=True, encoding="utf-8", errors="replace", env=variables)
        if done.returncode:
            return {"error": done.stderr.strip().splitlines()[-1]}  # not kept: the next run tries again
        folder.mkdir(parents=True, exist_ok=True)
        file.write_text(done.stdout.strip().splitlines()[-1] + "\n", encoding="utf-8")
    return json.loads(file.read_text(encoding="utf-8"))


def table(cases: dict[str, Case], folder: Path, minutes: float, note) -> list[str]:
    """Rows of Markdown, with the ratio of each case's time an image to that of the first one."""
    limit = time.monotonic() + 60 * minutes
    lines = [
        "| | s a step (least) | images/s | against ours | memory, MB | first step, s |",
        "|---|---|---|---|---|---|",
    ]
    base = None
    for name, case in cases.items():
        note(name)
        result = measured(case, folder, limit)
        if result is None or "error" in result:
            lines.append(f"| {name} | {'not measured yet' if result is None else result['error'][:90]} | | | | |")
            continue
        base = base or result["images_per_s"]
        sampled = f"; sampling {result['sampled_per_s']:.0f} images/s" if "sampled_per_s" in result else ""
        lines.append(
            f"| {name} | {result['step_s']:.3f} ({result['least_s']:.3f}) | {result['images_per_s']:.0f}{sampled} | "
            f"{base / result['images_per_s']:.2f} | {result['memory_mb']:.0f} | {result['first_step_s']:.1f} |"
        )
    return lines


def layers(case: Case, folder: Path) -> list[str]:
    """Rows of Markdown: where the time of a step goes, and what share of the device's limits is reached."""
    found = measured(case, folder, float("inf"))
    if "error" in found:
        return [found["error"]]
    lines = [
        f"Limits measured on this device: {found['bandwidth_gb_per_s']:.1f} GB/s, {found['tflop_per_s']:.3f} TFLOP/s.",
        "",
        "| layer | ms, both ways | of bandwidth | of products |",
        "|---|---|---|---|",
    ]
    for row in found["layers"]:
        lines.append(f"| {row['layer']} | {row['ms']:.2f} | {row['bandwidth']:.0%} | {row['products']:.0%} |")
    return lines


def facts(device: str) -> list[str]:
    """What was measured on."""
    found = {**versions(), **environment(start(device).device), "command": " ".join(["python", *sys.argv])}
    return [f"- {name}: {fact}" for name, fact in found.items()]


OTHERS = {"plain": "plain PyTorch, eager", "spikingjelly": "SpikingJelly's LIFNode", "snntorch": "snnTorch's Leaky"}


def others(base: Case, means: Iterable[str] = OTHERS) -> dict[str, Case]:
    """The same network by other means."""
    return {OTHERS[by]: replace(base, by=by, sampling=0) for by in means}


def scaling(base: Case, steps=(), batches=(), sizes=()) -> dict[str, Case]:
    """The same network with other numbers of time steps, images and pixels."""
    cases = {f"T = {t}": replace(base, time_steps=t, sampling=0) for t in steps}
    cases |= {f"batch {n}": replace(base, batch=n, sampling=0) for n in batches}
    return cases | {f"{s} x {s} pixels": replace(base, image_size=s, sampling=0) for s in sizes}
