"""Trained generators that come with the package: `assets/*.safetensors` of the source, share/tcja_gen once installed.

How each was made, and what it is worth, is told beside it: `assets/NAME.md`.
"""

import site
import sysconfig
from pathlib import Path

import torch

from ..errors import UserError
from .store import load
from .vae import SpikingVAE


def folders() -> list[Path]:
    """Where weights may be: beside the package's source, or where `pip install` puts data."""
    roots = (sysconfig.get_path("data"), site.getuserbase())
    return [Path(__file__).parents[2] / "assets", *(Path(root) / "share" / "tcja_gen" for root in roots)]


def find_pretrained(name: str) -> Path:
    """File of the weights by name. ValueError that names those there are."""
    found = {file.stem: file for folder in reversed(folders()) for file in sorted(folder.glob("*.safetensors"))}
    if name not in found:
        raise UserError(f"no trained generator {name!r} comes with the package; there are: {', '.join(sorted(found))}")
    return found[name]


def pretrained(name: str, device: torch.device | str = "cpu") -> SpikingVAE:
    """The trained generator of this name, in evaluation mode: pretrained("mnist").sample(seeds=range(64))."""
    return load(find_pretrained(name), device)
