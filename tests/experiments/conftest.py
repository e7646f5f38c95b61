"""Scripts of `experiments/`, as a user runs them but in this process."""

import runpy
import sys
from pathlib import Path

import pytest

EXPERIMENTS = Path(__file__).parents[2] / "experiments"


@pytest.fixture
def script(monkeypatch):
    """Runs a script by its name with some words."""

    def run(name: str, *words: str) -> None:
        monkeypatch.setattr(sys, "argv", [name, *words])
        monkeypatch.syspath_prepend(str(EXPERIMENTS))
        runpy.run_path(str(EXPERIMENTS / name), run_name="__main__")

    return run
