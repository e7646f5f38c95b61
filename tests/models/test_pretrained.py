import tomllib
from pathlib import Path

import pytest

import tcja_gen as tg
from tcja_gen.cli import main
from tcja_gen.errors import MissingFile
from tcja_gen.shipped import recipes, weights

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("file", weights().values(), ids=lambda file: file.stem)
def test_weights_that_come_with_the_package_make_images_and_have_a_card(file):
    model = tg.pretrained(file.stem)
    images = model.sample(range(2))
    assert images.shape == (2, model.image_channels, model.image_size, model.image_size)
    assert 0 <= images.min() and images.max() <= 1 and images.std() > 0.1
    assert model.provenance["step"] > 0
    assert file.with_suffix(".md").exists()


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
