"""How far a generator is from the data by its decoder alone."""

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def limit(folder: Path, *words: str) -> subprocess.CompletedProcess:
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "XDG_CACHE_HOME": str(folder)}
    command = [sys.executable, str(ROOT / "experiments" / "prior_limit.py"), *words]
    return subprocess.run(command, capture_output=True, text=True, env=environment, cwd=ROOT)


def test_reconstructions_of_training_images_lie_between_the_floor_and_samples(tmp_path):
    weights = "assets/digits.safetensors"
    found = limit(tmp_path, weights, "--n", "128", "--metrics", "fid-classifier")
    lines = [line.strip("| ").split(" | ") for line in found.stdout.splitlines()[2:]]
    names, scores = [line[0] for line in lines], [float(line[1]) for line in lines]
    assert names == ["training images", "digits: training images reconstructed", "digits: samples"], found.stderr
    assert 0 < scores[0] < scores[1] < scores[2]


def test_a_run_that_is_not_there_is_told_in_one_line(tmp_path):
    found = limit(tmp_path, "nowhere")
    assert (
        found.returncode == 1
        and found.stderr
        == "prior_limit.py: nowhere: no such run or checkpoint; a run folder or a .safetensors file is wanted\n"
    )
