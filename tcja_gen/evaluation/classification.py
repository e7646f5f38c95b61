"""Accuracy of a classifier, or of a generator with a head, on images or event recordings.

    accuracy          share of samples whose true class has the largest output, averaged over all T steps
    accuracy-by-step  the same with the average over the first 1 .. T steps

Attention sees all T steps at once. accuracy-by-step therefore reads out the first t outputs of one full pass: it tells
how soon the outputs settle on a class, not what a network would answer that runs for t steps alone.

The record has two more parts: "classes", a row for each class, and "confusion", counts (K, K) with a row for each true
class.
"""

import hashlib
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from ..data import EventSet, ImageSet, found_again, is_events, is_named, is_recording, load
from ..errors import MissingFile, UserError
from .asked_classes import confusion, numbered_as
from .generate import classify
from .protocol import circumstances
from .request import Request
from .summed_frames import cut_by, fold_of


def score(model, metrics: Sequence[str], request: Request) -> dict:
    """The record of accuracy on a split, or on `request.n` samples of it that its seed draws.

    Event recordings are cut into the model's T frames as in its training. UserError, one line, if the data have no
    labels, or labels that the model does not know.
    """
    if request.data is None:
        told = f"{', '.join(metrics)}: no labelled samples to score on"
        raise UserError(f"{told}; name the data set: {request.spell('data')}")
    real, notes = load_for(model, request.data, request.split, request.root, request.download), []
    if real.labels is None:
        raise UserError(f"{real.name}: no labels; accuracy wants a named set with classes, or a folder for each class")
    names = class_names(model)
    labels = numbered_as(real.labels, real.classes, names, real.name, notes)
    chosen = request.draw(len(real))
    outputs, labels = classify(model, real.samples, chosen, request.shows_progress), labels[chosen]  # (n, T, K), (n,)
    by_step = _by_step(outputs, labels)
    values = {"accuracy": by_step[-1], "accuracy-by-step": by_step}
    counts = confusion(labels, outputs.mean(1).argmax(1), model.head.classes)
    protocol = _protocol(model, real, request, len(chosen))
    return dict(
        scores={metric: values[metric] for metric in metrics},
        protocol={metric: protocol for metric in metrics},
        source=dict(model.provenance),
        notes=notes,
        classes=_table(counts, names),
        confusion=counts.tolist(),
    )


def _protocol(model, real: ImageSet | EventSet, request: Request, n: int) -> dict:
    drawn = None if n == len(real) else f"by seed {request.seed}"
    facts = dict(data=real.name, split=request.split, reference=_identity(real), n=n, drawn=drawn)
    facts |= dict(size=list(real.samples.shape[-2:]), channels=real.samples.shape[-3], classes=model.head.classes)
    if fold := fold_of(model, request.data):
        facts["fold"] = list(fold)
    facts |= dict(time_steps=model.time_steps, readout="largest mean output of the first t of T steps")
    return facts | {name: model.provenance.get(name) for name in ("weights", "step")} | circumstances()


def has_head(model) -> bool:
    """Whether a model has a head that predicts classes."""
    return getattr(model, "head", None) is not None


def class_names(model) -> list[str]:
    """K names of classes, from the model's training data; numbers where these have no names."""
    names = model.provenance.get("data", {}).get("classes", ())
    return [*names, *map(str, range(len(names), model.head.classes))]


def own_data(model, root: str | Path = "data", download: bool = False) -> str:
    """The data that the model was trained on: the name of a set, or the path of a folder or zip.

    MissingFile if they are not there, UserError if they are no longer the same samples.
    """
    facts = model.provenance.get("data")
    if not facts:
        raise UserError("this model does not tell what it was trained on: name the data")
    source = facts.get("source", facts["name"])
    found = found_again(source, facts.get("path"))
    if found is None and "plugin" in facts:
        told = f"{source!r}, the data set of this run, is one of {facts['plugin']}"
        raise MissingFile(f"{told}: name the file by --plugin, in Python by tg.load_plugin")
    if found is None:
        raise MissingFile(f"the data of this run, {facts.get('path', source)}, are not there: name them where they are")
    may_differ = not is_named(found) or "plugin" in facts or "given" in facts  # in Python, under a set's name
    if may_differ and load_for(model, found, "train", root, download).fingerprint != facts["fingerprint"]:
        raise UserError(f"{found}: not the samples that this run was trained on; name the data that are meant")
    return found


def load_for(model, data: str | Path, split: str, root: str | Path, download: bool = False) -> ImageSet | EventSet:
    """A split, brought to the model's size, channels and T."""
    height, width = model.image_size, model.image_width
    if is_recording(data):
        raise UserError(f"{data}: one recording; a folder of them is wanted (tcja-gen predict takes single ones)")
    events = is_events(data)
    if events != (model.image_channels == 2):
        kinds = ("images", "event recordings")
        raise UserError(f"{data}: {kinds[events]}, the model was trained on {kinds[not events]}; name a set of those")
    if not events and height != width:
        raise UserError(f"{data}: images are made square, the model wants {height} x {width} pixels")
    size, fold = (height, width) if events else height, fold_of(model, data)
    shape = {"size": size, "channels": model.image_channels, "time_steps": model.time_steps, "by": cut_by(model)}
    return load(data, split, **shape, root=root, download=download, fold=fold)


def _by_step(outputs: Tensor, labels: Tensor) -> list[float]:
    """Accuracy of the mean over the first 1 .. T steps, of outputs (N, T, K)."""
    means = [outputs[:, : t + 1].mean(1) for t in range(outputs.shape[1])]
    return [int((mean.argmax(1) == labels).sum()) / len(labels) for mean in means]


def _table(confusion: Tensor, names: list[str]) -> list[dict]:
    """A row for each class: count, recall and precision. Recall is None if no sample has the class, precision if none
    is predicted to have it."""
    rows = zip(names, confusion.sum(1).tolist(), confusion.sum(0).tolist(), confusion.diag().tolist(), strict=True)
    return [
        {"class": name, "count": count, "recall": _share(right, count), "precision": _share(right, predicted)}
        for name, count, predicted, right in rows
    ]


def _share(part: int, whole: int) -> float | None:
    return part / whole if whole else None


def _identity(real: ImageSet | EventSet) -> str:
    """Fingerprint of the samples. That of recordings is of the events in each pixel, which do not depend on T."""
    if isinstance(real, ImageSet):
        return real.fingerprint
    digest = hashlib.sha256(repr(tuple(real.frames.shape[-2:])).encode())
    for recording in real.frames:
        digest.update(recording.sum(0, dtype=torch.int32).numpy())
    digest.update(real.labels.contiguous().numpy())
    return digest.hexdigest()
