"""The recipes are what they say they are."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from tcja_gen.training.task import new_model

from tcja_gen import config
from tcja_gen.models import NETWORKS

EXPERIMENTS = Path(__file__).parent.parent.parent / "experiments"
RECIPES = sorted(p for p in EXPERIMENTS.rglob("*.toml") if p.name not in ("book.toml", "published.toml"))


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_every_recipe_is_read_and_builds_its_model(path):
    recipe = config.load(path)
    size = recipe.model.image_size or {"digits": 8, "fashion-mnist": 28}.get(recipe.data, 32)
    found = {"image_size": size, "image_channels": recipe.model.image_channels or 1}
    labelled = recipe.task == "classify" or recipe.model.conditional
    classes = {"n-caltech101": 101, "cifar100": 100, "dvs128-gesture": 11}.get(recipe.data, 10) if labelled else 0
    with torch.device("meta"):
        new_model(replace(recipe, model=replace(recipe.model, **found, classes=classes)))


@pytest.mark.parametrize("name", NETWORKS)
def test_the_recipe_of_a_network_trains_that_network(name):
    path = EXPERIMENTS / "classify" / f"{name}.toml"
    model = vars(config.load(path).model)
    assert {key: model[key] for key in NETWORKS[name]} == NETWORKS[name]
