"""Checkpoints of a run: whole, safe to load, and never half-written under their own name.

    checkpoints/step-000500/model.safetensors   weights to use (moving average), see `models.store`
                            state.pt            raw weights, optimiser, schedule, moving average; `weights_only=True`
    checkpoints/last  checkpoints/best          one line of text: the name of a step's folder

There is no random state to keep: every draw of a step follows from (seed, step). A step's folder is written under
another name, then renamed, then pointed to; a process killed at any moment leaves the last whole checkpoint in charge.
"""

import os
import pickle
import shutil
from pathlib import Path

import torch
from torch import nn

from ..errors import MissingFile, UserError
from ..models import store

FORMAT = 2


def write(folder: Path, step: int, model: nn.Module, settings: dict, provenance: dict, state: dict) -> Path:
    """A checkpoint of `step`, and "last" pointing to it. `state` holds tensors, numbers, strings, lists, dicts only."""
    path = folder / "checkpoints" / f"step-{step:06d}"
    part = path.with_suffix(".part")
    for old in (part, path):
        shutil.rmtree(old, ignore_errors=True)
    part.mkdir(parents=True)
    store.save(part / "model.safetensors", model, settings, provenance)
    torch.save({"format": FORMAT, "step": step, **state}, part / "state.pt")
    os.rename(part, path)
    point(folder, "last", path.name)
    return path


def point(folder: Path, name: str, target: str) -> None:
    part = folder / "checkpoints" / f"{name}.part"
    part.write_text(target + "\n")
    os.replace(part, folder / "checkpoints" / name)


def read(folder: Path) -> dict:
    """Training state of a run's last checkpoint. ValueError or FileNotFoundError, one line, if it cannot be had."""
    path = store.find(folder).parent / "state.pt"
    if not path.exists():
        raise MissingFile(f"{path}: missing; the checkpoint can be sampled but not resumed")
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError) as error:
        reason = str(error).strip().splitlines()[0]
        raise UserError(f"{path}: not a training state, or one with code in it; nothing was run ({reason})") from None
    if not isinstance(state, dict) or state.get("format") != FORMAT:
        found = state.get("format", "unknown") if isinstance(state, dict) else "unknown"
        raise UserError(f"{path}: training state of format {found}, this version reads format {FORMAT}")
    return state


def prune(folder: Path, keep_every: int, keep_last: int = 2) -> None:
    """Deletes checkpoints but the last ones, the best, and multiples of `keep_every` steps; and half-written ones."""
    checkpoints = folder / "checkpoints"
    for part in checkpoints.glob("step-*.part"):
        shutil.rmtree(part, ignore_errors=True)
    steps = sorted(checkpoints.glob("step-*"))
    best = (checkpoints / "best").read_text().strip() if (checkpoints / "best").exists() else ""
    for path in steps[:-keep_last]:
        step = int(path.name.removeprefix("step-"))
        if path.name != best and not (keep_every and step % keep_every == 0):
            shutil.rmtree(path, ignore_errors=True)
