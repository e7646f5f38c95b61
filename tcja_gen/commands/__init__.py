"""The commands: each a dataclass whose fields are its flags, whose text is its help, and whose `run` does it.

Heavy things are imported inside `run`, so that help comes at once.
"""

import ast
import io
import os
import shutil
import sys
from contextlib import contextmanager, redirect_stderr
from importlib import import_module
from inspect import cleandoc, getsource

import tyro

from .. import registry
from ..errors import UserError

COMMANDS = {  # where each is: a module is imported when its command is run
    "demo": ("train", "Demo"),
    "train": ("train", "Train"),
    "sample": ("images", "Sample"),
    "reconstruct": ("images", "Reconstruct"),
    "interpolate": ("images", "Interpolate"),
    "predict": ("scores", "Predict"),
    "evaluate": ("scores", "Evaluate"),
    "reference": ("scores", "Reference"),
    "check": ("look", "Check"),
    "show": ("look", "Show"),
    "list": ("look", "List"),
}
NARROWEST = 40  # columns; tyro takes all memory there is to lay its help out in 4 of them


def parse(name: str, arguments: list[str]):
    """The command of a name, filled from flags. UserError, one line, for a mistake in them."""
    module, kind = COMMANDS[name]
    arguments = _without_plugins(arguments)
    room = import_module(f".{module}", __name__)
    command = getattr(room, kind)

    def read(flags: type):
        prog, text = f"tcja-gen {name}", _text(command)
        try:
            with _wide_enough(), redirect_stderr(io.StringIO()) as said:
                return tyro.cli(flags, prog=prog, args=arguments, description=text)
        except SystemExit as end:
            if not end.code:  # help was asked for
                raise
            raise UserError(f"{_first_of(said.getvalue())}; {prog} --help tells the options") from None

    return room.parse(arguments, read) if name == "train" else read(command)


def _without_plugins(arguments: list[str]) -> list[str]:
    """Loads what every command takes, --plugin FILE; the arguments without it."""
    left, files, given = [], [], iter(arguments)
    for word in given:
        if word == "--plugin":
            files.append(_file(next(given, "")))
        elif word.startswith("--plugin="):
            files.append(_file(word.partition("=")[2]))
        else:
            left.append(word)
    if files:
        from .. import data, nn  # noqa: F401  whose own names come first
    for file in files:
        registry.load_plugin(file)
    return left


def _file(word: str) -> str:
    if not word or word.startswith("--"):
        raise UserError("--plugin wants a Python file")
    return word


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
        if not set(line) <= {*"─-"}:  # of - where the terminal has ASCII only
            words += line.split()
        elif words:
            break
    return " ".join(words) or "the options cannot be read"
