"""The standard streams of the command line, whatever the shell did to them.

A stream that was closed (`2>&-`) becomes one to nowhere; else the next file that is opened would take its number, and
would be written into by whatever warns on it. Progress that nobody can read any more (`2>&1 | head`) must not end
a training: what stderr does not take is dropped. Results are another matter: what stdout does not take is an error, of
which the program tells.
"""

import io
import os
import sys


class Unwritable(OSError):
    """Standard output takes no more, and not because its reader has seen enough. The message is one line."""


class _Forgiving(io.FileIO):
    def write(self, data) -> int:
        try:
            return super().write(data)
        except OSError:
            return len(data)


class _Told(io.FileIO):
    def write(self, data) -> int:
        try:
            return super().write(data)
        except BrokenPipeError:
            raise
        except OSError as error:
            raise Unwritable(f"standard output: {error.strerror}") from None


def prepare() -> None:
    """Makes the three streams usable. Those that a caller has put in their place stay."""
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest number that is free, this one
        if getattr(sys, name) is None:
            setattr(sys, name, open(number, "w" if number else "r", encoding="utf-8", closefd=False))
    for name, kind in (("stdout", _Told), ("stderr", _Forgiving)):
        stream = getattr(sys, name)
        if stream is getattr(sys, f"__{name}__") and _is_a_file(stream):
            setattr(sys, name, _over(kind, stream))
    for stream in (sys.stdout, sys.stderr):  # a file's name need not be text, and text need not suit the terminal
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")


def _is_a_file(stream) -> bool:
    """Not the console of Windows, which is no file, nor what an editor has put there."""
    below = getattr(stream, "buffer", None)
    return type(getattr(below, "raw", below)) is io.FileIO


def _over(kind: type[io.FileIO], stream: io.TextIOWrapper) -> io.TextIOWrapper:
    """A stream like the one given, on the same file, that writes by `kind`."""
    return io.TextIOWrapper(
        io.BufferedWriter(kind(stream.fileno(), "w", closefd=False)),
        encoding=stream.encoding,
        errors=stream.errors,
        line_buffering=stream.line_buffering,
        write_through=stream.write_through,
    )


def drop_output() -> None:
    """From here on, what goes to stdout goes nowhere, what waits to be written among it."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
