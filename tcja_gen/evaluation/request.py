"""The request of an evaluation: all its arguments in one object, checked once."""

import operator
import os
from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path

import torch
from torch import Tensor

from ..data.pictures import SMALLEST
from ..errors import UserError
from ..metrics.inception import RESIZES
from ..process import known_device, this_process
from ..ranges import setting
from .metric_names import METRICS

File = str | Path | None


@dataclass(frozen=True, kw_only=True)
class Request:
    """The arguments of `api.evaluate` and `api.reference`, which explain them. None: not given.

    UserError, one line, for a value that no evaluation can work with.
    """

    data: File = None
    metrics: str | Sequence[str] = ()
    n: int | None = setting(None, least=1)
    repeats: int | None = setting(None, least=2)
    split: str = "test"
    reference: File = None
    autoencoder: File = None
    classifier: File = None
    inception: File = None
    torchvision: File = None
    dinov2: File = None
    recogniser: File = None
    resize: str | None = None
    is_splits: int | None = setting(None, least=1)
    size: int | None = setting(None, least=SMALLEST)
    channels: int | None = setting(None, least=1, most=3)
    root: str | Path = "data"
    download: bool = False
    seed: int = setting(0, least=0, below=2**63)
    batch: int = setting(256, least=1)
    device: str | torch.device = "cpu"
    progress: bool = False
    from_shell: bool = False  # then messages name flags (--is-splits) in place of arguments (is_splits)

    def __post_init__(self):
        object.__setattr__(self, "metrics", _metric_names(self.metrics))
        for field in fields(self):
            value, name = getattr(self, field.name), self.spell(field.name)
            if "range" in field.metadata and value is not None:
                object.__setattr__(self, field.name, whole(name, value))
                field.metadata["range"].check(name, getattr(self, field.name))
        known_device(self.device)
        if self.channels == 2:
            raise UserError(f"{self.spell('channels')} is 2, it must be 1 (grey) or 3 (RGB)")
        if self.resize not in (None, *RESIZES):
            raise UserError(f"unknown {self.spell('resize')} {self.resize!r}; there are {', '.join(RESIZES)}")
        if self.data is not None and not isinstance(self.data, str | os.PathLike):
            kind = type(self.data).__name__
            raise UserError(f"data are a {kind}; a set's name, or the path of a folder or zip, is wanted")

    @property
    def everything(self) -> bool:
        """Whether all metrics are asked for: those that cannot be computed are left out with a note."""
        return self.metrics == ("all",)

    @property
    def draws_samples(self) -> bool:
        """Whether a generator makes samples for it. No metrics named stand for some of samples."""
        return not self.metrics or self.everything or any(METRICS[name].of == "samples" for name in self.metrics)

    @property
    def held_out(self) -> bool:
        """Whether the split has no training images."""
        return self.split in ("validation", "test")

    @property
    def shows_progress(self) -> bool:
        """Whether this process draws progress bars: only the first one does."""
        return self.progress and this_process(self.device).first

    def draw(self, total: int) -> Tensor:
        """Ascending numbers of at most n of so many samples; all of them where n is not given.

        The choice is random, drawn by the seed, because folders are often sorted by class.
        """
        order = torch.randperm(total, generator=torch.Generator().manual_seed(self.seed))[: self.n]
        return order.sort().values

    def spell(self, name: str) -> str:
        """An argument as its user knows it: is_splits in Python, --is-splits in the shell."""
        return "--" + name.replace("_", "-") if self.from_shell else name

    def refuse_unused(self, names: Sequence[str]) -> None:
        """UserError for an option that is given and changes none of these metrics."""
        options = set().union(*(metric.options for metric in METRICS.values()))
        given = [field.name for field in fields(self) if getattr(self, field.name) is not None]
        taken = set().union(*(METRICS[name].options for name in names))
        if unused := [self.spell(name) for name in given if name in options - taken]:
            raise UserError(f"{', '.join(names)} takes no {' or '.join(unused)}: leave it out")


def _metric_names(metrics: str | Sequence[str] | None) -> tuple[str, ...]:
    """The names in a list, or in a string with commas between them, in any case; UserError for one that is unknown."""
    if isinstance(metrics, str):
        metrics = [name.strip() for name in metrics.split(",") if name.strip()]
    try:
        names = tuple(str(name).lower().replace("_", "-") for name in metrics or ())
    except TypeError:
        raise UserError(f"metrics are {metrics!r}; names are wanted, as a list or as 'fad,psnr'") from None
    known = [*METRICS, "all"]
    if unknown := [name for name in names if name not in known]:
        raise UserError(f"unknown metric {', '.join(unknown)}; known are {', '.join(known)}")
    if "all" in names and len(names) > 1:
        raise UserError("the metric all stands for all others: name it alone")
    return names


def whole(name: str, value) -> int:
    """A whole number of any library as an int, which JSON takes. UserError for another value."""
    try:
        return operator.index(value)
    except TypeError:
        raise UserError(f"{name} is {value!r}, it must be a whole number") from None
