"""Batches as a pure function of (seed, step): a resumed run, or one on more processes, sees the same images.

Step s takes the positions s·B ... (s+1)·B - 1 of an endless sequence of epochs, each epoch a permutation
drawn from (seed, epoch). A batch may straddle two epochs, or several where the set is smaller than the
batch; none is ever short. Augmentation is drawn for the whole batch from (seed, step), before it is dealt
out to the processes.
"""

from __future__ import annotations

import hashlib

import torch
from torch import Tensor

from .images import ImageSet


class Batches:
    """Serves an image set by step number.

    batch: images a step over all processes; process `rank` of `world` gets every `world`-th, from `rank` on
    flip: mirror left to right with probability 1/2
    shift: move by up to so many pixels in each direction, filling with black
    device: where the uint8 images are put once and where the batches are made

    ValueError if `batch` does not divide by `world`, or the set is empty.
    """

    def __init__(
        self,
        data: ImageSet,
        batch: int,
        *,
        seed: int = 0,
        flip: bool = False,
        shift: int = 0,
        rank: int = 0,
        world: int = 1,
        device: str | torch.device = "cpu",
    ):
        if not len(data):
            raise ValueError(f"{data.name}: split {data.split!r} is empty, no batch can be made")
        if batch < 1 or batch % world:
            raise ValueError(f"batch {batch} is not a positive multiple of the {world} processes")
        if not 0 <= rank < world:
            raise ValueError(f"rank {rank} is not one of the {world} processes")
        if shift < 0:
            raise ValueError(f"shift {shift} is negative: give a number of pixels, or 0 for none")
        self.count, self.batch, self.seed, self.flip, self.shift = len(data), batch, seed, flip, shift
        self.rank, self.world = rank, world
        self.images = data.images.to(device)
        self.labels = None if data.labels is None else data.labels.to(device)
        self._epoch: tuple[int, Tensor] | None = None  # the current epoch and its permutation

    def at(self, step: int) -> Tensor:
        """Images of a step: float32 `(batch / world, C, H, W)` in [-1, 1] on the device."""
        x = self.images[self.indices_at(step).to(self.images.device)]
        if self.flip:
            x = flip_images(x, self._mine(torch.rand(self.batch, generator=self._draw("flip", step)) < 0.5))
        if self.shift:
            size, reach = (self.batch, 2), self.shift
            moves = torch.randint(-reach, reach + 1, size, generator=self._draw("shift", step))
            x = shift_images(x, self._mine(moves), reach)
        return x.float() / 127.5 - 1

    def labels_at(self, step: int) -> Tensor | None:
        """Labels of a step: int64 `(batch / world,)` on the device; None if the set has none."""
        return None if self.labels is None else self.labels[self.indices_at(step).to(self.labels.device)]

    def indices_at(self, step: int) -> Tensor:
        """Indices into the set of a step's images: int64 `(batch / world,)` on the CPU."""
        start, stop = step * self.batch, (step + 1) * self.batch
        pieces = []
        for epoch in range(start // self.count, (stop - 1) // self.count + 1):
            offset = epoch * self.count
            pieces.append(self._permutation(epoch)[max(start - offset, 0) : stop - offset])
        return torch.cat(pieces)[self.rank :: self.world]

    def _permutation(self, epoch: int) -> Tensor:
        if self._epoch is None or self._epoch[0] != epoch:
            self._epoch = epoch, torch.randperm(self.count, generator=self._draw("order", epoch))
        return self._epoch[1]

    def _draw(self, what: str, number: int) -> torch.Generator:
        # hashed, since seeds like seed + epoch would give run 1 the epochs of run 0, one later
        key = hashlib.sha256(f"{what} {self.seed} {number}".encode()).digest()
        return torch.Generator().manual_seed(int.from_bytes(key[:8], "big") >> 1)

    def _mine(self, drawn: Tensor) -> Tensor:
        return drawn[self.rank :: self.world].to(self.images.device)


def flip_images(x: Tensor, chosen: Tensor) -> Tensor:
    """Mirror the chosen `(N,)` of the images `(N, C, H, W)` left to right."""
    return torch.where(chosen[:, None, None, None], x.flip(-1), x)


def shift_images(x: Tensor, moves: Tensor, reach: int) -> Tensor:
    """Move images `(N, C, H, W)` down and right by `moves` `(N, 2)` within ±reach; the edge gives zeros."""
    n, c, h, w = x.shape
    padded = torch.nn.functional.pad(x, (reach,) * 4)  # (N, C, H + 2 reach, W + 2 reach)
    rows = torch.arange(h, device=x.device) + reach - moves[:, :1]  # (N, H)
    columns = torch.arange(w, device=x.device) + reach - moves[:, 1:]  # (N, W)
    image = torch.arange(n, device=x.device)[:, None, None, None]
    channel = torch.arange(c, device=x.device)[:, None, None]
    return padded[image, channel, rows[:, None, :, None], columns[:, None, None, :]]
