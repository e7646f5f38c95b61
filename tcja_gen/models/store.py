"""Models on disk: one safetensors file that rebuilds itself, without unpickling anything.

Metadata: `format` (version of this layout), `kind` (generator or classifier), `model` (arguments of the model, JSON),
`provenance` (facts of the run, JSON). `find` also takes a run folder, whose `checkpoints/last` and `checkpoints/best`
name a checkpoint in one line.
"""

import json
import os
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import nn

from ..errors import MissingFile, UserError
from ..nn import fuse
from ..process import neuron_path
from .classifier import SpikingClassifier
from .vae import SpikingVAE

FORMAT = "1"
KINDS = {model.kind: model for model in (SpikingVAE, SpikingClassifier)}


def save(path: str | Path, model: nn.Module, settings: dict, provenance: dict) -> None:
    """Weights of `model`, built with `settings`; written under another name first, then renamed."""
    path = Path(path)
    tensors = {name: t.detach().cpu().contiguous() for name, t in model.state_dict().items()}
    metadata = {
        "format": FORMAT,
        "kind": model.kind,
        "model": json.dumps(settings),
        "provenance": json.dumps(provenance),
    }
    part = path.with_suffix(".part")
    save_file(tensors, part, metadata)
    os.replace(part, path)


def load(run_or_file: str | Path, device: torch.device | str = "cpu", which: str = "last") -> nn.Module:
    """Model of a run folder, a checkpoint folder or a .safetensors file, in evaluation mode.

    `which`: "last" or "best" (lowest loss on validation images) of a run folder. FileNotFoundError or ValueError, one
    line, if there is no such file, or it is not of this format.
    """
    path = find(run_or_file, which)
    try:
        with safe_open(path, "pt") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}
    except SafetensorError as error:
        raise UserError(f"{path}: not a safetensors file, or a damaged one ({error}); nothing was loaded") from None
    if metadata.get("format") != FORMAT:
        raise UserError(
            f"{path}: checkpoint of format {metadata.get('format', 'unknown')}, this version reads format {FORMAT}"
        )
    try:
        model = KINDS[metadata.get("kind", "generator")](**json.loads(metadata["model"]))
        provenance = json.loads(metadata["provenance"])
    except (KeyError, TypeError, UserError, json.JSONDecodeError) as error:
        raise UserError(f"{path}: this version cannot build a model of its settings: {error}") from None
    try:
        model.load_state_dict(tensors)
    except RuntimeError as error:
        first = str(error).splitlines()[1].strip()
        raise UserError(f"{path}: its weights do not fit its own settings: {first}") from None
    model.provenance = provenance
    model, device = model.to(device).eval(), torch.device(device)
    return fuse(model, neuron_path(device)[0])


def find(run_or_file: str | Path, which: str = "last") -> Path:
    """The model.safetensors of a run folder, a checkpoint folder, or the file itself."""
    path = Path(run_or_file)
    if not path.exists():
        raise MissingFile(f"{path}: no such run or checkpoint; a run folder or a .safetensors file is wanted")
    if path.is_file():
        return path
    if (path / "model.safetensors").is_file():
        return path / "model.safetensors"
    pointer = path / "checkpoints" / which
    if not pointer.is_file():
        raise MissingFile(f"{path}: no checkpoint in this folder (checkpoints/{which} is missing)")
    return path / "checkpoints" / pointer.read_text().strip() / "model.safetensors"
