"""Checkpoints of a run: immutable facts, whole or not there.

    checkpoints/step-000500/model.safetensors   weights to use (moving average) and their scores, see `models.store`
                            state.pt            raw weights, optimiser, schedule, moving average; `weights_only=True`

There is no random state to keep: every draw of a step follows from (seed, step). A step's folder is written under
another name, flushed to the disk, renamed, and never written again; only then are older ones removed. So a process
killed at any moment, a power cut or a full disk leaves the checkpoints before as they were. The folders are all there
is to know: the last checkpoint is the newest whole one, and the best follows from the scores in them.
"""

import io
import os
import pickle
import shutil
import sys
import zipfile
from pathlib import Path

import torch
from torch import nn

from .. import files
from ..errors import UserError
from ..models import store

FORMAT = 2
STATE = "state.pt"


def write(folder: Path, step: int, model: nn.Module, settings: dict, provenance: dict, state: dict) -> None:
    """A checkpoint of `step`. `state` holds tensors, numbers, strings, lists, dicts only.

    UserError, one line, if it cannot be written (a full disk, a folder that is read-only); nothing is left of it then.
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
        kept = store.steps(folder)
        before = f"{kept[-1].name} is whole" if kept else "there is none before it"
        advice = f"once that is mended, go on with: tcja-gen train --resume {folder}"
        raise UserError(f"{path}: not written ({error.strerror or error}); {before}; {advice}") from None
    finally:
        shutil.rmtree(part, ignore_errors=True)


def read(folder: Path) -> dict | None:
    """Training state of a run's newest whole checkpoint, None if it had not come to one.

    A note on stderr names what is damaged and passed over. UserError, one line, if no checkpoint is whole, or one is of
    another format, or holds code, which is not run.
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
    """What of a checkpoint is cut short, missing or altered; nothing if it is whole."""
    if store.metadata(path / store.WEIGHTS) is None:
        return f"{store.WEIGHTS} is missing or damaged"
    if not (path / STATE).is_file():
        return f"{STATE} is missing"
    with (path / STATE).open("rb") as file:
        start = file.read(4)
    if start.strip(b"\0") and not b"PK\x03\x04".startswith(start):
        return ""  # another thing altogether, which `_state` refuses
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
        found = state.get("format", "unknown") if isinstance(state, dict) else "unknown"
        raise UserError(f"{path}: training state of format {found}, this version reads format {FORMAT}")
    return state


def forget_after(folder: Path, step: int) -> None:
    """Removes checkpoints after `step`, from which a run goes on: they are damaged, or it would not."""
    for path in store.steps(folder):
        if store.step_of(path) > step:
            _remove(path)


def prune(folder: Path, keep_every: int, keep_last: int = 2) -> None:
    """Removes checkpoints but the last ones, the best, and multiples of `keep_every` steps; and half-written ones."""
    for part in (folder / "checkpoints").glob("step-*.part"):
        shutil.rmtree(part, ignore_errors=True)
    best = store.find(folder, "best").parent
    for path in store.steps(folder)[:-keep_last]:
        if path != best and not (keep_every and store.step_of(path) % keep_every == 0):
            _remove(path)


def _remove(path: Path) -> None:
    """Under another name first: what is removed by half is no checkpoint."""
    gone = path.with_suffix(".part")
    shutil.rmtree(gone, ignore_errors=True)
    os.rename(path, gone)
    shutil.rmtree(gone, ignore_errors=True)
