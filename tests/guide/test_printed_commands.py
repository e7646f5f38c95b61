"""Every command and example that a page prints runs: see `printed_commands.py`. It has a process of its own, because
examples register parts, which would be there for all later tests."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

PAGES = Path(__file__).with_name("printed_commands.py")


@pytest.mark.slow
def test_what_the_pages_print_runs(cache_of_the_session):
    command = [sys.executable, "-m", "pytest", "-n", "0", "-p", "no:cacheprovider", str(PAGES)]
    env = os.environ | {"TCJA_GEN_TESTS_CACHE": cache_of_the_session}
    done = subprocess.run(command, env=env, capture_output=True, text=True)
    assert done.returncode == 0, (done.stdout + done.stderr)[-5000:]
