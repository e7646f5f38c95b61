"""Random numbers for a batch of N images, each row its own.

A layer that needs chance asks for `uniform(*shape)` or `normal(*shape)` and gets (N, *shape). Where the numbers come
from is decided outside: one generator per image when sampling, so that image i never depends on its neighbours; one
generator per training step, drawn for the global batch and sliced, so that a run does not depend on the number of
processes and a resumed run needs no random state. Numbers are drawn on the CPU, so every device sees the same ones.
"""

from collections.abc import Sequence

import torch
from torch import Tensor


class ImageDraws:
    """One generator per image, from its seed: row i depends on seeds[i] and the calls made, on nothing else."""

    def __init__(self, seeds: Sequence[int] | Tensor, device: torch.device | str = "cpu"):
        self.generators = [torch.Generator().manual_seed(int(seed)) for seed in seeds]
        self.device = device

    def __len__(self) -> int:
        return len(self.generators)

    def uniform(self, *shape: int) -> Tensor:
        """(N, *shape) in [0, 1)."""
        return torch.stack([torch.rand(shape, generator=g) for g in self.generators]).to(self.device)

    def normal(self, *shape: int) -> Tensor:
        """(N, *shape) of N(0, 1)."""
        return torch.stack([torch.randn(shape, generator=g) for g in self.generators]).to(self.device)


class StepDraws:
    """Draws of one training step: rows `rank::world` of what (seed, step) gives for the global batch."""

    def __init__(self, seed: int, step: int, batch: int, rank: int = 0, world: int = 1, device="cpu"):
        self.generator = torch.Generator().manual_seed((seed * 1_000_003 + step) % 2**63)
        self.batch, self.rows, self.device = batch, slice(rank, None, world), device

    def __len__(self) -> int:
        return len(range(self.batch)[self.rows])

    def uniform(self, *shape: int) -> Tensor:
        """(N, *shape) in [0, 1)."""
        return torch.rand(self.batch, *shape, generator=self.generator)[self.rows].to(self.device)

    def normal(self, *shape: int) -> Tensor:
        """(N, *shape) of N(0, 1)."""
        return torch.randn(self.batch, *shape, generator=self.generator)[self.rows].to(self.device)

    def coin(self) -> float:
        """One number in [0, 1) for the whole step, the same on every process."""
        return torch.rand((), generator=self.generator).item()


class NotedDraws:
    """The draws of a step as they are, and a note of which were asked for, in `calls`."""

    def __init__(self, draws: StepDraws):
        self.draws, self.device, self.calls = draws, draws.device, []

    def __len__(self) -> int:
        return len(self.draws)

    def __getattr__(self, kind: str):
        def draw(*shape: int):
            self.calls.append((kind, shape))
            return getattr(self.draws, kind)(*shape)

        return draw


class PlacedDraws:
    """Draws that lie in the same places of the device at every step: `fill` puts those of a step there, and the same
    calls in the same order as those noted get them. A coin is a tensor here, for nothing on the device may be asked
    about while a graph is captured."""

    def __init__(self, noted: NotedDraws):
        self.device, self.count, self.calls = noted.device, len(noted), noted.calls
        shapes = [() if kind == "coin" else (self.count, *shape) for kind, shape in noted.calls]
        self.places = [torch.empty(shape, device=self.device) for shape in shapes]
        self.next = 0

    def __len__(self) -> int:
        return self.count

    def fill(self, draws: StepDraws) -> None:
        self.next = 0
        for place, (kind, shape) in zip(self.places, self.calls, strict=True):
            numbers = getattr(draws, kind)(*shape)
            place.fill_(numbers) if kind == "coin" else place.copy_(numbers)

    def uniform(self, *shape: int) -> Tensor:
        return self._placed("uniform", shape)

    def normal(self, *shape: int) -> Tensor:
        return self._placed("normal", shape)

    def coin(self) -> Tensor:
        return self._placed("coin", ())

    def _placed(self, kind: str, shape: tuple[int, ...]) -> Tensor:
        wanted = self.calls[self.next] if self.next < len(self.calls) else None
        if wanted != (kind, shape):
            raise RuntimeError(f"a step draws {kind} {shape} where the one before drew {wanted}")
        self.next += 1
        return self.places[self.next - 1]


Draws = ImageDraws | StepDraws | NotedDraws | PlacedDraws
