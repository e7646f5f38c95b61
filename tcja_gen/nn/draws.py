"""Random numbers for a batch of N images, one row for each image.

A layer that needs random numbers calls `uniform(*shape)` or `normal(*shape)` and gets (N, *shape). The caller chooses
where they come from. Sampling has one generator per image, so that image i never depends on the others of its batch.
Training has one generator per step, which draws for the batch of all processes and takes this process's rows; a run
thus does not depend on the number of processes, and a resumed run needs no random state. Numbers are drawn on the CPU,
so they are the same on every device.

The latent draws from the `draws` that it gets. Other parts draw from named streams: `draws.stream("dropout")` has
generators that are seeded by a hash of that name and the seed, so no stream changes the numbers of another.
"""

import copy
import hashlib
from collections import deque
from collections.abc import Sequence

import torch
from torch import Tensor


def hashed(*parts: str | int) -> int:
    """A seed of 63 bits, a hash of all parts."""
    return int.from_bytes(hashlib.sha256(" ".join(map(str, parts)).encode()).digest()[:8], "big") >> 1


class ImageDraws:
    """One generator per image: row i depends only on seeds[i] and the calls made."""

    def __init__(self, seeds: Sequence[int] | Tensor, device: torch.device | str = "cpu", name: str = ""):
        self.seeds, self.device, self.name, self.streams = [int(seed) for seed in seeds], device, name, {}
        starts = [hashed(name, seed) if name else seed for seed in self.seeds]
        self.generators = [torch.Generator().manual_seed(start) for start in starts]

    def __len__(self) -> int:
        return len(self.generators)

    def stream(self, name: str) -> "ImageDraws":
        """The draws of this name. Asked for again, they continue."""
        if name not in self.streams:
            self.streams[name] = ImageDraws(self.seeds, self.device, _stream_name(self.name, name))
        return self.streams[name]

    def uniform(self, *shape: int) -> Tensor:
        """(N, *shape) in [0, 1)."""
        return torch.stack([torch.rand(shape, generator=g) for g in self.generators]).to(self.device)

    def normal(self, *shape: int) -> Tensor:
        """(N, *shape) of N(0, 1)."""
        return torch.stack([torch.randn(shape, generator=g) for g in self.generators]).to(self.device)


class StepDraws:
    """Draws of one training step: rows `rank::world` of the numbers that (seed, step) gives for the global batch."""

    def __init__(self, seed: int, step: int, batch: int, rank: int = 0, world: int = 1, device="cpu", name: str = ""):
        self.arguments, self.name, self.streams = (seed, step, batch, rank, world, device), name, {}
        start = hashed(name, seed, step) if name else (seed * 1_000_003 + step) % 2**63
        self.generator = torch.Generator().manual_seed(start)
        self.batch, self.rows, self.device = batch, slice(rank, None, world), device

    def __len__(self) -> int:
        return len(range(self.batch)[self.rows])

    def stream(self, name: str) -> "StepDraws":
        """The draws of this name. Asked for again, they continue."""
        if name not in self.streams:
            self.streams[name] = StepDraws(*self.arguments, name=_stream_name(self.name, name))
        return self.streams[name]

    def uniform(self, *shape: int) -> Tensor:
        """(N, *shape) in [0, 1)."""
        return torch.rand(self.batch, *shape, generator=self.generator)[self.rows].to(self.device)

    def normal(self, *shape: int) -> Tensor:
        """(N, *shape) of N(0, 1)."""
        return torch.randn(self.batch, *shape, generator=self.generator)[self.rows].to(self.device)

    def coin(self) -> float:
        """One number in [0, 1) for the whole step, the same on every process."""
        return torch.rand((), generator=self.generator).item()


class _RoutedDraws:
    """Draws whose calls all end in `_draw((stream, kind, shape))`."""

    name = ""

    def stream(self, name: str):
        made = copy.copy(self)
        made.name = _stream_name(self.name, name)
        return made

    def uniform(self, *shape: int) -> Tensor:
        return self._draw((self.name, "uniform", shape))

    def normal(self, *shape: int) -> Tensor:
        return self._draw((self.name, "normal", shape))

    def coin(self) -> float | Tensor:
        return self._draw((self.name, "coin", ()))


class NotedDraws(_RoutedDraws):
    """Other draws, with a list `calls` of every call: (stream, kind, shape)."""

    def __init__(self, draws: StepDraws | ImageDraws):
        self.draws, self.device, self.calls = draws, draws.device, []

    def __len__(self) -> int:
        return len(self.draws)

    def _draw(self, call: tuple) -> Tensor | float:
        self.calls.append(call)
        return _drawn_from(self.draws, call)


class PlacedDraws(_RoutedDraws):
    """Draws for a CUDA graph, in tensors that stay at the same address. `fill` writes the numbers of a step into them;
    a step must then make the calls that were noted, in the same order. A coin is a tensor here, since a captured graph
    cannot read a number back from the device."""

    def __init__(self, noted: NotedDraws):
        self.device, self.count = noted.device, len(noted)
        shapes = [() if kind == "coin" else (self.count, *shape) for _, kind, shape in noted.calls]
        self.places = [(call, torch.empty(s, device=self.device)) for call, s in zip(noted.calls, shapes, strict=True)]
        self.left = deque(self.places)  # not yet taken in this step

    def __len__(self) -> int:
        return self.count

    def fill(self, draws: StepDraws) -> None:
        self.left.clear()
        self.left.extend(self.places)
        for call, place in self.places:
            numbers = _drawn_from(draws, call)
            place.copy_(numbers) if isinstance(numbers, Tensor) else place.fill_(numbers)

    def _draw(self, call: tuple) -> Tensor:
        wanted, place = self.left.popleft() if self.left else (None, None)
        if wanted != call:
            raise RuntimeError(f"a training step draws {call} where the noted step drew {wanted}")
        return place


class GivenDraws(_RoutedDraws):
    """Draws whose numbers the caller gives: a tensor (N, *shape) for each call, in the order of the calls."""

    def __init__(self, numbers: Sequence[Tensor]):
        self.left = deque(numbers)

    def _draw(self, call: tuple) -> Tensor:
        return self.left.popleft()


class RepeatedDraws:
    """Draws for `times` copies of a batch, one copy after the other; each copy gets numbers of its own."""

    def __init__(self, draws: "Draws", times: int):
        self.draws, self.times, self.device = draws, times, draws.device

    def __len__(self) -> int:
        return self.times * len(self.draws)

    def stream(self, name: str) -> "RepeatedDraws":
        return RepeatedDraws(self.draws.stream(name), self.times)

    def uniform(self, *shape: int) -> Tensor:
        return torch.cat([self.draws.uniform(*shape) for _ in range(self.times)])

    def normal(self, *shape: int) -> Tensor:
        return torch.cat([self.draws.normal(*shape) for _ in range(self.times)])


def _stream_name(name: str, more: str) -> str:
    return f"{name}/{more}" if name else more


def _drawn_from(draws: StepDraws | ImageDraws, call: tuple[str, str, tuple[int, ...]]) -> Tensor | float:
    name, kind, shape = call
    return getattr(draws.stream(name) if name else draws, kind)(*shape)


Draws = ImageDraws | StepDraws | NotedDraws | PlacedDraws | GivenDraws | RepeatedDraws
