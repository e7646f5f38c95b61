"""Scripts of `experiments/`, by their names."""

import pytest
from scripts import EXPERIMENTS, run_script


@pytest.fixture
def script(capsys):
    """Runs a script by its name with some words; what it printed on stdout."""

    def run(name: str, *words: str) -> str:
        capsys.readouterr()
        run_script(EXPERIMENTS / name, *map(str, words))
        return capsys.readouterr().out

    return run
