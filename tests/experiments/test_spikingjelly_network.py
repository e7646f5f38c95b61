"""Our block in a network of SpikingJelly's."""

import re

import numpy as np

from tcja_gen.data import moving, record, write_events


def test_tcja_learns_in_a_network_of_spikingjellys_neurons(script, tmp_path):
    for label, picture in {"bar": np.eye(8)[:, ::-1], "box": np.pad(np.ones((4, 4)), 2)}.items():
        for i in range(24):
            events = record(moving(np.roll(picture, i % 3, 0) * (0.5 + i / 48), frames=7, reach=2))
            write_events(tmp_path / "shapes" / label / f"{i}.npz", events)
    words = ["--size", "12", "--time-steps", "4", "--epochs", "6", "--batch", "10"]
    out = script("spikingjelly_network.py", tmp_path / "shapes", *words)
    losses = [float(value) for value in re.findall(r"loss ([\d.]+)", out)]
    assert len(losses) == 6 and losses[-1] < 0.5 * losses[0]
    assert "accuracy 100.0%" in out
