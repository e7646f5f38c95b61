"""What a source offers before its pixels are converted, and how it is split.

The splits are those of the source where it has them. What it lacks is carved out of its training images,
first the test split (a sixth, at most 10,000), then the validation split (a twelfth of the rest, at most
5,000), by a permutation that depends on the number of images alone. Inside a split the images keep the
order of the source.
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
    """Pictures by index and the shape they are wanted in; `picture(i)` is the i-th, of PIL mode L or RGB, and `pixels`,
    where they are at hand, all of them, (N, H, W) or (N, H, W, 3) of uint8."""

    name: str
    size: int
    channels: int
    parts: dict[str, Tensor]  # each of PARTS -> indices in ascending order
    picture: Callable[[int], Image]
    labels: Tensor | None = None
    classes: tuple[str, ...] | None = None
    pixels: np.ndarray | None = None

    def indices(self, split: str) -> Tensor:
        """Indices of the pictures of one of `SPLITS`, ascending; ValueError if there are none."""
        chosen = torch.cat([self.parts[part] for part in SPLITS[split]]).sort().values
        if not len(chosen):
            counts = ", ".join(f"{part} {len(indices)}" for part, indices in self.parts.items())
            raise UserError(f"{self.name} has no image in split {split!r} ({counts}): add some or take another split")
        return chosen


def even(n: int, total: int) -> Tensor:
    """A fixed draw of n of `total` indices, ascending: one out of each n-th part. All of them where n is not fewer.

    A folder is sorted by class, so its first n images are of one class; every (total / n)-th may be of one, too.
    """
    n = min(n, total)
    edges = torch.arange(n + 1) * total // max(n, 1)
    share = torch.rand(n, generator=torch.Generator().manual_seed(SPLIT_SEED), dtype=torch.float64)
    return edges[:-1] + (share * edges.diff()).long()


def partition(train: Tensor, validation: Tensor | None = None, test: Tensor | None = None) -> dict[str, Tensor]:
    """The three parts; a part given as None is carved out of `train`, which shrinks by as much."""
    if test is None:
        train, test = carve(train, share=6, most=10_000)
    if validation is None:
        train, validation = carve(train, share=12, most=5_000)
    return {"train": train, "validation": validation, "test": test}


def carve(indices: Tensor, share: int, most: int) -> tuple[Tensor, Tensor]:
    """Kept and held-out indices: one in `share` is held out, at least one of two or more, at most `most`."""
    n = len(indices)
    held = min(max(1, n // share), most) if n > 1 else 0
    order = torch.randperm(n, generator=torch.Generator().manual_seed(SPLIT_SEED))
    return indices[order[held:].sort().values], indices[order[:held].sort().values]
