"""What is scored: a generator, which makes images by seed, or images that are there."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from ..data import ImageSet, load_images
from ..data.pictures import SMALLEST
from ..errors import UserError
from ..models.inputs import check_tensor
from .asked_classes import numbered_as
from .generate import quantise, reconstruct, sample
from .request import Request
from .summed_frames import SummedFrames


@dataclass(frozen=True)
class Subject:
    """n images to score: of a model, from `seed` on, or those that are there."""

    model: object | None
    images: Tensor | None  # uint8 (n, C, H, W)
    quantised: str | None
    source: dict
    n: int
    seed: int
    batch: int
    progress: bool
    classes: tuple[str, ...] | None = None  # their names, by label
    given_labels: Tensor | None = None  # (n,), of images that are there
    numbers: Tensor | None = None  # (n,), of those that were drawn from more images; None: all are scored

    @classmethod
    def of(cls, model_or_images, request: Request, notes: list[str]) -> "Subject":
        """UserError for images of another kind or range, before any work."""
        how = dict(seed=request.seed, batch=request.batch, progress=request.shows_progress)
        if hasattr(model_or_images, "sample"):
            source = dict(model_or_images.provenance)
            names = source.get("data", {}).get("classes")
            return cls(model_or_images, None, "rounded to uint8", source, request.n, **how, classes=names)
        if isinstance(model_or_images, str | os.PathLike):
            found, total = _read(model_or_images, request)
            images, name = found.images, str(model_or_images)
            if found.labels is not None:
                how |= dict(classes=found.classes, given_labels=found.labels)
        else:
            _check(model_or_images)
            total, name = len(model_or_images), f"tensor {tuple(model_or_images.shape)}"
            images = model_or_images[request.draw(total)]
        notes += few_images(total, request)
        if len(images) < total:
            notes.append(f"{len(images)} of {total} images scored, drawn by seed {request.seed}")
            how |= dict(numbers=request.draw(total))
        quantised = "rounded to uint8" if images.is_floating_point() else None
        return cls(None, quantise(images), quantised, {"images": name}, len(images), **how)

    @property
    def frames(self) -> SummedFrames | None:
        """How event frames become images; None for images."""
        return SummedFrames.of(self.model)

    @property
    def seeds(self) -> range:
        return range(self.seed, self.seed + self.n)

    @property
    def size(self) -> int:
        return self.model.image_size if self.model else self.images.shape[-1]

    @property
    def channels(self) -> int:
        if self.frames:
            return 1
        return self.model.image_channels if self.model else self.images.shape[1]

    @property
    def labels(self) -> Tensor | None:
        """The class `(n,)` that each image was made for; None of an unconditional model, or images without classes."""
        classes = getattr(self.model, "classes", 0)
        return torch.tensor([seed % classes for seed in self.seeds]) if classes else self.given_labels

    def labels_as(self, wanted: Sequence[str], notes: list[str]) -> Tensor:
        """`labels` in the numbering of a classifier's classes, see `numbered_as`."""
        return numbered_as(self.labels, self.classes, wanted, "the samples", notes)

    def samples(self) -> Tensor:
        """uint8 `(n, C, H, W)`."""
        if self.model is None:
            return self.images
        return quantise(self.frames.images(self.made)) if self.frames else self.made

    @cached_property
    def made(self) -> Tensor:
        """Samples of the model as they are: uint8 `(n, C, H, W)`, or expected event counts `(n, T, 2, H, W)`."""
        return sample(self.model, self.seeds, self.batch, self.progress)

    def reconstructions(self, real: ImageSet) -> Tensor:
        """Float `(n, C, H, W)` in [0, 1]: the model's reconstructions of n images of a set."""
        if self.frames:
            counts = real.events.frames[chosen(real, self.n)]
            return self.frames.images(reconstruct(self.model, counts, self.seed, self.batch, self.progress))
        return reconstruct(self.model, originals(real, self.n), self.seed, self.batch, self.progress)

    def facts(self, made: int, sets: int) -> dict:
        """Fields of the protocol that tell how the images were made: `made` of them in each of so many sets."""
        facts = {} if self.model is None else self.model.provenance | {"time_steps": self.model.time_steps}
        facts = {name: facts.get(name) for name in ("time_steps", "weights", "step")}
        facts |= getattr(getattr(self.model, "latent", None), "sampling", {})
        facts["classes"] = "seed mod classes" if getattr(self.model, "classes", 0) else None
        facts["seeds"] = [self.seed, self.seed + (sets - 1) * self.n + made - 1] if self.model else None
        facts["drawn"] = None if self.numbers is None else f"by seed {self.seed}"
        facts |= self.frames.facts() if self.frames else {}
        return {"quantised": self.quantised} | facts


def few_images(total: int, request: Request) -> list[str]:
    """A note if there are fewer images than were asked for."""
    return [f"{total} images where {request.n} were asked for"] if total < request.n else []


def _read(path: str | os.PathLike, request: Request) -> tuple[ImageSet, int]:
    """The images of a folder or zip that a request draws, and how many there are. A folder that is called like a data
    set is a folder here."""
    totals = []

    def pick(total: int) -> Tensor:
        totals.append(total)
        return request.draw(total)

    path = os.path.abspath(path) if os.path.exists(path) else path
    found = load_images(path, "all", size=request.size, channels=request.channels, pick=pick)
    _check(found.images)
    return found, totals[-1]


def _check(images: Tensor) -> None:
    """UserError for anything but square images `(N, C, H, W)` of 1 or 3 channels."""
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


def originals(real: ImageSet, n: int) -> Tensor:
    """n images of a set to reconstruct."""
    return real.images[chosen(real, n)]


def chosen(real: ImageSet, n: int) -> Tensor:
    """Indices of n images of a set to reconstruct: a random choice, the same one every time.

    The first n need not be like the rest: the first 2,560 test images of MNIST have an FAD of 12.7 to all of them, a
    random choice 2.2.
    """
    return torch.randperm(len(real.images), generator=torch.Generator().manual_seed(0))[:n]
