"""The command line where its streams, its terminal or its memory are not what they should be: a line or silence, the
right exit code, no traceback."""

import os
import subprocess
import sys

import pytest

from tcja_gen.cli import main

resource = pytest.importorskip("resource", reason="there is no bash, and no limit of memory")

TCJA = f"{sys.executable} -m tcja_gen"


def shell(line: str, **environment) -> tuple[int, str, str]:
    """Exit code (of the first command of a pipe), stdout and stderr of a line of bash."""
    done = subprocess.run(
        ["bash", "-c", f"{line}; exit ${{PIPESTATUS[0]}}"],
        capture_output=True,
        text=True,
        timeout=60,
        env=os.environ | environment,
        stdin=subprocess.DEVNULL,
    )
    assert "Traceback" not in done.stderr and "Exception ignored" not in done.stderr, done.stderr
    return done.returncode, done.stdout, done.stderr


def test_a_mistake_without_a_stderr_is_not_told_among_the_results():
    assert shell(f"{TCJA} smaple 2>&-") == (2, "", "")


def test_a_stream_that_was_closed_takes_no_files_number():
    code = "from tcja_gen import streams; streams.prepare(); import sys; f = open('/dev/zero')"
    code += "; assert f.fileno() > 2; print('out'); print('err', file=sys.stderr)"
    assert shell(f'{sys.executable} -c "{code}" <&- 2>&-') == (0, "out\n", "")
    assert shell(f'{sys.executable} -c "{code}" >&-') == (0, "", "err\n")


@pytest.mark.parametrize("asked", ["--help", "--version", "train --help"])
def test_a_reader_that_has_seen_enough_ends_the_program_in_silence(asked):
    assert shell(f"{TCJA} {asked} | (exec <&-; sleep 0.6)") == (1, "", "")


@pytest.mark.parametrize("asked", ["--version", "sample --help"])
def test_results_that_find_no_place_are_a_failure_in_one_line(asked):
    told = shell(f"{TCJA} {asked} > /dev/full")
    assert told == (1, "", "tcja-gen: standard output: No space left on device\n")


def test_progress_that_finds_no_place_is_dropped():
    assert shell(f"{TCJA} smaple 2> /dev/full") == (2, "", "")
    code = (
        "from tcja_gen import streams; streams.prepare(); import sys; print('x', file=sys.stderr, flush=True); print(1)"
    )
    assert shell(f'{sys.executable} -c "{code}" 2> >(exec <&-)') == (0, "1\n", "")


@pytest.mark.parametrize("columns", ["1", "4"])
def test_help_comes_in_the_narrowest_terminal(columns):
    """It took all the memory that there was, hence the limit."""
    code, out, _ = shell(f"ulimit -v 2000000; timeout 30 {TCJA} sample --help", COLUMNS=columns)
    assert code == 0 and "--seeds" in out
    assert shell(f"ulimit -v 2000000; timeout 30 {TCJA} sample --sede 3", COLUMNS=columns)[0] == 2


def test_help_has_its_text_where_python_keeps_no_docstrings():
    code, out, _ = shell(f"{sys.executable} -OO -m tcja_gen sample --help")
    assert code == 0 and "Make images, one from each seed" in out and out.count("tcja-gen sample") >= 3


INTERRUPTED = """
import os, signal, sys

signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs ignore it

class Finder:
    def find_spec(self, name, *_):
        if name == "tyro":
            try:
                os.kill(os.getpid(), signal.SIGINT)
            except KeyboardInterrupt:
                raise {error}

sys.meta_path.insert(0, Finder())
from tcja_gen.cli import main
sys.exit(main(["sample", "run"]))
"""


@pytest.mark.parametrize("error", ["KeyboardInterrupt", "ImportError('torch is half loaded')", "RecursionError"])
def test_ctrl_c_while_importing_is_one_line_whatever_the_import_makes_of_it(error):
    done = subprocess.run([sys.executable, "-c", INTERRUPTED.format(error=error)], capture_output=True, text=True)
    assert done.stderr == "tcja-gen: stopped\n" and done.returncode in (130, -2)


def test_too_little_memory_is_one_line_with_advice(tmp_path, capsys):
    limits = resource.getrlimit(resource.RLIMIT_AS)
    with open("/proc/self/statm") as now:
        used = int(now.read().split()[0]) * os.sysconf("SC_PAGE_SIZE")
    resource.setrlimit(resource.RLIMIT_AS, (used + 2**31, limits[1]))
    try:
        code = main(["train", "--model.latent.channels", "30000000", "--device", "cpu", "--out", str(tmp_path / "run")])
    finally:
        resource.setrlimit(resource.RLIMIT_AS, limits)
    (line,) = capsys.readouterr().err.splitlines()
    assert code == 1 and line.startswith("tcja-gen: out of memory") and "--batch" in line and "recompute" in line


MISSING = """
import sys
from tcja_gen.cli import main
for line in [
    "sample gone", "reconstruct gone", "interpolate gone", "show no/such", "evaluate gone", "predict gone x.png",
    "check no/such", "reference no/such", "evaluate . --reference gone.npz", "evaluate . --reference x --compare gone",
    "predict . gone",
]:
    assert main(line.split()) == 2, line
assert "torch" not in sys.modules
"""


def test_what_does_not_exist_is_told_before_torch_is_imported(tmp_path):
    done = subprocess.run([sys.executable, "-c", MISSING], capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    lines = done.stderr.splitlines()
    assert len(lines) == 11 and all(line.startswith("tcja-gen: ") for line in lines)
