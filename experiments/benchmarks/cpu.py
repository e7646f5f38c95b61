"""Training steps on a CPU, side by side: this package, plain PyTorch, SpikingJelly, snnTorch; by T, batch and pixels.

    OMP_NUM_THREADS=2 python experiments/benchmarks/cpu.py --keep FOLDER [--minutes 3] [--foreign "COMMAND"]

MNIST shapes: 32 x 32 pixels, T = 16, batch 32, fp32, AdamW, scheduled sampling on. Every measurement is a process and a
file in FOLDER; after so many minutes no other one is begun, and the next call goes on. The table of what there is goes
to stdout (`cpu.md` is such a table). COMMAND is run before and after and prints its own timing, so that another program
can be put beside ours on a machine that is not always equally fast.
"""

import argparse
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

from cases import facts, layers, others, scaling, table
from measure import Case

OURS = Case(sampling=256)
CASES = {
    "compat, ours": OURS,
    **others(OURS),
    "with TCJA at every stage, ours": replace(OURS, network="tcja"),
    "with TCJA, plain PyTorch, eager": replace(OURS, network="tcja", by="plain", sampling=0),
    "compat, ours, bf16": replace(OURS, precision="bf16"),
    "compat, ours, memory = recompute": replace(OURS, memory="recompute", sampling=0),
    **scaling(OURS, (4, 8, 32), (8, 128), (64,)),
    "T = 32, memory = recompute": replace(OURS, time_steps=32, memory="recompute", sampling=0),
    "T = 32, plain PyTorch, eager": replace(OURS, time_steps=32, by="plain", sampling=0),
    "2 processes of 1 thread": replace(OURS, processes=2, sampling=0),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--keep", type=Path, required=True)
    parser.add_argument("--minutes", type=float, default=30)
    parser.add_argument("--only", default="", help="cases whose name has this in it")
    parser.add_argument("--foreign", default="")
    arguments = parser.parse_args()
    foreign = [arguments.foreign] if arguments.foreign else []
    for command in foreign:
        subprocess.run(command, shell=True, check=True)
    cases = {name: case for name, case in CASES.items() if arguments.only in name}
    rows = table(cases, arguments.keep, arguments.minutes, lambda name: print(name, file=sys.stderr))
    for command in foreign:
        subprocess.run(command, shell=True, check=True)
    print(*facts("cpu"), "", *rows, sep="\n")
    if not arguments.only:
        print("", *layers(replace(OURS, what="layers", sampling=0), arguments.keep), sep="\n")


if __name__ == "__main__":
    main()
