"""The recipes are what they say they are."""

from pathlib import Path

import pytest

from tcja_gen import config
from tcja_gen.models import NETWORKS, build
from tcja_gen.training.loop import KIND

RECIPES = sorted((Path(__file__).parent.parent / "experiments").rglob("*.toml"))


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_every_recipe_is_read_and_builds_its_model(path):
    import torch

    recipe = config.load(path)
    settings = {**vars(recipe.model)}
    settings["image_size"] = settings["image_size"] or {"digits": 8, "fashion-mnist": 28}.get(recipe.data, 32)
    settings["image_channels"] = settings["image_channels"] or 1
    settings["classes"] = settings["classes"] or 10
    settings["head"] = settings["head"] or ("10L" if recipe.task == "classify" else "")
    with torch.device("meta"):
        build(KIND[recipe.task], settings)


@pytest.mark.parametrize("name", NETWORKS)
def test_the_recipe_of_a_network_trains_that_network(name):
    path = Path(__file__).parent.parent / "experiments" / "classify" / f"{name}.toml"
    model = vars(config.load(path).model)
    assert {key: model[key] for key in NETWORKS[name]} == NETWORKS[name]
