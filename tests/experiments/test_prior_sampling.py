"""How a prior is best sampled."""

import pytest

import tcja_gen as tg


def test_every_number_of_rounds_and_temperature_has_a_line_of_what_it_is_worth(script, tmp_path, capsys):
    latent = {"kind": "codes", "channels": 1, "prior": "16C3-16R3", "rounds": 4}
    model = {"encoder": "8C3s2-8C3s2", "decoder": "8T4s2-8T4s2", "latent": latent}
    how = dict(steps=60, batch=32, lr=0.02, warmup=5, compile="off", device="cpu", out=str(tmp_path / "run"))
    run = tg.train(data="digits", model=model, **how)
    words = ["--n", "64", "--metrics", "reconstruction"]
    table = script("sampling.py", run.folder, "--rounds", "1,4", "--temperatures", "1,3", *words)
    names, _, *lines = (line.strip("| ").split(" | ") for line in table.splitlines())
    assert names == ["rounds", "temperature", "nats an image", "reconstruction", "nJ an image"]
    assert [line[:2] for line in lines] == [["1", "1"], ["1", "3"], ["4", "1"], ["4", "3"]]
    nats, energy = ([float(line[i].replace(",", "")) for line in lines] for i in (2, 4))
    assert nats[2] < nats[0] and nats[2] < nats[3]  # what is known of others helps; so does the right temperature
    assert energy[2] > 1.5 * energy[0]
    with pytest.raises(SystemExit, match="^sampling.py: digits: its latent has no rounds"):
        script("sampling.py", "digits", *words)
    assert not capsys.readouterr().out
