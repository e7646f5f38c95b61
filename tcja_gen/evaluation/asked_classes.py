"""Which class a classifier of the data names for samples that were made for a class."""

import torch
from torch import Tensor

from ..errors import UserError


def recognition(labels: Tensor, named: Tensor, names: list[str]) -> dict:
    """A row for each class, and counts (K, K) with a row for each class asked for. labels, named: `(N,)`."""
    counts = confusion(labels, named, len(names))
    rows = [_row(name, k, counts[k], names) for k, name in enumerate(names)]
    return {"classes": rows, "confusion": counts.tolist()}


def confusion(labels: Tensor, named: Tensor, classes: int) -> Tensor:
    """Counts (K, K): how often each class, a row, was named each class."""
    counts = torch.zeros(classes, classes, dtype=torch.int64)
    return counts.index_put_((labels, named), torch.tensor(1), accumulate=True)


def _row(name: str, k: int, counts: Tensor, names: list[str]) -> dict:
    """The share of a class that is recognised, and the other class that it is most often taken for."""
    n, others = int(counts.sum()), counts.clone()
    others[k] = 0
    taken = names[int(others.argmax())] if others.any() else None
    return {"class": name, "count": n, "recognised": int(counts[k]) / n if n else None, "else taken for": taken}


def numbered_as(labels: Tensor, names: list[str] | None, wanted: list[str]) -> Tensor:
    """Labels `(N,)` in the numbering of the classifier's classes: by their names, or by number if those are unknown.

    UserError for a class that the classifier does not have.
    """
    names = names or [*map(str, range(int(labels.max()) + 1))]
    if not (unknown := [name for name in names if name not in wanted]):
        return torch.tensor([wanted.index(name) for name in names])[labels]
    if len(unknown) < len(names) or len(names) > len(wanted):
        known = ", ".join(wanted[:12])
        raise UserError(f"class {unknown[0]!r} of the samples is not one of the classifier's ({known})")
    return labels
