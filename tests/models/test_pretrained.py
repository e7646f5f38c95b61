import sysconfig
import tomllib
from pathlib import Path

import pytest

import tcja_gen as tg
from tcja_gen.models.pretrained import folders

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("file", sorted((ROOT / "assets").glob("*.safetensors")), ids=lambda file: file.stem)
def test_weights_that_come_with_the_package_make_images_and_have_a_card(file):
    model = tg.pretrained(file.stem)
    images = model.sample(range(2))
    assert images.shape == (2, model.image_channels, model.image_size, model.image_size)
    assert 0 <= images.min() and images.max() <= 1 and images.std() > 0.1
    assert model.provenance["step"] > 0
    assert file.with_suffix(".md").exists()


def test_a_name_that_is_not_there_is_answered_with_those_that_are():
    with pytest.raises(ValueError, match="no trained generator 'nothing'.*there are: .*digits"):
        tg.pretrained("nothing")


def test_weights_are_looked_for_where_pip_puts_them_too():
    data = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["data-files"]
    assert data == {"share/tcja_gen": ["assets/*.safetensors"]}
    assert Path(sysconfig.get_path("data")) / "share" / "tcja_gen" in folders()
    assert folders()[0] == ROOT / "assets"
