"""Random numbers for a batch of N images, each row its own.

A layer that needs chance asks for `uniform(*shape)` or `normal(*shape)` and gets (N, *shape). Where the numbers come
from is decided outside: one generator per image when sampling, so that image i never depends on its neighbours; one
generator per training step, drawn for the global batch and sliced, so that a run does not depend on the number of
processes and a resumed run needs no random state. Numbers are drawn on the CPU, so every device sees the same ones.

The draws as they are handed over are the latent's. Other uses of chance have streams of their own, by name:
`draws.stream("dropout")` are draws whose generators are seeded by a hash of that name and the seed. One stream's calls
change no number of another, and streams of the same seed are independent of each other.
"""

import copy
import hashlib
from collections import deque
from collections.abc import Sequence

import torch
from torch import Tensor


def hashed(*parts: str | int) -> int:
    """A seed of 63 bits made of all parts."""
    return int.from_bytes(hashlib.sha256(" ".join(map(str, parts)).encode()).digest()[:8], "big") >> 1


class ImageDraws:
    """One generator per image, from its seed: row i depends on seeds[i] and the calls made, on nothing else."""

    def __init__(self, seeds: Sequence[int] | Tensor, device: torch.device | str = "cpu", name: str = ""):
        self.seeds, self.device, self.name, self.streams = [int(seed) for seed in seeds], device, name, {}
        starts = [hashed(name, seed) if name else seed for seed in self.seeds]
        self.generators = [torch.Generator().manual_seed(start) for start in starts]

    def __len__(self) -> int:
        return len(self.generators)

    def stream(self, name: str) -> "ImageDraws":
        """The draws of this name; the next call goes on where the last one ended."""
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
    """Draws of one training step: rows `rank::world` of what (seed, step) gives for the global batch."""

    def __init__(self, seed: int, step: int, batch: int, rank: int = 0, world: int = 1, device="cpu", name: str = ""):
        self.arguments, self.name, self.streams = (seed, step, batch, rank, world, device), name, {}
        start = hashed(name, seed, step) if name else (seed * 1_000_003 + step) % 2**63
        self.generator = torch.Generator().manual_seed(start)
        self.batch, self.rows, self.device = batch, slice(rank, None, world), device

    def __len__(self) -> int:
        return len(range(self.batch)[self.rows])

    def stream(self, name: str) -> "StepDraws":
        """The draws of this name; the next call goes on where the last one ended."""
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
    """Draws that hand every call, with the name of its stream, to one place: `_draw`."""

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
    """The draws of a step as they are, and a note of which were asked for, of which stream, in `calls`."""

    def __init__(self, draws: StepDraws):
        self.draws, self.device, self.calls = draws, draws.device, []

    def __len__(self) -> int:
        return len(self.draws)

    def _draw(self, call: tuple) -> Tensor | float:
        self.calls.append(call)
        return _drawn_from(self.draws, call)


class PlacedDraws(_RoutedDraws):
    """Draws that lie in the same places of the device at every step: `fill` puts those of a step there, and the same
    calls in the same order as those noted get them. A coin is a tensor here, for nothing on the device may be asked
    about while a graph is captured."""

    def __init__(self, noted: NotedDraws):
        self.device, self.count = noted.device, len(noted)
        shapes = [() if kind == "coin" else (self.count, *shape) for _, kind, shape in noted.calls]
        self.places = [(call, torch.empty(s, device=self.device)) for call, s in zip(noted.calls, shapes, strict=True)]
        self.left = deque(self.places)  # that have not been asked for in this step

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
            raise RuntimeError(f"a step draws {call} where the one before drew {wanted}")
        return place


class RepeatedDraws:
    """Draws of a batch that holds every image `times` times over, one copy of the batch behind the other."""

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


def _drawn_from(draws: StepDraws, call: tuple[str, str, tuple[int, ...]]) -> Tensor | float:
    name, kind, shape = call
    return getattr(draws.stream(name) if name else draws, kind)(*shape)


Draws = ImageDraws | StepDraws | NotedDraws | PlacedDraws | RepeatedDraws
