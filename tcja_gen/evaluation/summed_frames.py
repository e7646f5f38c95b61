"""Event frames as images, for scores of images: the events of all T frames and both polarities, summed.

    pixel = min(sum / (T full_count), 1)

A pixel is white if each frame has a full pixel of one polarity.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from ..data import EventSet, ImageSet
from .generate import BATCH


def cut_by(model) -> str:
    """How the recordings that a model was trained on were cut into frames."""
    return model.provenance.get("data", {}).get("by", "number")


def folds_of(model) -> dict[str, tuple[int, int]]:
    """The fold that validated in a model's training and how many there were, by the names of the data that it was
    trained on; other data have no such folds. Empty if it was trained on a set's own splits."""
    facts = model.provenance.get("data", {})
    names = {facts.get("source"), facts.get("path")} - {None} if "fold" in facts else ()
    return {name: tuple(facts["fold"]) for name in names}


@dataclass(frozen=True)
class SummedFrames:
    """How the frames of a generator are made and summed."""

    time_steps: int
    by: str
    size: int
    full_count: int
    folds: dict[str, tuple[int, int]]  # see `folds_of`

    @classmethod
    def of(cls, model) -> "SummedFrames | None":
        """None for a generator of images."""
        if not getattr(model, "full_count", 0):
            return None
        return cls(model.time_steps, cut_by(model), model.image_size, model.full_count, folds_of(model))

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
