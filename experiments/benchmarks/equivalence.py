"""The fast path against plain PyTorch (`measure.py`: its batch normalisation, a loop over time, autograd): gradients of
the first step and the losses of 500 steps, with the same seeds and the same data (scikit-learn's digits, T = 4, fp32).

    python experiments/benchmarks/equivalence.py [--steps 500] [--disturbed 5]

Spikes are discontinuous: a rounding error that moves one across its threshold is a small noise, and 500 steps make
another course of it. What that noise amounts to is shown by more plain runs, whose weights differ from the first's by
one part in ten million. The paths are the same if their difference is no larger than those of the plain runs. The fast
path in bf16 (autocast, whatever the processor computes it with) is put beside them.
"""

import argparse

import torch
from measure import by_other_means

from tcja_gen.data import Batches, load_images
from tcja_gen.models import build
from tcja_gen.nn import StepDraws, fuse
from tcja_gen.process import neuron_path

BATCH, BLOCK = 32, 50
SETTINGS = {
    "image_size": 8,
    "encoder": "16C3s2-TCJA-32C3s2-TCJA",
    "latent": {"channels": 32, "divergence_weight": 0.1},
}


def model(path: str, disturbed: int = 0) -> torch.nn.Module:
    torch.manual_seed(0)
    made = build(SETTINGS).train()
    made = by_other_means(made, "plain") if path == "plain" else fuse(made, path)
    if disturbed:
        torch.manual_seed(disturbed)
        with torch.no_grad():
            for p in made.parameters():
                p *= 1 + 1e-7 * torch.randn_like(p)
    return made


def gradients(path: str, x: torch.Tensor) -> dict[str, torch.Tensor]:
    made = model(path)
    made(x, StepDraws(0, 0, len(x)), 0.0)["loss"].backward()
    return {name.replace("layer.", ""): p.grad for name, p in made.named_parameters()}


def losses(made: torch.nn.Module, batches: Batches, steps: int, half: bool = False) -> torch.Tensor:
    """Means over blocks of 50 steps, or over all if they are fewer."""
    optimizer = torch.optim.AdamW(made.parameters(), 1e-3, weight_decay=1e-3, fused=True)
    seen = []
    for step in range(steps):
        with torch.autocast("cpu", torch.bfloat16, enabled=half):
            loss = made(batches.at(step)[0], StepDraws(0, step, BATCH), step / steps)["loss"]
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        seen.append(loss.detach())
    return torch.stack(seen).view(-1, min(BLOCK, steps)).mean(1)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=500)
    parser.add_argument("--disturbed", type=int, default=5, help="plain runs to compare with")
    asked = parser.parse_args()
    block = min(BLOCK, asked.steps)
    steps = asked.steps // block * block
    fast, why = neuron_path(torch.device("cpu"))
    print(f"fast path: {fast}, {why}")
    batches = Batches(load_images("digits", "train"), BATCH, seed=0)

    a, b = (gradients(path, batches.at(0)[0]) for path in (fast, "plain"))
    # biases that a normalisation takes away: 0 here, and in plain PyTorch what rounding leaves of it
    apart = {name: float((a[name] - g).norm() / g.norm()) for name, g in b.items() if a[name].any()}
    name = max(apart, key=apart.get)
    print(f"gradients of the first step: relative difference of a parameter's, at most {apart[name]:.1e} ({name})")

    curves = {
        "plain": losses(model("plain"), batches, steps),
        "fast": losses(model(fast), batches, steps),
        "fast, bf16": losses(model(fast), batches, steps, half=True),
        **{f"plain, noise {i}": losses(model("plain", i), batches, steps) for i in range(1, 1 + asked.disturbed)},
    }
    print(f"loss, means of {block} steps")
    for name, curve in curves.items():
        apart = (curve / curves["plain"] - 1).abs()
        print(f"{name:<18}", *(f"{x:.4f}" for x in curve), f" apart from plain: mean {apart.mean():.2%}")


if __name__ == "__main__":
    main()
