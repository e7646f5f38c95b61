"""Event frames as images, for scores of images: the events of all T frames and both polarities, summed.

    pixel = min(sum / (T full_count), 1)

A pixel is white if each frame has a full pixel of one polarity.
"""

import os
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path

import torch
from torch import Tensor

from ..data import EventSet, ImageSet, is_named, load_events
from ..errors import UserError
from .generate import BATCH


def cut_by(model) -> str:
    """How the recordings that a model was trained on were cut into frames."""
    return model.provenance.get("data", {}).get("by", "number")


def fold_of(model, data: str | Path | None) -> tuple[int, int] | None:
    """The fold that validated in a model's training and how many there were, if `data` are what it was trained on;
    other data have no such folds. None if it was trained on a set's own splits."""
    facts = model.provenance.get("data", {})
    if "fold" not in facts or data is None:
        return None
    fold = tuple(facts["fold"])
    if is_named(data):
        return fold if str(data) == facts.get("source", facts["name"]) else None
    if "path" in facts and os.path.realpath(data) == os.path.realpath(facts["path"]):
        return fold
    # a copy of the model does not tell the place, and the recordings may have been moved
    cut = (model.time_steps, cut_by(model), (model.image_size, model.image_width))
    return fold if _fingerprint(os.path.realpath(data), *cut, fold) == facts["fingerprint"] else None


@cache
def _fingerprint(folder: str, time_steps: int, by: str, size: tuple[int, int], fold: tuple[int, int]) -> str | None:
    """That of the fold's training recordings; None if there are none."""
    try:
        return load_events(folder, "train", time_steps=time_steps, by=by, size=size, fold=fold).fingerprint
    except (UserError, OSError):
        return None


@dataclass(frozen=True)
class SummedFrames:
    """How the frames of a generator are made and summed."""

    time_steps: int
    by: str
    size: int
    full_count: int
    fold_of: Callable[..., tuple[int, int] | None]  # of data, see above

    @classmethod
    def of(cls, model) -> "SummedFrames | None":
        """None for a generator of images."""
        if not getattr(model, "full_count", 0):
            return None
        return cls(model.time_steps, cut_by(model), model.image_size, model.full_count, partial(fold_of, model))

    def images(self, counts: Tensor) -> Tensor:
        """Counts (N, T, 2, H, W), which may be a mapped file, -> images (N, 1, H, W), float in [0, 1]."""
        sums = torch.cat([part.sum((1, 2), dtype=torch.float32) for part in counts.split(BATCH)])
        return (sums[:, None] / (self.time_steps * self.full_count)).clamp(max=1)

    def image_set(self, events: EventSet) -> "SummedSet":
        pixels = (self.images(events.frames) * 255).round().to(torch.uint8)
        return SummedSet(pixels, events.labels, events.name, events.split, events.classes, events=events)

    def facts(self) -> dict:
        """Fields of the protocol."""
        white = self.time_steps * self.full_count
        return {"frames": f"{self.time_steps} by {self.by}, summed, white at {white} events"}


@dataclass(frozen=True, eq=False)
class SummedSet(ImageSet):
    """Images of a split, and the recordings that they are sums of."""

    events: EventSet | None = None
