"""Classes that samples have, or were made for, beside those that a classifier names for them."""

from collections.abc import Sequence

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


def numbered_as(
    labels: Tensor, names: Sequence[str] | None, wanted: Sequence[str], source: str, notes: list[str]
) -> Tensor:
    """Labels `(N,)` in a classifier's numbering. Classes are matched by their names (without names: their numbers).

    names, wanted: of the labels' classes, and of the classifier's. If it knows none of them, and has as many, they are
    taken by number, and a note says so. UserError, which begins with the source, for any other class that it lacks.
    """
    wanted = list(wanted)
    names = list(names or map(str, range(max(len(wanted), int(labels.max()) + 1))))
    unknown = [name for name in names if name not in wanted]
    if not unknown:
        return torch.tensor([wanted.index(name) for name in names])[labels]
    if len(unknown) < len(names) or len(names) != len(wanted):
        known = ", ".join(wanted[:12]) + (", ..." if len(wanted) > 12 else "")
        raise UserError(f"{source}: class {unknown[0]!r} is not one of the classifier's {len(wanted)} ({known})")
    notes.append(f"classes of {source} taken by number: {names[0]!r} for the classifier's {wanted[0]!r}, and so on")
    return labels
