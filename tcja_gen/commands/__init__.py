"""The commands: each a dataclass whose fields are its flags, whose text is its help, and whose `run` does it.

Heavy things are imported inside `run`, so that help comes at once.
"""

import ast
import io
import os
import shutil
import sys
from contextlib import contextmanager, redirect_stderr
from inspect import cleandoc, getsource

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


NARROWEST = 40  # columns; tyro takes all memory there is to lay its help out in 4 of them


def parse(command: type, name: str, arguments: list[str]):
    """The command's dataclass, filled from flags. ValueError, one line, for a mistake in them."""

    def flags(kind: type, **options):
        prog, text = f"tcja-gen {name}", _text(command)
        try:
            with _wide_enough(), redirect_stderr(io.StringIO()) as said:
                return tyro.cli(kind, prog=prog, args=arguments, description=text, **options)
        except SystemExit as end:
            if not end.code:  # help was asked for
                raise
            raise UserError(f"{_first_of(said.getvalue())}; {prog} --help tells the options") from None

    if command is not Train:
        return flags(command)
    asked = flags(FlagsOfTrain)
    return flags(Train, default=Train(asked.file, asked.resume, asked.base()))


def _text(command: type) -> str:
    """The command's text; from its source where Python keeps none (python -OO)."""
    kept = sys.flags.optimize < 2
    return cleandoc(command.__doc__) if kept else ast.get_docstring(ast.parse(getsource(command)).body[0])


@contextmanager
def _wide_enough():
    """Inside, the terminal seems to have at least `NARROWEST` columns."""
    before = os.environ.get("COLUMNS")
    if shutil.get_terminal_size().columns < NARROWEST:
        os.environ["COLUMNS"] = str(NARROWEST)
    try:
        yield
    finally:
        os.environ.pop("COLUMNS", None)
        os.environ.update({} if before is None else {"COLUMNS": before})


def _first_of(box: str) -> str:
    """What the first box of tyro's says, above its rule, on one line."""
    words = []
    for line in box.splitlines()[1:]:
        line = line.strip("│╭╮╰╯ ")
        if set(line) <= {"─"}:
            break
        words += line.split()
    return " ".join(words) or "the options cannot be read"
