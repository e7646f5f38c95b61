"""What is scored: a generator, which makes images by seed, or images that are there."""

import os
from dataclasses import dataclass

import torch
from torch import Tensor

from ..data import ImageSet, load_images
from ..data.pictures import SMALLEST
from ..errors import UserError
from ..models.inputs import check_tensor
from .generate import quantise, reconstruct, sample


@dataclass
class Subject:
    """What is scored: a model, which makes images by seed, or images that are there."""

    model: object | None
    given: Tensor | None  # uint8 (N, C, H, W)
    rounded: str | None
    source: dict
    n: int
    seed: int
    batch: int
    progress: bool

    @classmethod
    def of(cls, thing, n: int, seed: int, size, channels, batch: int, progress: bool, notes: list[str]) -> "Subject":
        """ValueError for images of another kind or range, before any work."""
        if hasattr(thing, "sample"):
            return cls(thing, None, "rounded to uint8", dict(thing.provenance), n, seed, batch, progress)
        images = given(thing, n, seed, size, channels, notes)
        rounded = "rounded to uint8" if images.is_floating_point() else None
        name = f"tensor {tuple(thing.shape)}" if isinstance(thing, Tensor) else str(thing)
        return cls(None, quantise(images), rounded, {"images": name}, len(images), seed, batch, progress)

    @property
    def size(self) -> int:
        return self.model.image_size if self.model else self.given.shape[-1]

    @property
    def channels(self) -> int:
        return self.model.image_channels if self.model else self.given.shape[1]

    def samples(self) -> Tensor:
        """uint8 `(n, C, H, W)`."""
        if self.model is None:
            return self.given
        return sample(self.model, range(self.seed, self.seed + self.n), self.batch, self.progress)

    def reconstructions(self, real: ImageSet) -> Tensor:
        """Float `(n, C, H, W)` in [0, 1] of n images of a set."""
        return reconstruct(self.model, drawn(real, self.n), self.seed, self.batch, self.progress)

    def facts(self, made: int, sets: int) -> dict:
        """Fields of the protocol that tell how so many images were made, in so many sets."""
        facts = {} if self.model is None else self.model.provenance | {"time_steps": self.model.time_steps}
        facts = {name: facts.get(name) for name in ("time_steps", "weights", "step")}
        facts |= getattr(getattr(self.model, "latent", None), "sampling", {})
        facts["classes"] = "seed mod classes" if getattr(self.model, "classes", 0) else None
        facts["seeds"] = [self.seed, self.seed + (sets - 1) * self.n + made - 1] if self.model else None
        return {"quantised": self.rounded} | facts


def given(images, n: int, seed: int, size: int | None, channels: int | None, notes: list[str]) -> Tensor:
    """At most n images of a tensor, folder or zip: a random choice, for folders are often sorted by class."""
    if isinstance(images, str | os.PathLike):
        images = load_images(images, "all", size=size, channels=channels).images
    _check(images)
    if len(images) < n:
        notes.append(f"{len(images)} images where {n} were asked for")
    order = torch.randperm(len(images), generator=torch.Generator().manual_seed(seed))[:n]
    return images[order.sort().values]


def _check(images: Tensor) -> None:
    """ValueError for what are no images (N, C, H, W), square, of 1 or 3 channels."""
    check_tensor(images, "images to score")
    found, wanted = f"images are {images.dtype} {tuple(images.shape)}", "wanted uint8 or float (N, C, H, W)"
    if images.dim() != 4 or not (images.dtype == torch.uint8 or images.is_floating_point()):
        raise UserError(f"{found}; {wanted}")
    n, channels, height, width = images.shape
    if channels not in (1, 3):
        how = ": the channels are last, permute(0, 3, 1, 2) brings them first" if width in (1, 3) else ""
        raise UserError(f"{found}; {wanted} of 1 or 3 channels{how}")
    if not n or height != width or height < SMALLEST:
        raise UserError(f"{found}; {wanted}, one or more of them, square, of at least {SMALLEST} pixels a side")


def drawn(real: ImageSet, n: int) -> Tensor:
    """n images of a set, the same ones every time, drawn at random: the first ones need not be like the rest (the first
    2,560 test images of MNIST score 12.7 against all of them, such a draw 2.2)."""
    return real.images[torch.randperm(len(real.images), generator=torch.Generator().manual_seed(0))[:n]]
