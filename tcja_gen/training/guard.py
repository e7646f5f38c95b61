"""Nothing is kept that is not finite: the losses and gradient norm of every training step, and the scores on validation
samples, are looked at here before a checkpoint is written or a line is logged.

A step's numbers stay on the device until someone asks, so that a GPU is not waited for at every step.
"""

import math

import torch
import torch.distributed as dist
from torch import Tensor

from ..errors import Diverged


class Guard:
    """Numbers of the training steps since the last report, by name, as means over all processes."""

    def __init__(self, advice: str, world: int = 1):
        """advice: what a message says after naming the step; world: the number of processes."""
        self.advice, self.world = advice, world
        self.names: list[str] = []
        self.new: list[Tensor] = []  # of steps that were not looked at yet, (numbers,) each
        self.seen: list[Tensor] = []  # of those that were

    def __len__(self) -> int:
        return len(self.new) + len(self.seen)

    def add(self, numbers: dict[str, Tensor]) -> None:
        """The numbers of one more training step."""
        self.names = [*numbers]
        self.new.append(torch.stack([value.float() for value in numbers.values()]))

    def check(self, step: int, kept: str) -> None:
        """Looks at all steps up to `step`. Diverged, one line, names the first that is not finite, and what is kept."""
        if not self.new:
            return
        table = torch.stack(self.new)  # (steps, numbers)
        if self.world > 1:
            dist.all_reduce(table)
            table /= self.world
        table = table.cpu()
        bad = (~table.isfinite()).nonzero().tolist()
        if bad:
            row, column = bad[0]
            name, value = self.names[column].replace("_", " "), table[row, column].item()
            fault = f"has a {name} of {value}" if column else f"is {value}"
            self._diverged("loss", step - len(table) + row + 1, fault, kept)
        self.seen += table
        self.new = []

    def check_scores(self, scores: dict[str, float], step: int, kept: str) -> None:
        """Diverged, one line, if a score on validation samples is not finite."""
        for name, value in scores.items():
            if not math.isfinite(value):
                self._diverged(f"validation {name}", step, f"is {value}", kept)

    def means(self) -> dict[str, float]:
        """Means over the steps since the last call, all of which have been checked."""
        means = torch.stack(self.seen).mean(0).tolist()
        self.seen = []
        return dict(zip(self.names, means, strict=True))

    def _diverged(self, what: str, step: int, fault: str, kept: str) -> None:
        raise Diverged(f"the {what} of step {step} {fault}; {kept}; {self.advice}")
