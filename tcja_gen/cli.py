"""The command line: finds the command, runs it, and reports a user's mistake in one line with exit code 2.

Results go to stdout, progress to stderr. Exit codes: 0 for success, 1 for a failure, 2 for a user's mistake, 130 after
Ctrl-C. TCJA_GEN_TRACEBACK=1 shows where an error came from.
"""

import os
import re
import signal
import sys
import threading
from contextlib import contextmanager

from . import __version__, registry, streams
from .errors import Diverged, UserError

HELP = """usage: tcja-gen COMMAND [options]        (tcja-gen COMMAND --help shows its options)

Train spiking image generators and classifiers with temporal-channel joint attention, use them, score them.

  demo          train on the embedded digits, sample and score: everything in one go
  train         train a generator or a classifier, or resume a run that was stopped
  sample        make images, one from each seed
  reconstruct   send images through the latent spikes and back
  interpolate   make images between two images
  predict       name the classes of images or event recordings
  evaluate      score a run, or a folder or zip of images, against a data set
  reference     compute what scores need for a data set, and the score of real images
  check         name every bad file of a data set
  show          describe a run: settings, size, losses, firing rates, scores; as a page to send; or compare several
  list          list all recipes, pretrained models, data sets and parts
  export        write a part of a model as a file for PyTorch, ONNX or NIR
  push          publish a model on the Hugging Face Hub

Every command takes --plugin FILE, a Python file that adds your own parts (tcja-gen list names them).

examples:
  tcja-gen demo
  tcja-gen sample mnist --n 64 --grid
  tcja-gen train mnist --data-root data --download
  tcja-gen train --task classify --data digits

version: tcja-gen --version
"""
OUR_FAULT = "a fault of tcja_gen's own, please report it with what TCJA_GEN_TRACEBACK=1 prints: "
NO_MEMORY = ("can't allocate memory", "out of memory", "ALLOC_FAILED", "could not create a memory object")  # torch says


def main(arguments: list[str] | None = None) -> int:
    """Runs a command and returns its exit code. arguments: the words behind `tcja-gen`; None: those of this process."""
    streams.prepare()
    try:
        code = _run(sys.argv[1:] if arguments is None else arguments)
    except SystemExit as end:  # after --help, or a mistake in a flag: everything is printed already
        failed = _flush()
        if failed:
            return failed
        raise end
    return _flush() or code


def _run(arguments: list[str]) -> int:
    with _interrupts() as seen:
        try:
            return _run_command(arguments)
        except (BrokenPipeError, streams.Unwritable) as error:
            return _output_lost(error)
        except (UserError, OSError) as error:
            return _fail(error, 2)
        except Diverged as error:
            return _fail(error, 1)
        except (KeyboardInterrupt, Exception) as error:
            if seen or isinstance(error, KeyboardInterrupt):
                return _fail("stopped", 130)
            if (line := registry.plugin_line(error)) and not _out_of_memory(error):
                return _fail(error, 2, f"{line}: ")
            return _fail(error, 1, OUR_FAULT, _out_of_memory(error))
        finally:
            _leave_process_group()


def _run_command(arguments: list[str]) -> int:
    if not arguments or arguments[0] in ("-h", "--help", "help"):
        print(HELP, end="")
        return 0
    if arguments[0] == "--version":
        print(f"tcja_gen {__version__}")
        return 0
    from . import commands

    if arguments[0] not in commands.COMMANDS:
        raise UserError(f"unknown command {arguments[0]!r}; known: {', '.join(commands.COMMANDS)}")
    commands.parse(arguments[0], arguments[1:]).run()
    return 0


@contextmanager
def _interrupts():
    """Yields a list that stays empty until Ctrl-C. It is needed as an interrupted import can end in any exception."""
    seen = []

    def note(number, frame):
        seen.append(number)
        signal.default_int_handler(number, frame)

    ours = signal.getsignal(signal.SIGINT) is signal.default_int_handler
    ours = ours and threading.current_thread() is threading.main_thread()
    if ours:
        signal.signal(signal.SIGINT, note)
    try:
        yield seen
    finally:
        if ours:
            signal.signal(signal.SIGINT, signal.default_int_handler)


def _fail(error: BaseException | str, code: int, prefix: str = "", advice: str = "") -> int:
    """Prints the error in one line, or `advice` in its place, and returns the exit code."""
    if os.environ.get("TCJA_GEN_TRACEBACK") and isinstance(error, BaseException):
        raise error
    if isinstance(error, OSError) and error.filename and error.strerror:
        error = f"{error.filename}: {error.strerror}"
    message = advice or prefix + (f"{type(error).__name__}: {error}" if prefix else str(error))
    print("tcja-gen:", *message.split(), file=sys.stderr)
    return code


def _flush() -> int:
    """Writes what stdout still holds. Returns 0, or the exit code if it cannot be written."""
    try:
        sys.stdout.flush()
    except (BrokenPipeError, streams.Unwritable) as error:
        return _output_lost(error)
    return 0


def _output_lost(error: OSError) -> int:
    """Drops the rest of stdout. A reader that has closed the pipe (tcja-gen ... | head) gets no error message."""
    streams.drop_output()
    return 1 if isinstance(error, BrokenPipeError) else _fail(error, 1)


def _out_of_memory(error: Exception) -> str:
    """One line of advice if the memory of the machine or the GPU is too small, else ""."""
    words = str(error)
    asked = re.search(r"tried to allocate ([\d.]+ \w+)", words, re.IGNORECASE)
    if isinstance(error, MemoryError) or any(phrase in words for phrase in NO_MEMORY):
        size = f" ({asked[1]} more were asked for)" if asked else ""
        return f"out of memory{size}; training needs less with a smaller --batch or with --memory recompute"
    return ""


def _leave_process_group() -> None:
    """Leaves the process group if torchrun made one."""
    distributed = sys.modules.get("torch.distributed")
    if distributed and distributed.is_available() and distributed.is_initialized():
        distributed.destroy_process_group()
