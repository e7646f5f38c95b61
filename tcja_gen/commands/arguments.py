"""Types of flags that several commands have, and checks that run before torch is imported, which takes seconds."""

import os
from pathlib import Path
from typing import Annotated

from tyro.conf import Positional, arg

from ..errors import MissingFile
from ..shipped import no_such_model, weights

Run = Annotated[Positional[str], arg(metavar="RUN")]
Data = Annotated[Positional[str], arg(metavar="DATA")]
Number = Annotated[int, arg(aliases=["--number"])]  # torchrun mistakes --n for an option of its own


def run_exists(run: str) -> None:
    """MissingFile if a name is neither a path, nor a pretrained model, nor one of the hub."""
    if run and not Path(run).exists() and run not in weights() and not run.startswith("hf:"):
        raise MissingFile(no_such_model(run))


def files_exist(*paths: str) -> None:
    """MissingFile for the first path that does not exist; empty ones are ignored."""
    for path in paths:
        if path and not Path(path).exists():
            raise MissingFile(f"{path}: no such file or folder")


def data_exists(data: str) -> None:
    """MissingFile if `data` looks like a path and does not exist. Names of data sets are checked later."""
    if os.sep in data or Path(data).suffix:
        files_exist(data)


def start(device: str = "auto"):
    """This `process.Process`, with its rank and device. Imports torch only now."""
    from .. import process

    return process.start(device)
