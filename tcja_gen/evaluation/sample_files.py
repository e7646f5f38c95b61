"""Samples as picture files, one for each seed, written as they are made.

A large job needs the memory of a single batch. It can be stopped at any time: a picture is there whole or not at all,
and the same command makes those that are missing. The hidden file `.samples.json`, written first, tells which weights
and settings make the pictures. Pictures of others are made again; if some would stay, the folder is refused. Recordings
have such a file, too (`recordings`).
"""

import json
import math
import os
import sys
import tempfile
from collections.abc import Container, Iterable, Sequence
from pathlib import Path

import torch
from torch import nn

from .. import __version__, files
from ..data.folders import SAMPLES
from ..errors import UserError
from ..models import store
from ..process import Process
from ..progress import track
from . import pictures
from .generate import BATCH, quantise

PART = ".part-"  # begins the name of the folder where one process writes pictures


def write_samples(
    model: nn.Module, seeds: Sequence[int], folder: Path, process: Process, label: int | None = None
) -> None:
    """Writes the sample of every seed as folder/SEED.png, but for those that are there. Each process makes its share.

    label: the class of all of them, for a conditional model
    """
    missing = process.share(_missing(model, seeds, folder, label) if process.first else None)
    mine = missing[process.rank :: process.world]
    batches = [mine[first : first + BATCH] for first in range(0, len(mine), BATCH)]
    told = pictures.made_by(model, seeds)
    try:
        with tempfile.TemporaryDirectory(prefix=PART, dir=folder, ignore_cleanup_errors=True) as part:
            for batch in track(batches, f"sampling, {BATCH} images at a time" if process.first else None):
                _write(model, batch, folder, Path(part), label, told)
    except KeyboardInterrupt:
        if process.first:
            print(f"{folder}: the same command makes the images that are missing", file=sys.stderr)
        raise


def _missing(model: nn.Module, seeds: Sequence[int], folder: Path, label: int | None) -> list[int]:
    """Seeds whose picture is still to be made, each once."""
    seeds = [*dict.fromkeys(seeds)]
    there = (file for file in folder.glob("*.png") if file.stem.isdecimal())
    wanted = {folder / f"{_name(seed)}.png" for seed in seeds}
    if claim(folder, SAMPLES, facts_of(model) | {"class": label}, there, wanted):
        return seeds
    begun = (folder / SAMPLES).stat().st_mtime_ns
    found = [(entry.name, entry.stat()) for entry in os.scandir(folder)]
    done = {name for name, facts in found if facts.st_mtime_ns >= begun and facts.st_size}  # a power cut empties some
    missing = [seed for seed in seeds if f"{_name(seed)}.png" not in done]
    if len(missing) < len(seeds):
        print(f"{folder}: {len(seeds) - len(missing):,} of {len(seeds):,} images are there", file=sys.stderr)
    return missing


def _write(model: nn.Module, seeds: list[int], folder: Path, part: Path, label: int | None, told: dict) -> None:
    """Writes pictures, of event frames strips, with the text chunks `told`, into the folder `part`, then moves them to
    their place."""
    condition = {} if label is None else {"classes": label}
    with torch.no_grad():
        made = model.sample(seeds, **condition)
    images = quantise(made) / 255 if made.dim() == 4 else pictures.strips(made)
    for image, name in zip(images, map(_name, seeds), strict=True):
        with files.naming(folder / f"{name}.png"):
            pictures.write(pictures.to_bytes(image), part / f"{name}.png", told | {"seeds": name})
            os.replace(part / f"{name}.png", folder / f"{name}.png")


def _name(seed: int) -> str:
    return f"{seed:06d}"


def claim(folder: Path, name: str, facts: dict, there: Iterable[Path], wanted: Container[Path]) -> bool:
    """Whether the files of a folder are to be made anew: its hidden file `name` does not tell these facts. From now on
    it does. UserError if files of what it told would stay beside the new ones, since a folder is scored as a whole.

    facts: all that the files depend on, as JSON. there: all such files. wanted: those that will be made
    """
    told = folder / name
    if _read(told) == facts:
        return False
    since = told.stat().st_mtime_ns if told.exists() else math.inf  # what is older is not what it told of
    if left := [file for file in there if file not in wanted and file.stat().st_mtime_ns >= since]:
        reason = f"{len(left):,} files of another model, or sampled otherwise, would stay beside the new ones"
        raise UserError(f"{folder}: {reason} ({left[0].name}): name another folder, or remove them")
    files.write(told, json.dumps(facts) + "\n")
    return True


def facts_of(model: nn.Module) -> dict:
    """All that samples depend on, apart from their seeds and classes and the kind of machine."""
    sampling = getattr(model.latent, "sampling", {})
    return {"tcja_gen": __version__, "weights": store.weights_hash(model), "sampling": sampling}


def _read(file: Path) -> dict | None:
    try:
        return json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
