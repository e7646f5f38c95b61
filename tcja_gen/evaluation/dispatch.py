"""The door to all scores: which metrics a thing takes, and who computes them."""

import os
from collections.abc import Sequence
from pathlib import Path

import torch
import torch.distributed as dist

from ..errors import UserError
from . import classification, scores


def evaluate(
    model_or_images,
    data: str | Path | None,
    metrics: Sequence[str] = (),
    *,
    n: int | None = None,
    repeats: int | None = None,
    split: str = "test",
    reference: str | Path | None = None,
    autoencoder: str | Path | None = None,
    classifier: str | Path | None = None,
    inception: str | Path | None = None,
    torchvision: str | Path | None = None,
    resize: str | None = None,
    is_splits: int | None = None,
    size: int | None = None,
    channels: int | None = None,
    root: str | Path = "data",
    download: bool = False,
    seed: int = 0,
    batch: int = 256,
    device: str | torch.device = "cpu",
    progress: bool = False,
) -> dict:
    """Score a model or images against `data`; a JSON-ready record of scores, protocols, source and notes.

    data: a set, or None where `reference` is a file that has all that the metrics want

    model_or_images: a classifier; a generator, with `sample` and `reconstruct`; images `(N, C, H, W)`, uint8 or float
        in [0, 1]; or the path of a folder or zip of images
    metrics: some of `scores.METRICS` for images and what makes them, of `classification.METRICS` for what names
        classes; none: fad and accuracy, where they apply; ["all"]: all that apply, leaving out with a note those whose
        weights (Inception), labels or number of images are not there
    n: images to score: seeds seed .. seed + n - 1 of a model, its reconstructions of n of the split, or n
        of the given images, at random if there are more; None: `scores.NUMBER`. Of accuracy: samples of the split,
        drawn by `seed`; None: all

    For images alone, and refused where none are scored:

    repeats: sets of n seeds one after another, by each of which a model is scored: mean and standard deviation
    reference: an .npz that `reference` wrote, or of mu and sigma; None: of the split, computed once and cached
    autoencoder, classifier: a file, FSVAE's or ours; None takes that in the reference, or trains one, once and cached
    inception, torchvision: a file of weights; None looks where `metrics.Published.find` does
    resize: to Inception's size, clean (None), tf1 or torch, as `metrics.inception` explains
    is_splits: parts whose mean IS is; None: 10
    size, channels: of the data's images; None takes those of the model or of the images

    download: fetch a named data set, and the weights of Inception, that are wanted and not there
    batch, progress: images made by a call of the model; bars on stderr. Neither changes a score
    device: where an autoencoder is trained; a model stays where it is, and scores are computed on the CPU

    ValueError or FileNotFoundError in one line for a mistake in any of these.
    """
    makes_images = not hasattr(model_or_images, "provenance") or hasattr(model_or_images, "sample")
    takes = {scores: makes_images, classification: classification.names_classes(model_or_images)}
    metrics, everything = metrics or [room.METRICS[0] for room in takes if takes[room]], list(metrics) == ["all"]
    if everything:
        metrics = [metric for room in takes if takes[room] for metric in room.METRICS]
    _check(metrics, takes, model_or_images)
    wanted = {room: [metric for metric in metrics if metric in room.METRICS] for room in takes}
    of_images = dict(reference=reference, autoencoder=autoencoder, classifier=classifier, inception=inception)
    of_images |= dict(torchvision=torchvision, resize=resize, is_splits=is_splits, size=size, channels=channels)
    of_images |= dict(repeats=repeats)
    if data is not None and not isinstance(data, str | os.PathLike):
        raise UserError(f"data are a {type(data).__name__}; a set's name, or the path of a folder or zip, is wanted")
    if n is not None and n < 1:
        raise UserError(f"n is {n}; at least one sample is to be scored")
    if not wanted[scores]:
        _check_unused(metrics, of_images, seed if n is None else 0)

    progress = progress and not (dist.is_initialized() and dist.get_rank())
    given = dict(split=split, root=root, download=download, seed=seed, progress=progress)
    record: dict = {"scores": {}, "protocol": {}, "source": {}, "notes": []}
    if wanted[classification]:
        record = classification.score(model_or_images, data, wanted[classification], n=n, **given)
    if wanted[scores]:
        given |= of_images | dict(n=n or scores.NUMBER, batch=batch, device=device, optional=everything)
        record = _joined(record, scores.score(model_or_images, data, wanted[scores], **given))
    found = [metric for metric in metrics if metric in record["scores"]]
    return record | {part: {metric: record[part][metric] for metric in found} for part in ("scores", "protocol")}


def _check(metrics: Sequence[str], takes: dict, thing) -> None:
    """ValueError for a metric that is unknown, or that the thing cannot be scored by."""
    known = [metric for room in takes for metric in room.METRICS] + ["all"]
    if isinstance(metrics, str):
        raise UserError(f"metrics is {metrics!r}; wanted a list with some of {', '.join(known)}")
    if unknown := [metric for metric in metrics if metric not in known]:
        raise UserError(f"unknown metric {', '.join(unknown)}; known are {', '.join(known)}")
    for room, taken in takes.items():
        if not taken and (useless := [metric for metric in metrics if metric in room.METRICS]):
            raise UserError(f"{', '.join(useless)}: {_why_not(room, thing)}")


def _check_unused(metrics: Sequence[str], of_images: dict, seed: int) -> None:
    """ValueError for what is given and plays no part where no images are scored."""
    if unused := [name for name, value in of_images.items() if value is not None]:
        raise UserError(f"{', '.join(metrics)} takes no {' or '.join(unused)}: leave it out")
    if seed:
        raise UserError(f"seed {seed} draws nothing where all samples are scored: give n, too, or leave it out")


def _why_not(room, thing) -> str:
    if room is scores:
        return f"a classifier makes no images; it takes {', '.join(classification.METRICS)}"
    if hasattr(thing, "sample"):
        return "this generator names no classes; one trained with model.head does"
    return "images name no classes; a classifier is wanted"


def _joined(a: dict, b: dict) -> dict:
    """One record of two of the same thing."""
    both = {name: a[name] | b[name] for name in ("scores", "protocol", "source")}
    return a | b | both | {"notes": [*a["notes"], *b["notes"]]}
