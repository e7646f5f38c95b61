"""Every network of the paper, by the recipes `classify/...`, at its full size: its parameters, one training step on
events (or images) of the right shape, and its outputs after a checkpoint was written and read.

    python experiments/networks_check.py

The events are made here: a drawn shape that moves over a sensor of the network's size, recorded, cut into T frames.
Takes a few minutes and 12 GB on a CPU.
"""

import argparse
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F

from tcja_gen.data import integrate, moving, record
from tcja_gen.models import SpikingClassifier, build, load, save
from tcja_gen.training import recipes

NETWORKS = ("dvs128-gesture", "n-caltech101", "cifar10-dvs", "cifar10-dvs-tet", "n-caltech101-tet")
NETWORKS += ("fashion-mnist", "cifar10", "cifar100", "digits")


def shape(height: int, width: int, seed: int) -> np.ndarray:
    """A bright rectangle somewhere on a black sensor, (H, W) in [0, 1]."""
    draw = np.random.RandomState(seed)
    picture = np.zeros((height, width), np.float32)
    top, left = draw.randint(height // 8, height // 2), draw.randint(width // 8, width // 2)
    picture[top : top + height // 3, left : left + width // 4] = 0.8
    return picture


def samples(model: SpikingClassifier, n: int = 2) -> torch.Tensor:
    """Frames (N, T, 2, H, W) of counts, or images (N, C, H, W) in [0, 1]."""
    sides = model.image_size, model.image_width
    if model.image_channels != 2:
        return torch.rand(n, model.image_channels, *sides)
    recordings = [record(moving(shape(*sides, seed))) for seed in range(n)]
    return torch.stack([torch.from_numpy(integrate(r, model.time_steps, size=sides)) for r in recordings]).float()


def check(name: str, folder: Path) -> str:
    torch.manual_seed(0)
    recipe = recipes.load(f"classify/{name}")
    model = build(recipe.model, recipe.objective.classification)
    x = samples(model)
    optimizer = torch.optim.AdamW(model.parameters(), 1e-3)
    targets = F.one_hot(torch.arange(len(x)), model.classes).float()
    start = time.perf_counter()
    losses = model(x.transpose(0, 1) if x.dim() == 5 else x * 2 - 1, targets=targets)
    losses["loss"].backward()
    optimizer.step()
    seconds = time.perf_counter() - start
    save(folder / "model.safetensors", model, recipe.model, {})
    same = torch.equal(load(folder / "model.safetensors").classify(x), model.classify(x))
    count = sum(p.numel() for p in model.parameters())
    form = " x ".join(map(str, x.shape[1:]))
    return (
        f"| {name} | {count:,} | {form} | {losses['loss'].item():.4f} | {seconds:.1f} | {'same' if same else 'OTHER'} |"
    )


def main() -> None:
    argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter).parse_args()
    print("| network | parameters | input | loss | seconds a step, 2 samples | outputs after the checkpoint |")
    print("|---|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as folder:
        for name in NETWORKS:
            print(check(name, Path(folder)), flush=True)


if __name__ == "__main__":
    main()
