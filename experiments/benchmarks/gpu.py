"""Training steps on a GPU, side by side, and FSVAE's whole MNIST recipe: `gpu.md`, which has no `recipe` yet.

    python experiments/benchmarks/gpu.py --keep FOLDER [--stage steps|others|scaling|layers|recipe] [--minutes 9]

Without --stage, all of them in turn. A stage begins no other measurement after so many minutes, and every measurement
is a file in FOLDER, so the same command goes on where it was stopped. `recipe` trains the recipe fsvae-mnist in bf16 to
its end, in as many calls as it takes, and scores it. --device cpu --small is a smoke run, beside SpikingJelly's alone.
"""

import argparse
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import torch
from cases import OTHERS, facts, layers, others, scaling, table
from measure import Case

RECIPE = "fsvae-mnist"
PACKAGE = [sys.executable, "-m", "tcja_gen"]


def stages(base: Case, small: bool) -> dict[str, dict[str, Case]]:
    n, t = base.batch, base.time_steps
    sampled = replace(base, sampling=2 if small else 1024)
    means = ["spikingjelly"] if small else OTHERS
    return {
        "steps": {
            f"compat, ours, {base.precision}": sampled,
            "compat, ours, fp32": replace(base, precision="fp32"),
            "compat, ours, no CUDA graph": replace(base, graph=False),
            "with TCJA at every stage, ours": replace(sampled, network="tcja"),
            "memory = recompute": replace(base, memory="recompute"),
        },
        "others": {"compat, ours": sampled, **others(replace(base, graph=False), means)},
        "scaling": {"compat, ours": sampled, **scaling(base, (t // 4, t // 2, 2 * t), (n // 2, 2 * n), (64,))},
    }


def recipe(folder: Path, minutes: float, data_root: str) -> None:
    """Trains for so many minutes; Ctrl-C's signal makes a run save, and the next call resumes it."""
    run = folder / "recipe"
    begun = (run / "config.toml").exists()
    ask = ["--resume", str(run)] if begun else [RECIPE, "--out", str(run), "--data-root", data_root]
    command = [*PACKAGE, "train", *ask, *([] if begun else ["--precision", "bf16"])]
    with subprocess.Popen(command) as training:
        try:
            training.wait(60 * minutes)
        except subprocess.TimeoutExpired:
            training.send_signal(2)
    if training.returncode == 0:
        metrics = "fad,fad-official,fid-classifier,reconstruction"
        subprocess.run([*PACKAGE, "evaluate", str(run), "--data-root", data_root, "--metrics", metrics], check=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--keep", type=Path, required=True)
    parser.add_argument("--stage", default="", choices=["", "steps", "others", "scaling", "layers", "recipe"])
    parser.add_argument("--minutes", type=float, default=9)
    parser.add_argument("--batch", type=int, default=1024)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--data-root", default="data")
    parser.add_argument("--small", action="store_true")
    asked = parser.parse_args()
    if asked.device == "cuda" and not torch.cuda.is_available():
        sys.exit("gpu.py: there is no CUDA device on this machine; --device cpu --small is a smoke run")
    size = {"time_steps": 4, "batch": 4, "steps": 1} if asked.small else {"batch": asked.batch, "steps": 20}
    base = Case(device=asked.device, precision="bf16", graph=asked.device == "cuda", **size)
    print(*facts(asked.device), sep="\n")
    for name, cases in stages(base, asked.small).items():
        if asked.stage in ("", name):
            rows = table(cases, asked.keep, asked.minutes, lambda case: print(case, file=sys.stderr))
            print(f"\n## {name}, batch {base.batch}, T = {base.time_steps}\n", *rows, sep="\n")
    if asked.stage in ("", "layers"):
        print("\n## layers\n", *layers(replace(base, what="layers"), asked.keep), sep="\n")
    if asked.stage == "recipe" or not asked.stage and not asked.small:
        recipe(asked.keep, asked.minutes, asked.data_root)


if __name__ == "__main__":
    main()
