"""The benchmarks run where there is no GPU and no compiler, at toy size; what they find here means nothing."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).parent.parent / "experiments" / "benchmarks"


def run(script: str, *arguments) -> str:
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PATH": "", "CXX": "none"}  # no compiler: seconds, not minutes
    command = [sys.executable, str(BENCHMARKS / script), *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, env=environment)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.slow
def test_the_gpu_benchmark_runs_small_on_a_cpu_and_goes_on_from_its_files(tmp_path):
    ask = ["gpu.py", "--keep", tmp_path, "--device", "cpu", "--small", "--stage"]
    table = run(*ask, "others")
    rows = {line.split(" | ")[0]: line for line in table.splitlines() if line.startswith("| ")}
    assert len(rows["| compat, ours"].split("|")) == 8 and "sampling" in rows["| compat, ours"]
    for name in ("| plain PyTorch, eager", "| SpikingJelly's LIFNode"):
        assert float(rows[name].split("|")[4]) > 0
    assert "neurons: plain: there is no C++ compiler" in table
    files = {path: path.stat().st_mtime_ns for path in tmp_path.glob("*.json")}
    assert len(files) >= 3 and all(json.loads(path.read_text())["step_s"] > 0 for path in files)
    run(*ask, "others")
    assert all(path.stat().st_mtime_ns == time for path, time in files.items())
    assert "| decoder.stages.3.neurons | " in run(*ask, "layers")


@pytest.mark.slow
def test_the_comparison_of_paths_runs():
    assert "gradients of the first step" in run("equivalence.py", "--steps", "8", "--disturbed", "1")
