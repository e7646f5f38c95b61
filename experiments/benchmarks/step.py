"""Time of a training step and of sampling, on the CPU: FSVAE's network (the compat preset) and the same with TCJA.

    python experiments/benchmarks/step.py [--threads 2] [--steps 15] [--foreign "COMMAND"]

MNIST shapes: 32 x 32, T = 16, batch 32, fp32, AdamW, scheduled sampling on; images are random numbers, which costs the
same. Prints medians and minima. COMMAND is run before and after, so that another program's own timing of the same work
can be put beside it on a machine that is not always equally fast.
"""

import argparse
import statistics
import subprocess
import time

import torch

from tcja_gen.models import SpikingVAE
from tcja_gen.nn import StepDraws, fuse
from tcja_gen.process import keep_memory

BATCH, T = 32, 16
FSVAE = dict(
    time_steps=T, encoder="32C3s2-64C3s2-128C3s2-256C3s2", neuron="fsvae", scheduled_end=0.1, scheduled_replace="vote"
)
NETWORKS = {
    "compat, eager": (FSVAE, False),
    "compat, compiled": (FSVAE, True),
    "TCJA, compiled": (FSVAE | dict(encoder="32C3s2-TCJA-64C3s2-TCJA-128C3s2-TCJA-256C3s2-TCJA"), True),
}


def seconds(function, times: int) -> tuple[float, float]:
    """Median and minimum."""
    taken = []
    for _ in range(times):
        start = time.perf_counter()
        function()
        taken.append(time.perf_counter() - start)
    return statistics.median(taken), min(taken)


def measure(name: str, settings: dict, fused: bool, steps: int) -> None:
    torch.manual_seed(0)
    model = fuse(SpikingVAE(**settings), fused).train()
    optimizer = torch.optim.AdamW(model.parameters(), 1e-3, weight_decay=1e-3, fused=True)
    x = torch.rand(BATCH, 1, 32, 32) * 2 - 1
    draws = iter(StepDraws(0, step, BATCH) for step in range(10**6))

    def step() -> None:
        loss = model(x, next(draws), 0.0)["loss"]
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()

    first, _ = seconds(step, 1)
    seconds(step, 1)
    median, least = seconds(step, steps)
    sampling, _ = seconds(lambda: model.sample(range(256)), 3)
    count = sum(p.numel() for p in model.parameters())
    print(
        f"{name:<18} {count:>10,} parameters  first step {first:5.1f} s  step {median:.3f} s (least {least:.3f})  "
        f"sampling {256 / sampling:.0f} images/s",
        flush=True,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--steps", type=int, default=15)
    parser.add_argument("--foreign", default="")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    keep_memory()
    if arguments.foreign:
        subprocess.run(arguments.foreign, shell=True, check=True)
    for name, (settings, fused) in NETWORKS.items():
        measure(name, settings, fused, arguments.steps)
    if arguments.foreign:
        subprocess.run(arguments.foreign, shell=True, check=True)


if __name__ == "__main__":
    main()
