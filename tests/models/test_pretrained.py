import tomllib
from pathlib import Path

import pytest

import tcja_gen as tg
from tcja_gen.models import pretrained

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("file", sorted(pretrained.WEIGHTS.glob("*.safetensors")), ids=lambda file: file.stem)
def test_weights_that_come_with_the_package_make_images_and_have_a_card(file):
    model = tg.pretrained(file.stem)
    images = model.sample(range(2))
    assert images.shape == (2, model.image_channels, model.image_size, model.image_size)
    assert 0 <= images.min() and images.max() <= 1 and images.std() > 0.1
    assert model.provenance["step"] > 0
    assert file.with_suffix(".md").exists()


def test_a_name_that_is_not_there_is_answered_with_those_that_are():
    with pytest.raises(ValueError, match="nothing: no such run or checkpoint, .*; there are: .*digits"):
        tg.pretrained("nothing")


def test_weights_and_recipes_lie_in_the_package_and_are_installed_with_it():
    patterns = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["package-data"]["tcja_gen"]
    package = ROOT / "tcja_gen"
    installed = {file for pattern in patterns for file in package.glob(pattern)}
    assert {*package.glob("weights/*"), *package.rglob("*.toml")} <= installed
    assert pretrained.WEIGHTS == package / "weights"
