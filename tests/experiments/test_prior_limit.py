"""How far a generator is from the data by its decoder alone."""

import pytest


def test_reconstructions_of_training_images_lie_between_the_floor_and_samples(script, quick_networks):
    table = script("prior_limit.py", "digits", "--n", "128", "--metrics", "fid-classifier")
    lines = [line.strip("| ").split(" | ") for line in table.splitlines()[2:]]
    names, scores = [line[0] for line in lines], [float(line[1]) for line in lines]
    assert names == ["training images", "digits: training images reconstructed", "digits: samples"]
    assert 0 < scores[0] < scores[1] < scores[2]


def test_a_run_that_is_not_there_is_told_in_one_line(script):
    with pytest.raises(SystemExit, match="^prior_limit.py: nowhere: no such run or checkpoint; give a run folder, .*$"):
        script("prior_limit.py", "nowhere")
