"""Makes the standard streams of the command line safe, whatever the shell did to them.

A closed stream (`2>&-`) is opened to the null device. Otherwise the next file that is opened would get its number, and
warnings would be written into that file. Progress that nobody can read any more (`2>&1 | head`) must not end a
training, so stderr drops what it cannot write. Results matter: if stdout cannot be written to, that is an error.
"""

import io
import os
import sys


class Unwritable(OSError):
    """Standard output cannot be written to, for another reason than a closed pipe. The message is one line."""


class _DropErrors(io.FileIO):
    def write(self, data) -> int:
        try:
            return super().write(data)
        except OSError:
            return len(data)


class _RaiseUnwritable(io.FileIO):
    def write(self, data) -> int:
        try:
            return super().write(data)
        except BrokenPipeError:
            raise
        except OSError as error:
            raise Unwritable(f"standard output: {error.strerror}") from None


def prepare() -> None:
    """Makes the three streams safe. Streams that a caller has put in their place stay as they are."""
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # gets the lowest free number, which is this one
        if getattr(sys, name) is None:
            setattr(sys, name, open(number, "w" if number else "r", encoding="utf-8", closefd=False))
    for name, kind in (("stdout", _RaiseUnwritable), ("stderr", _DropErrors)):
        stream = getattr(sys, name)
        if stream is getattr(sys, f"__{name}__") and _is_a_file(stream):
            setattr(sys, name, _reopened(kind, stream))
    for stream in (sys.stdout, sys.stderr):  # file names may be invalid text, and a terminal may lack characters
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")


def _is_a_file(stream) -> bool:
    """False for the console of Windows and for the streams of editors and notebooks."""
    below = getattr(stream, "buffer", None)
    return type(getattr(below, "raw", below)) is io.FileIO


def _reopened(kind: type[io.FileIO], stream: io.TextIOWrapper) -> io.TextIOWrapper:
    """A stream with the same file and settings that writes through `kind`."""
    return io.TextIOWrapper(
        io.BufferedWriter(kind(stream.fileno(), "w", closefd=False)),
        encoding=stream.encoding,
        errors=stream.errors,
        line_buffering=stream.line_buffering,
        write_through=stream.write_through,
    )


def drop_output() -> None:
    """Drops everything that is written to stdout from now on, and what still waits in its buffer."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
