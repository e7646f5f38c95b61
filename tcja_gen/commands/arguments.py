"""Types of flags that several commands have, and checks that run before torch is imported, which takes seconds."""

import os
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated

from tyro.conf import OmitArgPrefixes, Positional, arg

from ..errors import MissingFile, UserError
from ..files import check_file, check_writable
from ..shipped import is_published, no_such_model

Run = Annotated[Positional[str], arg(metavar="RUN")]
Data = Annotated[Positional[str], arg(metavar="DATA")]
Number = Annotated[int, arg(aliases=["--number"])]  # torchrun mistakes --n for an option of its own


@dataclass
class Sampling:
    """How the prior of spatial codes is sampled; default: as the model was trained."""

    rounds: int | None = None
    """Passes of the prior for a sample. Fewer are faster and worse."""
    order: str | None = None
    """Order of the places: coarse-to-fine, rows or shuffled; for a prior trained with random_masks."""
    sweeps: int | None = None
    """How often all tokens are drawn again afterwards, given all others; for a prior trained with random_masks."""
    temperature: float | None = None
    """Temperature of the prior. Higher gives more varied images."""
    guidance: float | None = None
    """Weight of the class, for a conditional prior trained with class_dropout: clearer images of less variety."""
    guided_rounds: float | None = None
    """Share of the rounds, the last ones, that are guided."""

    def given(self) -> str:
        """The flags that are given, with commas between."""
        return ", ".join(f"--{flag.replace('_', '-')}" for flag, value in asdict(self).items() if value is not None)

    def set(self, model, name: str) -> None:
        """Changes how the model samples. UserError if it is no generator. name: of the model, for the message."""
        if not hasattr(model, "sample_by"):
            if flags := self.given():
                raise UserError(f"{flags}: for a generator's prior, and {name} is no generator")
            return
        model.sample_by(**asdict(self))


SamplingFlags = OmitArgPrefixes[Sampling]


def run_exists(run: str) -> None:
    """MissingFile if a name is neither a path, nor a pretrained model, nor one of the hub."""
    if run and not Path(run).exists() and not is_published(run):
        raise MissingFile(no_such_model(run))


def files_exist(*paths: str) -> None:
    """MissingFile for the first path that does not exist; empty ones are ignored."""
    for path in paths:
        if path and not Path(path).exists():
            raise MissingFile(f"{path}: no such file or folder")


def file_writable(path: str, flag: str) -> None:
    """UserError if a file that a flag names is a folder, OSError if it is a device or a pipe, or if its folder cannot
    be written to; "" is ignored."""
    if path and (path.endswith(("/", os.sep)) or Path(path).is_dir()):
        raise UserError(f"{flag} {path}: a folder; name a file in it")
    if path:
        check_file(Path(path))


def writable_for_scores(folder: Path) -> None:
    """UserError, before the work, if the scores of a run cannot be kept in its folder."""
    try:
        check_writable(folder)
    except OSError as error:
        raise UserError(f"{error.filename}: {error.strerror}; --out FILE keeps the scores elsewhere") from None


def data_exists(data: str) -> None:
    """MissingFile if `data` looks like a path and does not exist. Names of data sets are checked later."""
    if os.sep in data or Path(data).suffix:
        files_exist(data)


def start(device: str = "auto"):
    """This `process.Process`, with its rank and device. Imports torch only now."""
    from .. import process

    return process.start(device)
