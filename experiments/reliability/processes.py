"""Whether the number of processes changes anything: the table "Processes" in README.md.

    python experiments/reliability/processes.py [--out FOLDER] [--cases "dropout;head"] [--limit 600]

Tiny models of the embedded digits on a CPU, one of each kind and objective, are trained for four steps (a stage) by one
process and, under torchrun (gloo), by two and three. A row for each: the largest relative difference, over the steps,
of losses and gradient norms to those of one process; the same of a run that one process began and two or three resumed
(in its last stage); whether samples of the one run are the same images, and its scores the same numbers, with any
number of processes. Exit code 1 if a loss differs by more than 1e-4, or samples or scores differ at all. Some minutes.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

TOLERANCE, STEPS, WORLDS = 1e-4, 4, (1, 2, 3)
RUN = {"steps": STEPS, "batch": 24, "warmup": 1, "log_every": 1, "sample_every": 0, "checkpoint_every": STEPS // 2}
CODES = {"encoder": "8C3s2-TCJA", "decoder": "8C3-8T4s2", "time_steps": 2}
PRIOR = {"kind": "codes", "channels": 2, "prior": "8C3-8R3", "rounds": 4}
POISSON = {"encoder": "8C3s2-TCJA-16C3s2-TCJA", "latent": {"kind": "poisson", "channels": 8}}
BITS = {"encoder": "8C3s2-TCJA-16C3s2-TCJA", "time_steps": 8}
DRAWN = {"channels": 8, "k": 4}
ANN = {"encoder": "8C3s2-16C3s2", "neuron": "relu", "time_steps": 1}
CLASSES = {"encoder": "8C3-TCJA-MP2-16C3-MP2", "head": "24FC-10L", "time_steps": 3}
DROPPED = {"encoder": "DP.2-8C3s2-DP.5-16C3s2-TCJA", "decoder": "8T3s2-TCJA-8T3s2"}
ADVERSARIAL = {"weight": 0.2, "network": "4C3s2-DP.5-8C3s2"}
STAGES = [
    {"name": "autoencoder", "fit": "autoencoder"},
    {"name": "decoder", "fit": "decoder", "objective": {"perceptual": {"weight": 0.5}}},
    {"name": "prior", "fit": "prior"},
]
CASES = {
    "bernoulli": {"model": BITS | {"latent": DRAWN | {"scheduled": {"first": 1}}}},
    "bernoulli, as FSVAE's code": {
        "model": BITS | {"latent": DRAWN | {"passes": "prefixes", "scheduled": {"first": 1, "replace": "vote"}}}
    },
    "poisson": {"model": POISSON},
    "gaussian (ANN)": {"model": ANN | {"latent": {"kind": "gaussian", "channels": 8}}},
    "codes": {"model": CODES | {"latent": PRIOR | {"flips": 0.05}}},
    "adversarial": {"model": POISSON, "objective": {"adversarial": ADVERSARIAL}},
    "perceptual": {"model": POISSON, "objective": {"perceptual": {"weight": 0.5}}},
    "dropout": {"model": POISSON | DROPPED},
    "head": {"model": POISSON | {"head": "DP.5-10L"}, "objective": {"classification": {"kind": "tet"}}},
    "mixup": {"model": POISSON | {"head": "10L"}, "mixup": 0.5},
    "conditional": {"model": CODES | {"latent": PRIOR | {"conditional": True, "prior": "8C3-DP.5-8C3"}}},
    "stages": {"model": CODES | {"latent": PRIOR}, "stages": STAGES},
    "recompute": {"model": POISSON | DROPPED, "memory": "recompute"},
    "classifier": {"task": "classify", "model": CLASSES},
    "classifier, dropout and mixup": {
        "task": "classify",
        "model": CLASSES | {"head": "DP.5-24FC-DP.5-10L"},
        "mixup": 0.5,
        "flip": True,
        "shift": 1,
    },
}
GENERATED = ["reconstruction", "fid-classifier", "precision-classifier"]


# in every process


def work(out: Path, cases: list[str]) -> None:
    """Trains all cases, goes on with the runs of one process, samples and scores them; in OUT/<world>."""
    import torch

    import tcja_gen as tg
    from tcja_gen import process

    torch.set_num_threads(1)
    place = process.start("cpu")
    own, one = out / str(place.world), out / "1"
    for name in cases:
        settings = RUN | {"compile": "off", "device": "cpu", "data": "digits"} | CASES[name]
        tg.train(out=str(own / name), quiet=True, **settings)
        resumed = out / f"{place.world} resumed" / name
        if place.first:
            shutil.copytree(one / name, resumed)
            back(resumed, STEPS // 2)
        process.in_all_processes(True)  # waits
        tg.resume(resumed, quiet=True)
        used(tg.load(one / name), own / f"{name}.json", place.first)


def back(run: Path, step: int) -> None:
    """As if the process had been killed after this step."""
    kept = f"step-{step:06d}"
    last = max(run.glob("stage-*"), default=run)
    for folder in (last / "checkpoints").glob("step-*"):
        if folder.name != kept:
            shutil.rmtree(folder)


def used(model, file: Path, first: bool) -> None:
    """Scores and, of a generator, a hash of the samples."""
    import hashlib

    import tcja_gen as tg
    from tcja_gen.evaluation import generate

    metrics = GENERATED if model.kind == "generator" else ["accuracy"]
    number = {"n": 200} if model.kind == "generator" else {}
    found = tg.evaluate(model, "digits", metrics, **number)["scores"]
    if model.kind == "generator":
        images = generate.sample(model, range(50))
        found["samples"] = hashlib.sha256(images.numpy().tobytes()).hexdigest()
    if first:
        file.write_text(json.dumps(found), encoding="utf-8")


# the driver


def launch(world: int, out: Path, cases: list[str], limit: float) -> None:
    several = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(world)] if world > 1 else []
    command = [sys.executable, *several, __file__, "--work", "--out", str(out), "--cases", ";".join(cases)]
    threads = {"OMP_NUM_THREADS": "1", "XDG_CACHE_HOME": str(out / "cache")}
    done = subprocess.run(command, env=os.environ | threads, timeout=limit, capture_output=True, encoding="utf-8")
    if done.returncode:
        raise SystemExit(f"processes.py: {world} processes failed:\n{done.stderr[-3000:]}")


def course(run: Path) -> dict[tuple[str, int], tuple[float, float]]:
    """Loss and norm of the gradient by stage and step."""
    from tcja_gen.training.runs import statistics

    found = {}
    for folder in sorted(run.glob("stage-*")) or [run]:
        for line in statistics(folder):
            if "loss" in line:
                found[folder.name, line["step"]] = line["loss"], line["gradient_norm"]
    return found


def apart(a: Path, b: Path) -> list[float]:
    """Largest relative differences of two runs' losses and norms."""
    one, other = course(a), course(b)
    assert one and one.keys() == other.keys(), (a, b)
    return [max(abs(one[s][i] - other[s][i]) / abs(one[s][i]) for s in one) for i in range(2)]


def line(name: str, out: Path) -> tuple[str, bool]:
    """Of the table, and whether all is well."""
    cells, good = [], True
    for world in WORLDS[1:]:
        trained = apart(out / "1" / name, out / str(world) / name)
        resumed = apart(out / "1" / name, out / f"{world} resumed" / name)
        good &= max(trained[0], resumed[0]) <= TOLERANCE
        cells += [f"{trained[0]:.0e}", f"{trained[1]:.0e}", f"{resumed[0]:.0e}"]
    found = [json.loads((out / str(world) / f"{name}.json").read_text(encoding="utf-8")) for world in WORLDS]
    samples = {one.pop("samples", None) for one in found}
    same = all(one == found[0] for one in found)
    good &= same and len(samples) == 1
    told = "-" if samples == {None} else "equal" if len(samples) == 1 else "UNLIKE"
    return f"| {name} | {' | '.join(cells)} | {told} | {'equal' if same else 'UNLIKE'} |", good


def main() -> None:
    asked = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    asked.add_argument("--out", help="folder of the runs; default: a temporary one")
    asked.add_argument("--cases", default=";".join(CASES), help="some of the lines, with semicolons")
    asked.add_argument("--limit", type=float, default=900, help="seconds for one number of processes, at most")
    asked.add_argument("--work", action="store_true", help=argparse.SUPPRESS)
    asked = asked.parse_args()
    cases = asked.cases.split(";")
    if unknown := [name for name in cases if name not in CASES]:
        raise SystemExit(f"processes.py: no case {unknown[0]!r}; there are: {'; '.join(CASES)}")
    if asked.work:
        return work(Path(asked.out), cases)
    with tempfile.TemporaryDirectory() as temporary:
        out = Path(asked.out or temporary)
        for world in WORLDS:
            launch(world, out, cases, asked.limit)
        heads = [f"{what}, {world}" for world in WORLDS[1:] for what in ("loss", "gradient", "resumed")]
        print(f"| | {' | '.join(heads)} | samples | scores |\n|{'---|' * (3 + len(heads))}")
        lines = [line(name, out) for name in cases]
    print("\n".join(text for text, _ in lines))
    if not all(good for _, good in lines):
        raise SystemExit(1)


if __name__ == "__main__":
    main()
