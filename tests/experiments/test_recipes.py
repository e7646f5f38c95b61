"""The recipes that come with the package, and those of the studies."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from tcja_gen.shipped import recipes
from tcja_gen.training.loop import new_model
from tcja_gen.training.recipes import load

STUDY = Path(__file__).parents[2] / "experiments" / "study.toml"
SIDES = {"digits": 8, "fashion-mnist": 28}
CLASSES = {"n-caltech101": 101, "cifar100": 100, "dvs128-gesture": 11}


@pytest.mark.parametrize("name", [*recipes(), str(STUDY)], ids=lambda name: Path(name).stem)
def test_every_recipe_is_read_and_builds_its_model(name):
    recipe = load(name)
    model = recipe.model
    sizes = {"image_size": model.image_size or SIDES.get(recipe.data, 32), "image_channels": model.image_channels or 1}
    labelled = recipe.task == "classify" or model.conditional
    classes = CLASSES.get(recipe.data, 10) if labelled else 0
    with torch.device("meta"):
        new_model(replace(recipe, model=replace(model, **sizes, classes=classes)))
