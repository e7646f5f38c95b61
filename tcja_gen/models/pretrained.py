"""Trained models that come with the package, `tcja_gen/weights/NAME.safetensors`.

`weights/NAME.md` tells how each was made, and what it is worth.
"""

from pathlib import Path

import torch
from torch import nn

from ..errors import MissingFile

WEIGHTS = Path(__file__).parents[1] / "weights"


def names() -> list[str]:
    return sorted(file.stem for file in WEIGHTS.glob("*.safetensors"))


def find(name: str) -> Path:
    """File of a model's weights. MissingFile that names those there are."""
    if name not in names():
        known = ", ".join(names())
        raise MissingFile(
            f"{name}: no such run or checkpoint, and no pretrained model of this name; there are: {known}"
        )
    return WEIGHTS / f"{name}.safetensors"


def pretrained(name: str, device: torch.device | str = "cpu") -> nn.Module:
    """The trained model of this name, in evaluation mode: pretrained("mnist").sample(seeds=range(64))."""
    from .store import load

    return load(find(name), device)
