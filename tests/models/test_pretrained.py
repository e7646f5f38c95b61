import tomllib
from pathlib import Path

import pytest
import torch

import tcja_gen as tg
from tcja_gen.cli import main
from tcja_gen.errors import MissingFile
from tcja_gen.shipped import recipes, weights

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("file", weights().values(), ids=lambda file: file.stem)
def test_weights_that_come_with_the_package_do_what_they_are_for_and_have_a_card(file):
    model = tg.pretrained(file.stem)
    assert model.provenance["step"] > 0 and not Path(model.provenance["data"].get("root", "")).is_absolute()
    assert file.with_suffix(".md").exists()
    if model.kind == "classifier":
        return
    made, most = model.sample(range(2)), model.full_count or 1
    frames = [model.time_steps] if model.full_count else []
    assert made.shape == (2, *frames, model.image_channels, model.image_size, model.image_size)
    assert 0 <= made.min() and made.max() <= most and made.std() > 0.1


def test_the_classifier_of_events_names_the_digits_of_the_generator_of_events():
    generator, classifier = tg.pretrained("n-mnist-generator"), tg.pretrained("n-mnist-classifier")
    counts = torch.poisson(generator.sample(range(20)))
    assert (classifier.predict(counts) == torch.arange(20) % 10).float().mean() > 0.7


def test_a_name_that_is_not_there_is_answered_with_those_that_are():
    with pytest.raises(MissingFile, match="nothing: no such run or checkpoint; .*digits, fashion-mnist, mnist"):
        tg.pretrained("nothing")


def test_names_are_taken_wherever_a_run_is_and_a_run_of_this_name_is_preferred(tmp_path, monkeypatch):
    assert tg.load("digits").provenance == tg.pretrained("digits").provenance
    monkeypatch.chdir(tmp_path)
    (tmp_path / "digits").mkdir()  # a folder of images, say
    assert tg.load("digits").provenance == tg.pretrained("digits").provenance
    (tmp_path / "digits" / "config.toml").touch()
    with pytest.raises(MissingFile, match="no checkpoint in this folder"):
        tg.load("digits")


def test_a_pretrained_model_is_shown_without_a_figure_among_the_images_of_a_folder_of_its_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "digits").mkdir()
    assert main(["show", "digits"]) == 0
    assert not [*(tmp_path / "digits").iterdir()]


def test_recipes_and_weights_are_part_of_the_package():
    data = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["package-data"]["tcja_gen"]
    assert {"recipes/**/*.toml", "weights/*"} <= {*data}
    assert {"mnist", "mnist-tcja", "classify/digits"} <= {*recipes()}
