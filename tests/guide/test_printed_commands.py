"""Every command and example that a page prints runs: see `printed_commands.py`. It has a process of its own, because
examples register parts, which would be there for all later tests. The process starts when the first test does
(`printed_commands` in `tests/conftest.py`), and by now it has had the second core for itself."""

import pytest


@pytest.mark.slow
def test_what_the_pages_print_runs(printed_commands):
    process, output = printed_commands
    assert process.wait() == 0, output.read_text(encoding="utf-8")[-5000:]
