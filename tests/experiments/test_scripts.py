"""A mistake is told by every script in one line, before any work."""

import re

import pytest

import tcja_gen as tg

MISTAKES = {
    ("sampling.py", "n-mnist-classifier"): "n-mnist-classifier: a generator of images is wanted",
    ("sampling.py", "n-mnist-generator"): "n-mnist-generator: a generator of images is wanted",
    ("quality_vs_t.py", "n-mnist-classifier"): "a generator of images is wanted",
    ("quality_vs_t.py", "digits", "--metrics", "reconstruction"): "only samples can be read out early",
    ("prior_limit.py", "n-mnist-generator"): "a generator of images is wanted",
    ("metric_sanity.py", "nowhere", "--n", "64"): "nowhere",
    ("fad_check.py", "nowhere", "nowhere"): "nowhere",
    ("spikingjelly_network.py", "digits"): "digits: event recordings are wanted",
}


@pytest.mark.parametrize("words", MISTAKES, ids=" ".join)
def test_a_mistake_is_told_in_one_line_before_any_work(script, capsys, words):
    with pytest.raises(SystemExit, match=rf"^{re.escape(words[0])}: .*{MISTAKES[words]}.*$") as end:
        script(*words)
    assert "\n" not in str(end.value) and not capsys.readouterr().out


@pytest.mark.parametrize(
    "words",
    [("prior_limit.py", "digits", "--metrics", "all"), ("quality_vs_t.py", "digits", "--steps", "1,x")],
    ids=" ".join,
)
def test_words_that_are_no_argument_are_refused(script, capsys, words):
    with pytest.raises(SystemExit):
        script(*words)
    assert f"argument {words[2]}: " in capsys.readouterr().err


def test_the_likelihood_of_a_conditional_prior_is_that_of_images_of_their_own_classes(script, tmp_path):
    latent = {"kind": "codes", "channels": 1, "prior": "4C3", "rounds": 2, "conditional": True}
    model = {"encoder": "8C3s2-8C3s2", "decoder": "8T4s2-8T4s2", "latent": latent, "time_steps": 2}
    run = tg.train(data="digits", model=model, steps=2, batch=16, warmup=0, quiet=True, out=str(tmp_path / "run"))
    line = script("sampling.py", run.folder, "--n", "64", "--metrics", "reconstruction", "--rounds", "2").splitlines()[
        -1
    ]
    assert 0 < float(line.split(" | ")[2]) < 100  # nats
