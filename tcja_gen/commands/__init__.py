"""The commands: each a dataclass whose fields are its flags, whose text is its help, and whose `run` does it.

Heavy things are imported inside `run`, so that help comes at once.
"""

import ast
import os
import shutil
import sys
from contextlib import contextmanager
from inspect import cleandoc, getsource

import tyro

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
    """The command's dataclass, filled from flags. A mistake in them ends the program with exit code 2."""

    def flags(kind: type, **options):
        with _wide_enough():
            return tyro.cli(kind, prog=f"tcja-gen {name}", args=arguments, description=_text(command), **options)

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
