"""Checkpoints of a run. A checkpoint is complete or does not exist, and it never changes.

    checkpoints/step-000500/model.safetensors   weights to use (moving average) and their scores, see `models.store`
                            state.pt            raw weights, optimiser, schedule, moving average; `weights_only=True`

No random state is stored, since every random number of a step follows from (seed, step). The folder of a step is
written under another name, flushed to the disk, and renamed. Only then are older ones removed. So a killed process, a
power cut or a full disk leaves the earlier checkpoints as they were. There is no index: the last checkpoint is the
newest whole one, and the best one follows from the scores in the files.
"""

import io
import os
import pickle
import shutil
import sys
import zipfile
from pathlib import Path
from shlex import quote

import torch
from torch import nn

from .. import files
from ..errors import UserError
from ..models import store

FORMAT = 2
STATE = "state.pt"


def write(folder: Path, step: int, model: nn.Module, settings: dict, provenance: dict, state: dict) -> None:
    """Writes the checkpoint of a step. state: only tensors, numbers, strings, lists and dicts.

    UserError if it cannot be written (a full disk, a read-only folder); then nothing of it is left.
    """
    path = folder / "checkpoints" / f"step-{step:06d}"
    part = path.with_suffix(".part")
    content = io.BytesIO()
    torch.save({"format": FORMAT, "step": step, **state}, content)
    try:
        shutil.rmtree(part, ignore_errors=True)
        store.save(part / store.WEIGHTS, model, settings, provenance)
        files.write(part / STATE, content.getbuffer())
        os.rename(part, path)
        files.flush(path.parent)
    except OSError as error:
        earlier = store.steps(folder)
        before = f"{earlier[-1].name} is whole" if earlier else "there is none before it"
        run = folder.parent if "stage" in provenance else folder
        advice = f"once that is fixed, go on with: tcja-gen train --resume {quote(str(run))}"
        raise UserError(f"{path}: not written ({error.strerror or error}); {before}; {advice}") from None
    finally:
        shutil.rmtree(part, ignore_errors=True)


def read(folder: Path) -> dict | None:
    """The training state of a run's newest whole checkpoint; None if the run has written none.

    Damaged checkpoints are passed over, with a note on stderr. UserError if none is whole, or if one has another format
    or contains code, which is not run.
    """
    steps = store.steps(folder)
    for path in reversed(steps):
        if damage := _damage(path):
            print(f"note: {path}: {damage}; it does not count", file=sys.stderr)
        else:
            return _state(path / STATE)
    if steps:
        raise UserError(f"{folder}: none of its {len(steps)} checkpoints is whole; it cannot be resumed")
    return None


def _damage(path: Path) -> str:
    """What is missing, cut short or damaged in a checkpoint; "" if it is whole."""
    if store.metadata(path / store.WEIGHTS) is None:
        return f"{store.WEIGHTS} is missing or damaged"
    if not (path / STATE).is_file():
        return f"{STATE} is missing"
    with (path / STATE).open("rb") as file:
        start = file.read(4)
    if start.strip(b"\0") and not b"PK\x03\x04".startswith(start):
        return ""  # not a damaged zip file but another format, which `_state` refuses
    try:
        with zipfile.ZipFile(path / STATE) as archive:
            altered = archive.testzip()
    except (zipfile.BadZipFile, EOFError):
        return f"{STATE} is cut short"
    return f"{STATE} is damaged" if altered else ""


def _state(path: Path) -> dict:
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError) as error:
        reason = str(error).strip().splitlines()[0]
        raise UserError(f"{path}: not a training state, or one with code in it; nothing was run ({reason})") from None
    if not isinstance(state, dict) or state.get("format") != FORMAT:
        version = state.get("format", "unknown") if isinstance(state, dict) else "unknown"
        raise UserError(f"{path}: training state of format {version}, this version reads format {FORMAT}")
    return state


def forget_after(folder: Path, step: int) -> None:
    """Removes the checkpoints after `step`, the one that a run resumes from. They are damaged."""
    for path in store.steps(folder):
        if store.step_of(path) > step:
            _remove(path)


def prune(folder: Path, keep_every: int, keep_last: int = 2) -> None:
    """Removes old and half-written checkpoints. The last `keep_last`, the best one, and multiples of `keep_every` steps
    stay."""
    for part in (folder / "checkpoints").glob("step-*.part"):
        shutil.rmtree(part, ignore_errors=True)
    best = store.find(folder, "best").parent
    for path in store.steps(folder)[:-keep_last]:
        if path != best and not (keep_every and store.step_of(path) % keep_every == 0):
            _remove(path)


def _remove(path: Path) -> None:
    """Removes a checkpoint. It is renamed first, so that a half-removed one does not count."""
    part = path.with_suffix(".part")
    shutil.rmtree(part, ignore_errors=True)
    os.rename(path, part)
    shutil.rmtree(part, ignore_errors=True)
