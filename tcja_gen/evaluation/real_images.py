"""The real images that a request names; loaded when they are first asked for."""

from collections.abc import Callable, Sequence
from functools import cached_property

import torch
from torch import Tensor

from ..data import ImageSet, is_events, is_named, load_events, load_images
from ..errors import UserError
from ..registry import DATASETS
from .request import Request
from .summed_frames import SummedFrames


class RealImages:
    """Two splits of a data set: the one to score against, and the training split. frames: of event recordings, whose
    frames are summed."""

    def __init__(self, request: Request, frames: SummedFrames | None = None):
        self.request, self.frames = request, frames

    @cached_property
    def reference(self) -> ImageSet:
        """The split to score against."""
        return self._load(self.request.split)

    @cached_property
    def training(self) -> ImageSet:
        return self._load("train")

    @cached_property
    def fold(self) -> tuple[int, int] | None:
        """The fold that validated where these are the recordings of a generator's own training."""
        return self.frames.fold_of(self.request.data) if self.frames else None

    @property
    def training_identity(self) -> str:
        """What tells the training split from others: of a set of this package its name, for which nothing is read, else
        the fingerprint of its images. "" without a set."""
        data = str(self.request.data or "")
        published = is_named(data) and data not in DATASETS.from_plugins()
        return data if published or not data else self.training.fingerprint

    def training_images(self, numbers: Sequence[int]) -> Tensor:
        """Some images of the training split by their numbers, uint8 `(n, C, H, W)`. No other pictures are read."""
        if self.frames:
            return self.training.images[list(numbers)]
        ascending, places = torch.tensor(numbers).unique(return_inverse=True)
        return self._load("train", lambda total: ascending).images[places]

    def _load(self, split: str, pick: Callable[[int], Tensor] | None = None) -> ImageSet:
        asked = self.request
        if not asked.data:
            held = "nothing to compare with"
            if asked.reference is not None:
                held = f"{asked.reference}: has no images of the {split} split"
            raise UserError(f"{held}; name the data set, too: {asked.spell('data')}")
        if frames := self.frames:
            if not is_events(asked.data):
                raise UserError(f"{asked.data}: images, the generator makes event frames; name a set of recordings")
            made = dict(time_steps=frames.time_steps, by=frames.by, size=frames.size, fold=self.fold)
            return frames.image_set(load_events(asked.data, split, **made, root=asked.root))
        shape = dict(size=asked.size, channels=asked.channels)
        return load_images(asked.data, split, **shape, root=asked.root, download=asked.download, pick=pick)
