"""The command line: finds the command, runs it, and turns a user's mistake into one line and exit code 2.

Results go to stdout, progress to stderr. Exit codes: 0, 1 for a failure, 2 for a mistake of the user's, 130 after
Ctrl-C. TCJA_GEN_TRACEBACK=1 shows where an error came from.
"""

import os
import sys

from .errors import Diverged, UserError

HELP = """usage: tcja-gen COMMAND [options]        (tcja-gen COMMAND --help tells its options)

Train spiking image generators and classifiers with temporal-channel joint attention, use them, score them.

  demo          train on the embedded digits, sample and score: everything in one go
  train         train a generator or a classifier, or go on with a run that was stopped
  sample        make images, one seed each
  reconstruct   send images through the latent spikes and back
  interpolate   make images between two images
  predict       name the classes of images or event recordings
  evaluate      score a run, or a folder or zip of images, against a data set
  reference     prepare what scores need for a data set, and tell its floor
  check         name every bad file of a data set
  show          tell what a run is and how it went

examples:
  tcja-gen demo
  tcja-gen train --data mnist --data-root data --download --model.image-size 32
  tcja-gen train --task classify --data digits

version: tcja-gen --version
"""


def main(arguments: list[str] | None = None) -> int:
    """Runs a command; returns its exit code."""
    arguments = sys.argv[1:] if arguments is None else arguments
    for stream in (sys.stdout, sys.stderr):  # a file's name need not be text, and text need not suit the terminal
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")
    if not arguments or arguments[0] in ("-h", "--help", "help"):
        print(HELP, end="")
        return 0
    if arguments[0] == "--version":
        from . import __version__

        print(f"tcja_gen {__version__}")
        return 0

    from . import commands

    command = commands.COMMANDS.get(arguments[0])
    if command is None:
        known = ", ".join(commands.COMMANDS)
        print(f"tcja-gen: unknown command {arguments[0]!r}; known: {known}", file=sys.stderr)
        return 2
    try:
        commands.parse(command, arguments[0], arguments[1:]).run()
    except BrokenPipeError:  # the reader has seen enough: tcja-gen ... | head
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except (UserError, OSError) as error:
        return _fail(error, 2)
    except Diverged as error:
        return _fail(error, 1)
    except KeyboardInterrupt:
        return _fail("stopped", 130)
    except Exception as error:
        return _fail(error, 1, "a fault of tcja_gen's own, please report it with what TCJA_GEN_TRACEBACK=1 prints: ")
    finally:
        _leave()
    return 0


def _fail(error: BaseException | str, code: int, whose: str = "") -> int:
    if os.environ.get("TCJA_GEN_TRACEBACK") and isinstance(error, BaseException):
        raise error
    if isinstance(error, OSError) and error.filename and error.strerror:
        error = f"{error.filename}: {error.strerror}"
    told = f"{type(error).__name__}: {error}" if whose else str(error)
    print(f"tcja-gen: {whose}{' '.join(told.split())}", file=sys.stderr)
    return code


def _leave() -> None:
    """Leaves the process group, if torchrun made one."""
    distributed = sys.modules.get("torch.distributed")
    if distributed and distributed.is_available() and distributed.is_initialized():
        distributed.destroy_process_group()
