"""Putting a model to work on many images or recordings: in batches, dealt out to all processes, back in order.

Under `torch.distributed` image i is made by process i mod world, and every process ends up with all images.
"""

from collections.abc import Callable, Sequence

import torch
import torch.distributed as dist
from torch import Tensor

from ..metrics import Extractor
from ..models.inputs import check_range
from ..process import here

IMAGES, RECORDINGS = 64, 16  # that are classified together, whatever the number of processes


def quantise(images: Tensor) -> Tensor:
    """Float images in [0, 1] to uint8 on the CPU by rounding; uint8 images as they are.

    ValueError for values that are not finite or not in [0, 1].
    """
    if images.dtype == torch.uint8:
        return images.cpu()
    check_range(images)
    return images.clamp(0, 1).mul(255).round().to(torch.uint8).cpu()


def sample(model, seeds: Sequence[int], batch: int = 256, progress: bool = False, label: int | None = None) -> Tensor:
    """One image per seed, uint8 `(n, C, H, W)`. label: class of them all, for a conditional model."""
    seeds = torch.as_tensor(list(seeds))
    asked = {} if label is None else {"classes": label}

    def make(i: Tensor) -> Tensor:
        return quantise(model.sample(seeds[i], **asked))

    return _dealt(make, len(seeds), batch, "sampling" if progress else None)


def reconstruct(model, images: Tensor, seed: int = 0, batch: int = 256, progress: bool = False) -> Tensor:
    """Reconstructions, float `(n, C, H, W)` in [0, 1], of uint8 images; image i has the seed seed + i."""

    def make(i: Tensor) -> Tensor:
        return model.reconstruct(images[i].float() / 255, seeds=i + seed).float().cpu()

    return _dealt(make, len(images), batch, "reconstructing" if progress else None)


def classify(model, samples: Tensor, chosen: Tensor | None = None, progress: bool = False) -> Tensor:
    """Outputs at every step, float `(n, T, K)` on the CPU, of samples (all, or the `chosen` indices).

    samples: images uint8 `(N, C, H, W)`, or event counts `(N, T, 2, H, W)`.
    """
    size = RECORDINGS if samples.dim() == 5 else IMAGES
    chosen = torch.arange(len(samples)) if chosen is None else chosen

    def make(i: Tensor) -> Tensor:
        found = samples[chosen[i]].float()
        return model.classify(found / 255 if found.dim() == 4 else found).cpu()

    return _by_chunks(make, len(chosen), size, "classifying" if progress else None)


class Dealt:
    """An extractor whose batches are dealt out to all processes; each gets all features, the same as one alone."""

    def __init__(self, extractor: Extractor, progress: bool = False):
        self._extractor, self._progress = extractor, progress

    def __getattr__(self, name: str):
        return getattr(self._extractor, name)

    def __call__(self, images: Tensor) -> Tensor:
        title = f"features by {self.name}" if self._progress else None
        return _by_chunks(lambda i: self._extractor(images[i]), len(images), self.batch, title)


def _by_chunks(make: Callable[[Tensor], Tensor], n: int, size: int, title: str | None) -> Tensor:
    """`make(indices)` of 0 .. n - 1, dealt out by whole chunks: so rounding, too, is the same for any processes."""
    chunks = torch.arange(n).split(size)

    def whole(numbers: Tensor) -> Tensor:
        found = make(chunks[int(numbers[0])])  # (size, ...), of the last chunk fewer
        return torch.nn.functional.pad(found, (0, 0) * (found.dim() - 1) + (0, size - len(found)))[None]

    return _dealt(whole, len(chunks), 1, title).flatten(0, 1)[:n]


def _dealt(make: Callable[[Tensor], Tensor], n: int, batch: int, title: str | None) -> Tensor:
    """`make(indices)` of 0 .. n - 1, dealt out as `[rank::world]`, brought back in order to every process."""
    from tqdm import tqdm

    place = here(torch.device("cpu"))
    rank, world = place.rank, place.world
    mine = torch.arange(rank, -(-n // world) * world, world) % n  # as many for each; the surplus is cut below
    batches = tqdm(mine.split(batch), title, leave=False, disable=None if title else True)
    with torch.no_grad():
        local = torch.cat([make(indices) for indices in batches])
    if world == 1:
        return local
    device = "cuda" if dist.get_backend() == "nccl" else "cpu"
    gathered = [torch.empty_like(local, device=device) for _ in range(world)]
    dist.all_gather(gathered, local.to(device))
    return torch.stack(gathered, dim=1).flatten(0, 1)[:n].cpu()  # the j-th of rank r is number j * world + r
