"""What commands share."""

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
    """MissingFile if a name is no run and no pretrained model; asked before torch is imported, which takes seconds."""
    if run and not Path(run).exists() and run not in weights():
        raise MissingFile(no_such_model(run))


def files_exist(*paths: str) -> None:
    """The same of files and folders."""
    for path in paths:
        if path and not Path(path).exists():
            raise MissingFile(f"{path}: no such file or folder")


def data_exists(data: str) -> None:
    """The same of a data set that is told by a path; names are looked up later."""
    if os.sep in data or Path(data).suffix:
        files_exist(data)


def start(device: str = "auto"):
    """Place of this process, and its device."""
    from .. import process

    return process.start(device)
