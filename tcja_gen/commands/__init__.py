"""The commands: each a dataclass whose fields are its flags, whose text is its help, and whose `run` does it.

Heavy things are imported inside `run`, so that help comes at once.
"""

import io
from contextlib import redirect_stderr
from inspect import cleandoc

import tyro

from ..errors import UserError
from .images import Interpolate, Reconstruct, Sample
from .look import Check, Show
from .scores import Evaluate, Predict, Reference
from .train import Demo, FlagsOfTrain, Train

COMMANDS = {
    "demo": Demo,
    "train": Train,
    "sample": Sample,
    "reconstruct": Reconstruct,
    "interpolate": Interpolate,
    "predict": Predict,
    "evaluate": Evaluate,
    "reference": Reference,
    "check": Check,
    "show": Show,
}


def parse(command: type, name: str, arguments: list[str]):
    """The command's dataclass, filled from flags. ValueError, one line, for a mistake in them."""

    def flags(kind: type, **options):
        prog, text = f"tcja-gen {name}", cleandoc(command.__doc__)
        try:
            with redirect_stderr(io.StringIO()) as said:
                return tyro.cli(kind, prog=prog, args=arguments, description=text, **options)
        except SystemExit as end:
            if not end.code:  # help was asked for
                raise
            raise UserError(f"{_first_of(said.getvalue())}; {prog} --help tells the options") from None

    if command is not Train:
        return flags(command)
    asked = flags(FlagsOfTrain)
    return flags(Train, default=Train(asked.file, asked.resume, asked.base()))


def _first_of(box: str) -> str:
    """What the first box of tyro's says, above its rule, on one line."""
    words = []
    for line in box.splitlines()[1:]:
        line = line.strip("│╭╮╰╯ ")
        if set(line) <= {"─"}:
            break
        words += line.split()
    return " ".join(words) or "the options cannot be read"
