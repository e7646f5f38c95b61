"""Kills trainings at random moments and demands that nothing is lost.

    python experiments/reliability/kills.py --kills 1000 [--only stages]

A training is begun, killed by SIGKILL, resumed, killed again, until it ends. Its weights, raw weights, optimiser and
moving average must then equal those of an undisturbed run, to the bit, and so must its "best" checkpoint; of a run in
stages, those of every stage. Half of the kills come at a random moment, half within 3 ms of the moment at which a file
is seen that is being written. Trainings are small and write a checkpoint every one or two steps, so most of their time
is writing. Each process is a fork of this one, which has imported everything that is slow to import.
"""

import argparse
import itertools
import os
import random
import signal
import sys
import tempfile
import time
from pathlib import Path

import torch
from safetensors.torch import load_file

import tcja_gen as tg
from tcja_gen.models import store
from tcja_gen.training import resume, train

COMMON = {"steps": 30, "batch": 8, "warmup": 2, "log_every": 5, "sample_every": 0, "compile": "off", "device": "cpu"}
MODEL = {"encoder": "8C3s2-TCJA", "time_steps": 2, "latent": {"channels": 4, "k": 4}}
POISSON = {"encoder": "8C3s2-TCJA", "time_steps": 2, "latent": {"kind": "poisson", "channels": 4}}
CODES = {"encoder": "8C3s2-TCJA", "decoder": "8C3-8T4s2", "time_steps": 2}
CODES["latent"] = {"kind": "codes", "channels": 2, "prior": "8C3-8R3", "rounds": 2}
ADVERSARIAL = {"adversarial": {"weight": 0.1, "network": "4C3s2"}}
STAGES = [
    {"name": "autoencoder", "fit": "autoencoder", "steps": 10},
    {"name": "decoder", "fit": "decoder", "steps": 8, "checkpoint_every": 2, "objective": ADVERSARIAL},
    {"name": "prior", "fit": "prior", "steps": 12},
]
CASES = {
    "generator, a checkpoint a step": {**COMMON, "checkpoint_every": 1, "model": MODEL},
    "generator against a discriminator": {
        **COMMON, "checkpoint_every": 2, "keep_every": 10, "model": MODEL, "objective": ADVERSARIAL,
    },
    "generator with pictures, no moving average": {
        **COMMON, "checkpoint_every": 2, "sample_every": 7, "ema": 0.0, "model": POISSON,
    },
    "classifier": {
        **COMMON, "task": "classify", "checkpoint_every": 1, "model": {"encoder": "8C3s2-TCJA-8C3s2", "time_steps": 2},
    },
    "stages: autoencoder, decoder, prior": {
        **COMMON, "checkpoint_every": 1, "model": CODES, "stages": STAGES,
    },
}  # fmt: skip
CASES["classifier"].pop("sample_every")
CLOSE = 0.003  # seconds after a file is seen that is being written


def begin(settings: dict, out: Path) -> int:
    """Starts or resumes a training in a process of its own; its id."""
    child = os.fork()
    if child:
        return child
    code = 1
    try:
        sys.stderr = open(os.devnull, "w", encoding="utf-8")
        if (out / "config.toml").exists():
            resume(out, quiet=True)
        else:
            train(out=str(out), quiet=True, **settings)
        code = 0
    finally:
        os._exit(code)


def kill(child: int, out: Path, chance: random.Random, usual: float) -> int | None:
    """Kills a training at some moment; its exit code if it had ended by itself before."""
    at, writing = time.monotonic() + usual * chance.random(), chance.random() < 0.5
    while time.monotonic() < at or writing:
        ended, status = os.waitpid(child, os.WNOHANG)
        if ended:
            return os.waitstatus_to_exitcode(status)
        if writing and time.monotonic() >= at and any(out.rglob("checkpoints/*.part/*")):
            time.sleep(CLOSE * chance.random())
            break
        time.sleep(0.0002)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    return None


def unlike(a: Path, b: Path) -> list[str]:
    """What two finished runs differ in."""
    stages = store.stages(a)
    if [stage.name for stage in stages] != [stage.name for stage in store.stages(b)]:
        return ["stages"]
    found = [f"{stage.name}: {thing}" for stage in stages for thing in unlike(stage, b / stage.name)]
    return found if stages else _unlike(a, b)


def _unlike(a: Path, b: Path) -> list[str]:
    """What two finished runs without stages differ in."""
    found = []
    if store.find(a, "best").parent.name != store.find(b, "best").parent.name:
        found.append("best")
    one, other = store.steps(a)[-1], store.steps(b)[-1]
    weights = [load_file(folder / "model.safetensors") for folder in (one, other)]
    if one.name != other.name or not same(*weights):
        found.append("weights")
    states = [torch.load(folder / "state.pt", weights_only=True) for folder in (one, other)]
    for state in states:
        for place in ("out", "init_from"):
            state["config"].pop(place)
    return found + [name for name in states[0] if not same(states[0][name], states[1][name])]


def same(a, b) -> bool:
    """Whether two states are equal to the bit."""
    if isinstance(a, torch.Tensor):
        return torch.equal(a, b)
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(same(a[key], b[key]) for key in a)
    if isinstance(a, list | tuple):
        return len(a) == len(b) and all(map(same, a, b))
    return a == b


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=1000)
    parser.add_argument("--minutes", type=float, default=60, help="stop after so many, whatever was reached")
    parser.add_argument("--only", default="", help="trainings whose name has this in it")
    parser.add_argument("--seed", type=int, default=0)
    asked = parser.parse_args()
    cases = {name: settings for name, settings in CASES.items() if asked.only in name}
    if not cases:
        parser.error(f"--only {asked.only}: no training has this in its name; there are {', '.join(CASES)}")
    torch.set_num_threads(1)
    chance, end = random.Random(asked.seed), time.monotonic() + 60 * asked.minutes
    counts = {name: {"runs": 0, "kills": 0, "while writing": 0, "lost": 0, "unlike": 0} for name in cases}
    with tempfile.TemporaryDirectory() as place:
        whole, usual = {}, {}
        for i, (name, settings) in enumerate(cases.items()):
            whole[name], started = Path(place) / f"whole-{i}", time.monotonic()
            os.waitpid(begin(settings, whole[name]), 0)
            usual[name] = time.monotonic() - started
        for number, name in enumerate(itertools.cycle(cases)):
            done = sum(count["kills"] for count in counts.values())
            if done >= asked.kills or time.monotonic() > end:
                break
            once(cases[name], Path(place) / f"run-{number}", whole[name], usual[name], chance, counts[name])
            print(f"{done} kills", file=sys.stderr, end="\r")
    table(counts)
    return int(any(count["lost"] or count["unlike"] for count in counts.values()))


def once(settings: dict, out: Path, whole: Path, usual: float, chance: random.Random, count: dict) -> None:
    """One training, killed until it ends."""
    count["runs"] += 1
    code, patience = None, usual / 3
    while code is None:
        code = kill(begin(settings, out), out, chance, patience)
        patience *= 1.05  # or on a busy machine none would come to its next checkpoint
        count["kills"] += code is None
        count["while writing"] += code is None and any(out.rglob("checkpoints/*.part"))
    if code:
        count["lost"] += 1
        print(f"{out.name}: could not go on, exit code {code}", file=sys.stderr)
    elif found := unlike(whole, out):
        count["unlike"] += 1
        print(f"{out.name}: another {', '.join(found)}", file=sys.stderr)


def table(counts: dict[str, dict]) -> None:
    columns = [*next(iter(counts.values()))]
    print(f"| training | {' | '.join(columns)} |\n|---|{'---|' * len(columns)}")
    counts = {**counts, "all": {column: sum(count[column] for count in counts.values()) for column in columns}}
    for name, count in counts.items():
        print(f"| {name} | {' | '.join(map(str, count.values()))} |")


if __name__ == "__main__":
    assert tg.train  # imported before any fork
    sys.exit(main())
