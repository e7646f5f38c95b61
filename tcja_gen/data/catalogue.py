"""The pictures of a data set before they are resized, and how they are split.

A set that has splits keeps them. A split that is missing is held out of the training images: first the test split (a
sixth, at most 10,000), then the validation split (a twelfth of the rest, at most 5,000). Which images are held out
depends on their number alone. Inside a split the images keep their order.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from ..errors import UserError

if TYPE_CHECKING:
    from PIL.Image import Image

PARTS = ("train", "validation", "test")
SPLITS = {**{part: (part,) for part in PARTS}, "train+validation": PARTS[:2], "all": PARTS}
SPLIT_SEED = 20240229  # another number moves every carved split: never change it


@dataclass(frozen=True, eq=False)
class Catalogue:
    """The pictures of a set, by index, and the size and channels that they will have.

    picture: the i-th picture, of PIL mode L or RGB
    pixels: all pictures, uint8 (N, H, W) or (N, H, W, 3), if they are in memory
    stamp: facts about the i-th picture that change when its file does, or what is taken of it; None without files
    as_they_are: whether pictures of other sizes than the first are refused, and whether those of other channels are
    first: width, height and channels of the first picture, if the set's may be others; else None
    """

    name: str
    size: int
    channels: int
    parts: dict[str, Tensor]  # each of PARTS -> indices in ascending order
    picture: Callable[[int], Image]
    labels: Tensor | None = None
    classes: tuple[str, ...] | None = None
    pixels: np.ndarray | None = None
    stamp: Callable[[int], list] | None = None
    as_they_are: tuple[bool, bool] = (False, False)  # size, channels
    first: tuple[int, int, int] | None = None  # width, height, channels

    def indices(self, split: str) -> Tensor:
        """Indices of the pictures of a split, one of `SPLITS`, ascending; ValueError if it is empty."""
        chosen = torch.cat([self.parts[part] for part in SPLITS[split]]).sort().values
        if not len(chosen):
            counts = ", ".join(f"{part} {len(indices)}" for part, indices in self.parts.items())
            raise UserError(f"{self.name} has no image in split {split!r} ({counts}): add some or take another split")
        return chosen


def even(n: int, total: int) -> Tensor:
    """n of `total` indices, ascending, the same at every call: one from each of n equal parts. All, if n >= total.

    Sets are often sorted by class. The first n would then be of one class, and so may every (total / n)-th be.
    """
    n = min(n, total)
    edges = torch.arange(n + 1) * total // max(n, 1)
    share = torch.rand(n, generator=torch.Generator().manual_seed(SPLIT_SEED), dtype=torch.float64)
    return edges[:-1] + (share * edges.diff()).long()


def partition(train: Tensor, validation: Tensor | None = None, test: Tensor | None = None) -> dict[str, Tensor]:
    """Indices of the three parts; a part that is None is held out of `train`."""
    if test is None:
        train, test = carve(train, share=6, most=10_000)
    if validation is None:
        train, validation = carve(train, share=12, most=5_000)
    return {"train": train, "validation": validation, "test": test}


def carve(indices: Tensor, share: int, most: int) -> tuple[Tensor, Tensor]:
    """Kept and held-out indices: one in `share` is held out, at most `most`, and at least one if there are two."""
    n = len(indices)
    held = min(max(1, n // share), most) if n > 1 else 0
    order = torch.randperm(n, generator=torch.Generator().manual_seed(SPLIT_SEED))
    return indices[order[held:].sort().values], indices[order[:held].sort().values]
