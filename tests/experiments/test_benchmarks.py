"""The benchmarks run where there is no GPU and no compiler, at toy size; what they find here means nothing."""

import json

import pytest

from tcja_gen.nn.kernels.cpu import library


@pytest.fixture(autouse=True)
def no_compiler(monkeypatch):
    """Here and in the processes of the measurements; seconds, not minutes."""
    monkeypatch.setenv("PATH", "")
    monkeypatch.setenv("CXX", "none")
    library.cache_clear()  # as in a new process
    yield
    library.cache_clear()


@pytest.mark.slow
def test_the_gpu_benchmark_runs_small_on_a_cpu_and_goes_on_from_its_files(script, tmp_path):
    ask = ["benchmarks/gpu.py", "--keep", tmp_path, "--device", "cpu", "--small", "--stage"]
    table = script(*ask, "others")
    rows = {line.split(" | ")[0]: line for line in table.splitlines() if line.startswith("| ")}
    assert len(rows["| compat, ours"].split("|")) == 8 and "sampling" in rows["| compat, ours"]
    assert float(rows["| SpikingJelly's LIFNode"].split("|")[4]) > 0
    assert "neurons: plain: there is no C++ compiler" in table
    files = {path: path.stat().st_mtime_ns for path in tmp_path.glob("*.json")}
    assert len(files) == 2 and all(json.loads(path.read_text())["step_s"] > 0 for path in files)
    script(*ask, "others")
    assert all(path.stat().st_mtime_ns == time for path, time in files.items())
    assert "| decoder.stages.3.neurons | " in script(*ask, "layers")


def test_the_network_of_plain_pytorch_is_measured_too(script):
    found = json.loads(
        script("benchmarks/measure.py", json.dumps({"by": "plain", "time_steps": 2, "batch": 2, "steps": 1}))
    )
    assert found["step_s"] > 0 and found["parameters"] > 4e6


def test_steps_of_a_study_are_compared_in_turn(script):
    table = script("step_time.py", "gates", "--cells", "none;TCJA on spikes, both", "--rounds", "1")
    first, gated = table.splitlines()[-2:]
    assert "| 1.00 (1.00) |" in first and gated.startswith("| TCJA on spikes, both | ")


def test_a_cell_that_a_study_lacks_is_told(script):
    with pytest.raises(SystemExit, match="unknown cell 'SE'; compat has: none; TCJA on spikes"):
        script("step_time.py", "compat", "--cells", "SE")
    for study in ("gates-classifier", "adversarial", "prior"):
        with pytest.raises(SystemExit, match="generators that train all their parts at once"):
            script("step_time.py", study)


@pytest.mark.slow
def test_the_comparison_of_paths_runs(script):
    assert "gradients of the first step" in script("benchmarks/equivalence.py", "--steps", "8", "--disturbed", "1")
