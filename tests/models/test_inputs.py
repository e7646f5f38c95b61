"""Calls that make no sense to a model: each raises one line that says what is expected, and makes no image."""

import numpy as np
import pytest
import torch

import tcja_gen as tg
from tcja_gen.errors import UserError
from tcja_gen.models import Classifier, build

X = torch.linspace(0, 1, 2 * 64).view(2, 1, 8, 8)
TINY = {"image_size": 8, "time_steps": 3, "encoder": "8C3s2-TCJA-8C3s2-TCJA", "latent": {"channels": 8, "k": 4}}


@pytest.fixture(scope="module")
def models():
    torch.manual_seed(0)
    conditional = TINY | {"head": "10L", "classes": 3, "latent": TINY["latent"] | {"conditional": True}}
    return build(conditional), build(Classifier(image_size=8, time_steps=2, encoder="8C3-TCJA-MP2", head="10L"))


def line_of(call) -> str:
    with pytest.raises(UserError) as caught:
        call()
    assert "\n" not in str(caught.value)
    return str(caught.value)


IMAGES = {
    "not square": (torch.rand(2, 1, 8, 9), "wants images (1, 8, 8) (C, H, W), got (1, 8, 9)"),
    "of other channels": (torch.rand(2, 3, 8, 8), "wants images (1, 8, 8) (C, H, W), got (3, 8, 8)"),
    "none": (torch.rand(0, 1, 8, 8), "no images"),
    "channels last": (torch.rand(2, 8, 8, 1), "images.permute(0, 3, 1, 2)"),
    "without a batch": (X[0], "images[None]"),
    "flat": (torch.rand(64), "got a tensor (64,)"),
    "of numpy": (X.numpy(), "a torch tensor is wanted: torch.from_numpy"),
    "a list": ([1.0], "are a list, a torch tensor is wanted"),
    "float64": (X.double(), "float64, the model wants torch.float32"),
    "float16": (X.half(), "float16, the model wants torch.float32"),
    "whole numbers": (X.mul(255).byte(), "uint8, the model wants torch.float32 in [0, 1]: images.float() / 255"),
    "up to 255": (X * 255, "values from 0 to 255; wanted floats in [0, 1]"),
    "below 0": (X * 2 - 1, "values from -1 to 1; wanted floats in [0, 1]"),
    "no numbers": (X * float("nan"), "values from nan"),
}


@pytest.mark.parametrize("name", IMAGES)
def test_images_that_do_not_fit_are_told(models, name):
    images, says = IMAGES[name]
    generator, classifier = models
    for call in (generator.reconstruct, generator.encode, generator.classify, classifier.classify, classifier.predict):
        assert says in line_of(lambda call=call: call(images))


@pytest.mark.parametrize(
    ("frames", "says"),
    [
        (torch.zeros(2, 3, 1, 8, 8), "wants frames (2, 1, 8, 8) (T, C, H, W), got (3, 1, 8, 8)"),
        (torch.zeros(0, 2, 1, 8, 8), "no frames"),
        (torch.full((2, 2, 1, 8, 8), float("nan")), "not finite, wanted event counts"),
        (torch.full((2, 2, 1, 8, 8), -1), "values below 0"),
    ],
)
def test_frames_that_do_not_fit_are_told(models, frames, says):
    assert says in line_of(lambda: models[1].classify(frames))


CALLS = {
    "one seed": (lambda m: m.sample(3), "seeds are 3, wanted whole numbers"),
    "seeds of text": (lambda m: m.sample("0-3"), "wanted whole numbers"),
    "seeds with a fraction": (lambda m: m.sample([0.5]), "wanted whole numbers"),
    "no seeds": (lambda m: m.film(torch.arange(0)), "no seeds"),
    "a huge seed": (lambda m: m.sample([2**70]), "64 bits"),
    "a class too many": (lambda m: m.sample(range(2), classes=3), "class 3 asked for; the model knows 0 to 2"),
    "a class below 0": (lambda m: m.film(range(2), classes=[0, -1]), "class -1 asked for"),
    "classes for others": (lambda m: m.sample(range(3), classes=[1, 2]), "one for all, or one each"),
    "classes with a fraction": (lambda m: m.sample(range(2), classes=[0.5, 1]), "wanted whole numbers"),
    "classes by name": (lambda m: m.sample(range(2), classes=["a", "b"]), "a number or one for each"),
    "latents of another shape": (lambda m: m.decode(torch.zeros(2, 8, 3)), "(N, 3, 8), got (2, 8, 3)"),
    "latents between spikes": (lambda m: m.decode(torch.full((2, 3, 8), 0.5)), "spikes, 0 or 1"),
    "latents of float64": (lambda m: m.decode(torch.zeros(2, 3, 8).double()), "torch.float32"),
    "batches of ends": (lambda m: m.interpolate(X, X, 3), "one image (C, H, W) each"),
    "ends unlike": (lambda m: m.interpolate(X[0], X[0, :, 1:], 3), "one image (C, H, W) each"),
    "one step": (lambda m: m.interpolate(X[0], X[1], 1), "it must be at least 2"),
    "pixels of an encoder": (lambda m: m.encoder(X.mul(255).byte()), "its input is torch.uint8"),
    "an encoder's shape": (lambda m: m.encoder(X[:, :, 1:]), "got 1 x 7 x 8"),
}


@pytest.mark.parametrize("name", CALLS)
def test_a_call_that_cannot_be_meant_is_told(models, name):
    call, says = CALLS[name]
    assert says in line_of(lambda: call(models[0]))


@pytest.mark.parametrize("kind", ["half", "double", "bfloat16"])
def test_a_model_of_another_precision_says_so(kind):
    model = getattr(build(TINY), kind)()
    for call in (lambda: model.sample(range(2)), lambda: model.reconstruct(X)):
        assert "it computes in torch.float32: call model.float()" in line_of(call)
    assert len(model.float().sample(range(2))) == 2


def test_another_default_precision_says_so(models, tmp_path):
    torch.set_default_dtype(torch.float64)
    try:
        assert "torch's default dtype is torch.float64" in line_of(lambda: models[0].sample(range(2)))
        assert "call model.float()" in line_of(lambda: build(TINY).sample(range(2)))
        assert "float64" in line_of(lambda: tg.train(out=str(tmp_path / "run"), steps=1, quiet=True, device="cpu"))
    finally:
        torch.set_default_dtype(torch.float32)


@pytest.mark.parametrize(
    ("images", "says"),
    [
        (np.zeros((2, 1, 8, 8), np.uint8), "torch.from_numpy"),
        (torch.zeros(2, 8, 8, 1, dtype=torch.uint8), "permute(0, 3, 1, 2)"),
        (torch.zeros(0, 1, 8, 8), "one or more of them"),
        (torch.zeros(2, 1, 8, 9), "square"),
        (torch.zeros(2, 1, 2, 2), "at least 4 pixels"),
        (torch.zeros(2, 5, 8, 8), "of 1 or 3 channels"),
        (torch.zeros(2, 1, 8, 8, dtype=torch.int64), "wanted uint8 or float"),
        (torch.zeros(2, 1, 8, 8) * float("nan"), "values from nan"),
        (X * 255, "wanted floats in [0, 1]"),
    ],
)
def test_images_that_cannot_be_scored_are_told(images, says):
    assert says in line_of(lambda: tg.evaluate(images, "digits"))


def test_data_that_are_no_name_are_told():
    assert "data are a Tensor" in line_of(lambda: tg.evaluate(X, X))
    assert "data are a ndarray" in line_of(lambda: tg.reference(X.numpy()))
