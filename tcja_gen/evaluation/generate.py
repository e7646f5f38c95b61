"""Runs a model on many images or recordings: in batches, on all processes, with the results in order.

Under `torch.distributed` process i mod world makes image i, and every process gets all images.
"""

from collections.abc import Callable, Sequence

import torch
import torch.distributed as dist
from torch import Tensor

from ..metrics import Extractor
from ..models.inputs import check_range
from ..process import this_process
from ..progress import track

BATCH = 256  # samples that are made at once
IMAGES, RECORDINGS = 64, 16  # in a batch that is classified, whatever the number of processes


def quantise(images: Tensor) -> Tensor:
    """Float images in [0, 1], rounded to uint8; uint8 images as they are. On the CPU.

    UserError for values that are not finite or not in [0, 1].
    """
    if images.dtype == torch.uint8:
        return images.cpu()
    check_range(images)
    return images.clamp(0, 1).mul(255).round().to(torch.uint8).cpu()


def sample(model, seeds: Sequence[int], batch: int = BATCH, progress: bool = False, label: int | None = None) -> Tensor:
    """One image per seed, uint8 `(n, C, H, W)`, or expected event counts, float `(n, T, 2, H, W)`. label: the class of
    all of them, for a conditional model."""
    seeds = list(seeds)
    condition = {} if label is None else {"classes": label}

    def make(i: Tensor) -> Tensor:
        made = model.sample([seeds[k] for k in i.tolist()], **condition)
        return quantise(made) if made.dim() == 4 else made.cpu()

    return _on_all_processes(make, len(seeds), batch, "sampling" if progress else None)


def reconstruct(model, images: Tensor, seed: int = 0, batch: int = BATCH, progress: bool = False) -> Tensor:
    """Reconstructions of uint8 images, float `(n, C, H, W)` in [0, 1], or of event counts `(n, T, 2, H, W)`; number i
    has the seed `seed + i`."""

    def make(i: Tensor) -> Tensor:
        return model.reconstruct(as_input(images[i]), seeds=[seed + k for k in i.tolist()]).float().cpu()

    return _on_all_processes(make, len(images), batch, "reconstructing" if progress else None)


def classify(model, samples: Tensor, chosen: Tensor | None = None, progress: bool = False) -> Tensor:
    """The outputs of every time step, float `(n, T, K)` on the CPU.

    samples: images uint8 `(N, C, H, W)`, or event counts `(N, T, 2, H, W)`
    chosen: indices of the samples to classify; None: all
    """
    size = RECORDINGS if samples.dim() == 5 else IMAGES
    chosen = torch.arange(len(samples)) if chosen is None else chosen

    def make(i: Tensor) -> Tensor:
        return model.classify(as_input(samples[chosen[i]])).cpu()

    return _in_batches(make, len(chosen), size, "classifying" if progress else None)


def as_input(samples: Tensor) -> Tensor:
    """Images uint8 -> [0, 1]; event counts as they are. Both float, as models take them."""
    return samples.float() if samples.dim() == 5 else samples.float() / 255


class DistributedExtractor:
    """An extractor whose batches all processes share; each gets all features, the same as one process alone."""

    def __init__(self, extractor: Extractor, progress: bool = False):
        self._extractor, self._progress = extractor, progress

    def __getattr__(self, name: str):
        return getattr(self._extractor, name)

    def __call__(self, images: Tensor) -> Tensor:
        title = f"features by {self.name}" if self._progress else None
        return _in_batches(lambda i: self._extractor(images[i]), len(images), self.batch, title)


def _in_batches(make: Callable[[Tensor], Tensor], n: int, size: int, title: str | None) -> Tensor:
    """`make(indices)` of 0 .. n - 1, with each batch made whole by one process.

    The batches are then the same for any number of processes, and so is the rounding.
    """
    batches = torch.arange(n).split(size)

    def padded(number: Tensor) -> Tensor:
        made = make(batches[int(number[0])])  # (size, ...), fewer in the last batch
        return torch.nn.functional.pad(made, (0, 0) * (made.dim() - 1) + (0, size - len(made)))[None]

    return _on_all_processes(padded, len(batches), 1, title).flatten(0, 1)[:n]


def _on_all_processes(make: Callable[[Tensor], Tensor], n: int, batch: int, title: str | None) -> Tensor:
    """`make(indices)` of 0 .. n - 1: each process makes its share, `[rank::world]`, and gets all of it in order."""
    place = this_process(torch.device("cpu"))
    rank, world = place.rank, place.world
    mine = torch.arange(rank, -(-n // world) * world, world) % n  # the same number for each; the surplus is cut below
    batches = track(mine.split(batch), title)
    with torch.no_grad():
        local = torch.cat([make(indices) for indices in batches])
    if world == 1:
        return local
    device = "cuda" if dist.get_backend() == "nccl" else "cpu"
    gathered = [torch.empty_like(local, device=device) for _ in range(world)]
    dist.all_gather(gathered, local.to(device))
    return torch.stack(gathered, dim=1).flatten(0, 1)[:n].cpu()  # the j-th of rank r is number j * world + r
