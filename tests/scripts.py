"""Runs scripts of `experiments/` as a user does, but in this process, which has imported torch already."""

import contextlib
import runpy
import signal
import sys
from pathlib import Path

from printed import ROOT

EXPERIMENTS = ROOT / "experiments"


def run_script(file: Path, *arguments: str) -> None:
    """Runs a script with its arguments. SystemExit if it ends by one."""
    with on_path(file.parent), given(file.name, *arguments):
        runpy.run_path(str(file), run_name="__main__")


@contextlib.contextmanager
def on_path(folder: Path):
    """Inside, scripts of the folder find each other. Modules of other folders of experiments, whose names may be the
    same (`cases`, `measure`, `script`), are set aside meanwhile."""
    sys.path.insert(0, str(folder))
    aside = {name: sys.modules.pop(name) for name in modules_of_experiments()}
    try:
        yield
    finally:
        sys.path.remove(str(folder))
        for name in modules_of_experiments():
            del sys.modules[name]
        sys.modules.update(aside)


def modules_of_experiments() -> list[str]:
    files = {name: getattr(module, "__file__", None) for name, module in sys.modules.items()}
    return [name for name, file in files.items() if file and Path(file).is_relative_to(EXPERIMENTS)]


@contextlib.contextmanager
def given(script: str, *arguments: str):
    """Inside, a script finds its arguments; afterwards its answer to SIGTERM is forgotten."""
    before, answer = sys.argv, signal.getsignal(signal.SIGTERM)
    sys.argv = [script, *arguments]
    try:
        yield
    finally:
        sys.argv = before
        signal.signal(signal.SIGTERM, answer)
