"""The commands. Each is a dataclass: its fields are the flags, its docstring is the help, and `run` does the work.

Heavy modules are imported inside `run`, so that --help is fast.
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

COMMANDS = {  # name: (module, class); a module is imported only when its command is used
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
    "export": ("share", "Export"),
    "push": ("share", "Push"),
}
NARROWEST = 40  # columns; in a terminal of 4 columns tyro uses up all memory to lay out its help


def parse(name: str, arguments: list[str]):
    """The command of this name with the values of its flags. UserError for a mistake in the flags."""
    module, kind = COMMANDS[name]
    arguments = _without_plugins(arguments)
    room = import_module(f".{module}", __name__)
    command = getattr(room, kind)

    def read(flags: type):
        prog, text = f"tcja-gen {name}", _text(command)
        try:
            with _wide_enough(), redirect_stderr(io.StringIO()) as message:
                return tyro.cli(flags, prog=prog, args=arguments, description=text)
        except SystemExit as end:
            if not end.code:  # --help
                raise
            raise UserError(f"{_first_box(message.getvalue())}; {prog} --help shows the options") from None

    return room.parse(arguments, read) if name == "train" else read(command)


def _without_plugins(arguments: list[str]) -> list[str]:
    """Loads the files of --plugin, which every command takes, and returns the other arguments."""
    others, files, words = [], [], iter(arguments)
    for word in words:
        if word == "--plugin":
            files.append(_file(next(words, "")))
        elif word.startswith("--plugin="):
            files.append(_file(word.partition("=")[2]))
        else:
            others.append(word)
    if files:
        from .. import data, nn  # noqa: F401  registers the package's own names before those of plugins
    for file in files:
        registry.load_plugin(file)
    return others


def _file(word: str) -> str:
    if not word or word.startswith("--"):
        raise UserError("--plugin wants a Python file")
    return word


def _text(command: type) -> str:
    """The command's docstring; read from its source if Python has dropped it (python -OO)."""
    if sys.flags.optimize < 2:
        return cleandoc(command.__doc__)
    return ast.get_docstring(ast.parse(getsource(command)).body[0])


@contextmanager
def _wide_enough():
    """Inside, programs see a terminal of at least `NARROWEST` columns."""
    before = os.environ.get("COLUMNS")
    if shutil.get_terminal_size().columns < NARROWEST:
        os.environ["COLUMNS"] = str(NARROWEST)
    try:
        yield
    finally:
        os.environ.pop("COLUMNS", None)
        os.environ.update({} if before is None else {"COLUMNS": before})


def _first_box(message: str) -> str:
    """The text in the first box of tyro's message, above its rule, on one line."""
    words = []
    for line in message.splitlines()[1:]:
        line = line.strip("│╭╮╰╯ ")
        if not set(line) <= {*"─-"}:  # of - where the terminal has ASCII only
            words += line.split()
        elif words:
            break
    return " ".join(words) or "the options cannot be read"
