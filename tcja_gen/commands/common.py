"""What commands share."""

from typing import Annotated

from tyro.conf import Positional, arg

Run = Annotated[Positional[str], arg(metavar="RUN")]
Data = Annotated[Positional[str], arg(metavar="DATA")]
Number = Annotated[int, arg(aliases=["--number"])]  # torchrun mistakes --n for an option of its own


def start(device: str = "auto"):
    """Place of this process, and its device."""
    from .. import process

    return process.start(device)
