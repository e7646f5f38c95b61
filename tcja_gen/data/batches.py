"""Batches as a function of (seed, step): a run that is resumed, or that has more processes, sees the same samples.

The samples of all epochs form one endless sequence; each epoch is a permutation drawn from (seed, epoch). With a batch
of B samples, step s takes the positions s·B to (s+1)·B - 1. A batch may therefore span two epochs, or more if the set
is smaller than the batch, and no batch is short. Augmentation is drawn from (seed, step) for the whole batch, which is
then divided among the processes.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import torch
from torch import Tensor

from ..errors import UserError
from .event_augmentation import augment, mixup
from .event_sets import EventSet
from .image_sets import ImageSet


class Batches:
    """Batches of images or event frames, and their classes, by step number.

    batch: samples per step over all processes; process `rank` of `world` gets every `world`-th of them, from `rank` on
    flip: mirror images left to right with probability 1/2
    shift: move images by up to this many pixels in each direction; the border is filled with black
    augment: kinds of `event_augmentation` for event frames
    mixup: alpha of the Beta distribution that blends samples and their targets; 0: none
    classes: K of the targets
    device: where all images are kept and batches are made; event frames stay in their file until a batch needs them

    ValueError if `batch` is no multiple of `world`, the set is empty, or an augmentation is for the other kind of data.
    """

    def __init__(
        self,
        data: ImageSet | EventSet,
        batch: int,
        *,
        seed: int = 0,
        flip: bool = False,
        shift: int = 0,
        augment: Sequence[str] = (),
        mixup: float = 0.0,
        classes: int = 0,
        rank: int = 0,
        world: int = 1,
        device: str | torch.device = "cpu",
    ):
        if not len(data):
            raise UserError(f"{data.name}: split {data.split!r} is empty, no batch can be made")
        if batch < 1 or batch % world:
            raise UserError(f"batch {batch} is not a positive multiple of the {world} processes")
        if not 0 <= rank < world:
            raise UserError(f"rank {rank} is not one of the {world} processes")
        if shift < 0:
            raise UserError(f"shift {shift} is negative: give a number of pixels, or 0 for none")
        self.events = isinstance(data, EventSet)
        if self.events and (flip or shift):
            raise UserError(f"{data.name}: flip and shift are for images; event frames take augment")
        if augment and not self.events:
            raise UserError(f"{data.name}: augment is for event frames; images take flip and shift")
        if mixup and (data.labels is None or not classes):
            raise UserError(f"{data.name}: mixup blends samples of classes, and there are none to learn")
        self.count, self.batch, self.seed, self.flip, self.shift = len(data), batch, seed, flip, shift
        self.augment, self.mixup, self.classes = tuple(augment), mixup, classes
        self.rank, self.world, self.device = rank, world, torch.device(device)
        self.samples = data.samples if self.events else data.samples.to(device)
        self.labels = None if data.labels is None else data.labels.to(device)
        self._epoch: tuple[int, Tensor] | None = None  # the current epoch and its permutation

    def at(self, step: int) -> tuple[Tensor, Tensor | None]:
        """Samples of a step and their targets, on the device.

        Images are float32 `(batch / world, C, H, W)` in [-1, 1], event frames `(T, batch / world, 2, H, W)` counts;
        targets are `(batch / world, classes)`, one-hot unless mixed, None without labels or classes.
        """
        share = slice(None) if self.mixup else slice(self.rank, None, self.world)  # what is blended must be whole
        indices = self._batch_at(step)[share]
        x = self.samples[indices.to(self.samples.device)].to(self.device)
        x = self._event_frames(x, step) if self.events else self._images(x, step, share)
        targets = None
        if self.labels is not None and self.classes:
            labels = self.labels[indices.to(self.labels.device)]
            targets = torch.nn.functional.one_hot(labels, self.classes).float()
        if self.mixup:
            x, targets = mixup(x, targets, self._draw("mixup", step), self.mixup)
            x, targets = x[self.rank :: self.world], targets[self.rank :: self.world]
        return (x.transpose(0, 1) if self.events else x), targets

    def _images(self, x: Tensor, step: int, share: slice) -> Tensor:
        if self.flip:
            chosen = torch.rand(self.batch, generator=self._draw("flip", step)) < 0.5
            x = flip_images(x, chosen[share].to(x.device))
        if self.shift:
            size, reach = (self.batch, 2), self.shift
            moves = torch.randint(-reach, reach + 1, size, generator=self._draw("shift", step))
            x = shift_images(x, moves[share].to(x.device), reach)
        return x.float() / 127.5 - 1

    def _event_frames(self, x: Tensor, step: int) -> Tensor:
        if not self.augment:
            return x.float()
        rank, world = (0, 1) if self.mixup else (self.rank, self.world)
        return augment(x.float(), self._draw("augment", step), self.augment, rank=rank, world=world)

    def labels_at(self, step: int) -> Tensor | None:
        """Labels of a step: int64 `(batch / world,)` on the device; None if the set has none."""
        return None if self.labels is None else self.labels[self.indices_at(step).to(self.labels.device)]

    def indices_at(self, step: int) -> Tensor:
        """Indices into the set of a step's samples: int64 `(batch / world,)` on the CPU."""
        return self._batch_at(step)[self.rank :: self.world]

    def _batch_at(self, step: int) -> Tensor:
        start, stop = step * self.batch, (step + 1) * self.batch
        pieces = []
        for epoch in range(start // self.count, (stop - 1) // self.count + 1):
            offset = epoch * self.count
            pieces.append(self._permutation(epoch)[max(start - offset, 0) : stop - offset])
        return torch.cat(pieces)

    def _permutation(self, epoch: int) -> Tensor:
        if self._epoch is None or self._epoch[0] != epoch:
            self._epoch = epoch, torch.randperm(self.count, generator=self._draw("order", epoch))
        return self._epoch[1]

    def _draw(self, what: str, number: int) -> torch.Generator:
        # hashed, since seeds like seed + epoch would give run 1 the epochs of run 0, one later
        key = hashlib.sha256(f"{what} {self.seed} {number}".encode()).digest()
        return torch.Generator().manual_seed(int.from_bytes(key[:8], "big") >> 1)


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
