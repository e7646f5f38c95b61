"""What each score says of MNIST images that are spoilt in a known way; the table of `metric-sanity` in README.md.

    python experiments/metric_sanity.py DATA_ROOT [--n 5120] [--autoencoder mnist_64.pth] [--inception FILE]

Every row is n images against the test split at 32 x 32: real training images first (the floor), then the same images
spoilt. A score is worth believing for a fault that moves it away from its floor, in the direction that its head tells.
Networks that are not named are trained once and kept. About three minutes on one core, without Inception.
"""

import argparse

import torch
from script import run
from torch import Tensor

from tcja_gen.data import ImageSet, load_images
from tcja_gen.evaluation import evaluate
from tcja_gen.metrics import INCEPTION

LOWER, HIGHER = ("fad", "fad-official", "fid", "kid"), ("is", "precision", "recall", "density", "coverage")


def spoilt(train: ImageSet, n: int, seed: int = 0) -> dict[str, Tensor]:
    """Sets of n uint8 images by what was done to training images."""
    generator = torch.Generator().manual_seed(seed)
    order = torch.randperm(len(train), generator=generator)
    few = order[train.labels[order] < 5]
    real = train.images[order[:n]]
    noise = torch.randn(real.shape, generator=generator) * 0.3 * 255
    return {
        "real, training split": real,
        "blurred (5 x 5 binomial)": _blurred(real),
        "noisy (sigma 0.3)": (real + noise).clamp(0, 255).round().to(torch.uint8),
        "half contrast (towards mid-grey)": (real * 0.5 + 64).round().to(torch.uint8),
        "half as bright": real // 2,
        "classes 0 to 4 only": train.images[few[:n]],
        "64 images repeated": train.images[order[:64]].repeat(-(-n // 64), 1, 1, 1)[:n],
        "uniform noise": torch.randint(256, real.shape, dtype=torch.uint8, generator=generator),
    }


def _blurred(images: Tensor) -> Tensor:
    row = torch.tensor([1.0, 4.0, 6.0, 4.0, 1.0]) / 16
    kernel = (row[:, None] * row)[None, None]
    return torch.nn.functional.conv2d(images.float(), kernel, padding=2).round().to(torch.uint8)


def columns(inception: bool) -> list[str]:
    """Metrics to show: those of the autoencoder and the classifier, and of Inception if its weights are there."""
    endings = ["-classifier", *([""] if inception else [])]
    of_networks = [f"{name}{end}" for end in endings for name in ("fid", "kid", *HIGHER, "memorisation")]
    return ["fad", "fad-official", *of_networks]


def head(metric: str) -> str:
    name = metric.removesuffix("-classifier")
    return f"{metric} {'↓' if name in LOWER else '↑' if name in HIGHER else '→ 1'}"


def main() -> None:
    asked = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    asked.add_argument("data_root")
    asked.add_argument("--n", type=int, default=5120)
    asked.add_argument("--autoencoder")
    asked.add_argument("--inception")
    asked = asked.parse_args()
    try:
        inception = bool(INCEPTION.find(asked.inception))
    except FileNotFoundError:
        inception = False
    metrics = columns(inception)
    how = dict(n=asked.n, size=32, root=asked.data_root, autoencoder=asked.autoencoder, inception=asked.inception)
    train = load_images("mnist", "train", size=32, root=asked.data_root)
    print(f"| images | {' | '.join(map(head, metrics))} |\n|---|{'---|' * len(metrics)}")
    for name, images in spoilt(train, asked.n).items():
        scores = evaluate(images, "mnist", metrics, progress=True, **how)["scores"]
        print(f"| {name} | {' | '.join(f'{scores[metric]:.3g}' for metric in metrics)} |", flush=True)


if __name__ == "__main__":
    run(main)
