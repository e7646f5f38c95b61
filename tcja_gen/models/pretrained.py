"""Trained models that ship with the package, by name (`shipped.weights`)."""

from pathlib import Path

import torch
from torch import nn

from ..errors import MissingFile
from ..shipped import no_such_model, weights


def find(name: str) -> Path:
    """The file of a pretrained model. MissingFile, which lists the known names, for any other name."""
    if name not in weights():
        raise MissingFile(no_such_model(name))
    return weights()[name]


def pretrained(name: str, device: torch.device | str = "cpu") -> nn.Module:
    """The pretrained model of this name, in evaluation mode: pretrained("mnist").sample(seeds=range(64)). MissingFile,
    which lists the known names, for any other name."""
    from .store import load

    return load(find(name), device)
