"""A report of runs as text."""

from pathlib import Path

import torch

from ..errors import UserError
from ..evaluation.protocol import read_record
from ..models import load, store
from ..models.overview import parameter_count, parts
from ..training.runs import statistics
from .figures import NO_LOSSES
from .history import deviations


def describe(run: str | Path) -> str:
    """Settings, size, last statistics and scores of a run, as text; of a run with stages, of each of them."""
    stages = [stage for stage in store.stages(Path(run)) if store.steps(stage)]
    return "\n\n".join(map(_describe, stages or [run]))


def _describe(folder: str | Path) -> str:
    model, records = load(folder), statistics(folder)
    run = model.provenance
    sides = f"{model.image_size} x {model.image_width}"
    lines = [
        f"run        {folder}: step {run['step']}, {run['weights']} weights, seed {run['seed']}",
        f"data       {run['data']['name']}, {run['data']['images']:,} training samples, "
        f"{model.image_channels} x {sides}",
        f"model      {size(model)}",
    ]
    training = [r for r in records if "loss" in r]
    if training:
        last = training[-1]
        losses = ", ".join(f"{name} {value:.4f}" for name, value in last.items() if name not in NO_LOSSES)
        lines.append(f"training   {losses}, {last['images_per_second']:.0f} samples/s")
        lines += [
            f"firing     {name:<28} rate {rate:.3f}  dead {dead:.1%}"
            for name, (rate, dead) in last.get("layers", {}).items()
        ]
    if "validation" in run:
        lines.append("validation " + ", ".join(f"{name} {value:.4f}" for name, value in run["validation"].items()))
    for path in sorted(Path(folder).glob("scores/*/*.json")):
        try:
            record = read_record(path)
            scores = ", ".join(f"{name} {short(value)}" for name, value in record["scores"].items())
            how = next(filter(None, (deviations(record, name, model) for name in record["scores"])), "")
            scores += f" (sampled by {how})" if how else ""
        except UserError as error:
            scores = str(error)
        lines.append(f"scores     {path.parent.name} {path.stem}: {scores}")
    return "\n".join(lines)


def size(model: torch.nn.Module) -> str:
    """Class, T, and numbers of parameters of a model and its parts."""
    counts = ", ".join(f"{name} {parameter_count(part):,}" for name, part in parts(model).items())
    return f"{type(model).__name__}, T = {model.time_steps}, {parameter_count(model):,} parameters: {counts}"


def short(score: float | list[float]) -> str:
    return " ".join(f"{value:.4g}" for value in score) if isinstance(score, list) else f"{score:.4g}"
