"""Recognition: the share of a conditional generator's samples that a classifier takes for the class asked for.

    recognition         of images, or of event frames as the generator gives them, expected counts
    recognition-events  of the counts of events drawn from these frames (`recordings`), as a recording has them

The classifier is a run of one's own (`recogniser`), trained on real samples of the same kind. Seed i is asked for class
i mod K.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from ..errors import UserError
from ..models import load, store
from .classification import class_names, has_head
from .generate import BATCH, classify
from .metric_names import METRICS
from .recordings import drawn_counts
from .request import Request
from .results import Result
from .subjects import Subject
from .summed_frames import cut_by


def recognised(subject: Subject, names: Sequence[str], request: Request, notes: list[str]) -> dict[str, Result]:
    """Results, by metric, of a generator's samples."""
    recogniser, samples = _recogniser(subject.model, request), subject.made
    facts = dict(n=len(samples), extractor_hash=store.weights_hash(recogniser), extractor="recogniser")
    labels, results = subject.labels_as(class_names(recogniser), notes), {}
    for name in names:
        seen = _drawn(samples, subject.seeds) if METRICS[name].measure == "recognition-events" else samples
        found = classify(recogniser, seen, progress=request.shows_progress).mean(1).argmax(1)
        results[name] = Result.of(int((found == labels).sum()) / len(samples), facts)
    return results


def _drawn(frames: Tensor, seeds: Sequence[int]) -> Tensor:
    """`drawn_counts`, int32. A part at a time, as the draw takes many times the memory of its result."""
    parts = zip(frames.split(BATCH), (seeds[i : i + BATCH] for i in range(0, len(seeds), BATCH)), strict=True)
    return torch.cat([drawn_counts(part, of).int() for part, of in parts])


def check_recogniser(model, request: Request) -> str:
    """Why recognition cannot be computed, in a line; "" if it can be."""
    if not getattr(model, "classes", 0):
        return "only a generator that was trained with classes is asked for one (model.latent.conditional)"
    if request.recogniser is None:
        return f"the run of a classifier of the same data is wanted: {request.spell('recogniser')}"
    return ""


def _recogniser(model, request: Request):
    """The classifier. UserError if it was made for other samples or classes than the generator's."""
    recogniser = load(request.recogniser, next(model.parameters()).device)
    if not has_head(recogniser):
        raise UserError(f"{request.recogniser}: it names no classes; the run of a classifier is wanted")
    theirs, ours = _wants(recogniser), _wants(model)
    if theirs != ours:
        found = ", ".join(f"{name} {theirs[name]} and not {ours[name]}" for name in ours if theirs[name] != ours[name])
        raise UserError(f"{request.recogniser}: trained on other samples than the generator: {found}")
    if (known := class_names(recogniser)) and len(known) != model.classes:
        raise UserError(f"{request.recogniser}: it names {len(known)} classes, the generator has {model.classes}")
    return recogniser


def _wants(model) -> dict:
    """What samples must be like."""
    facts = {"size": (model.image_size, model.image_width), "channels": model.image_channels}
    if model.image_channels != 2:
        return facts
    return facts | {"time_steps": model.time_steps, "frames by": cut_by(model)}
