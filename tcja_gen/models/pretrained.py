"""Trained models that come with the package, by name (`shipped.weights`)."""

from pathlib import Path

import torch
from torch import nn

from ..errors import MissingFile
from ..shipped import no_such_model, weights


def find(name: str) -> Path:
    """File of a model's weights. MissingFile that names those there are."""
    if name not in weights():
        raise MissingFile(no_such_model(name))
    return weights()[name]


def pretrained(name: str, device: torch.device | str = "cpu") -> nn.Module:
    """The trained model of this name, in evaluation mode: pretrained("mnist").sample(seeds=range(64))."""
    from .store import load

    return load(find(name), device)
