"""Checks that losses, gradient norms and validation scores are finite, before a checkpoint or a log line is written.

The numbers of a step stay on the device until they are checked, so that the loop does not wait for a GPU at every step.
"""

import math

import torch
import torch.distributed as dist
from torch import Tensor

from ..errors import Diverged


class Guard:
    """Numbers of the training steps since the last report, by name, as means over all processes."""

    def __init__(self, advice: str, world: int = 1):
        """advice: the end of an error message. world: the number of processes."""
        self.advice, self.world = advice, world
        self.names: list[str] = []
        self.new: list[Tensor] = []  # numbers of the steps that are not checked yet, (numbers,) each
        self.checked: list[Tensor] = []  # numbers of the steps that are checked

    def __len__(self) -> int:
        return len(self.new) + len(self.checked)

    def add(self, numbers: dict[str, Tensor]) -> None:
        """Adds the numbers of a training step, scalars by name."""
        self.names = [*numbers]
        self.new.append(torch.stack([value.float() for value in numbers.values()]))

    def check(self, step: int, saved: str) -> None:
        """Checks all steps up to `step`. Diverged, which names the first step with a number that is not finite.

        saved: words about what has been saved so far, for the message.
        """
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
            self._diverged("loss", step - len(table) + row + 1, fault, saved)
        self.checked += table
        self.new = []

    def check_scores(self, scores: dict[str, float], step: int, saved: str) -> None:
        """Diverged if a score on validation samples is not finite. saved: as for `check`."""
        for name, value in scores.items():
            if not math.isfinite(value):
                self._diverged(f"validation {name}", step, f"is {value}", saved)

    def means(self) -> dict[str, float]:
        """Means, by name, over the checked steps since the last call."""
        means = torch.stack(self.checked).mean(0).tolist()
        self.checked = []
        return dict(zip(self.names, means, strict=True))

    def _diverged(self, what: str, step: int, fault: str, saved: str) -> None:
        raise Diverged(f"the {what} of step {step} {fault}; {saved}; {self.advice}")
