"""Every command and example that a page prints runs: see `printed_commands.py`. It has a process of its own, because
examples register parts, which would be there for all later tests."""

import subprocess
import sys
from pathlib import Path

import pytest

PAGES = Path(__file__).with_name("printed_commands.py")


@pytest.mark.slow
def test_what_the_pages_print_runs():
    done = subprocess.run([sys.executable, "-m", "pytest", "-q", str(PAGES)], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-5000:]
