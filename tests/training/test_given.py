"""Images that Python hands over in place of a data set's name."""

import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image
from test_runs import assert_same, classify, train

import tcja_gen as tg
from tcja_gen.data import ImageSet
from tcja_gen.data import load as load_data
from tcja_gen.data.image_sets import image_set, splits_of
from tcja_gen.data.images import fit_splits
from tcja_gen.errors import UserError
from tcja_gen.evaluation import own_data

MODEL = {"encoder": "8C3s2-TCJA-16C3s2-TCJA", "latent": {"channels": 8, "k": 4}, "time_steps": 4}
SHORT = {"steps": 4, "checkpoint_every": 2, "sample_every": 0, "model": MODEL}
PIXELS = torch.randint(0, 256, (48, 1, 8, 8), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
LABELS = torch.arange(48) % 3


def split(data) -> dict[str, ImageSet]:
    return fit_splits(splits_of(data), None, None)


class Pairs(torch.utils.data.Dataset):
    """A data set as torch's examples have it: floats in [0, 1], and labels."""

    def __len__(self):
        return len(PIXELS)

    def __getitem__(self, i):
        return PIXELS[i].float() / 255, int(LABELS[i])


class Pictures:
    """As torchvision's sets are without a transform: pictures of PIL's, and labels."""

    def __len__(self):
        return len(PIXELS)

    def __getitem__(self, i):
        return Image.fromarray(PIXELS[i, 0].numpy()), LABELS[i]


FORMS = {
    "ImageSet": ImageSet(PIXELS, LABELS, "images", "train"),
    "tensor": PIXELS,
    "floats": PIXELS.float() / 255,
    "array": PIXELS.numpy(),
    "without channels": PIXELS[:, 0],
    "array and labels": (PIXELS.numpy(), LABELS.numpy()),
    "list of both": [PIXELS, LABELS],
    "Dataset": Pairs(),
    "pictures": Pictures(),
}


@pytest.mark.parametrize("form", FORMS)
def test_images_in_any_form_are_the_same_images(form):
    parts = split(FORMS[form])
    assert {name: len(part) for name, part in parts.items()} == {"train": 44, "validation": 4}
    wanted = split(PIXELS)
    for name, part in parts.items():
        assert torch.equal(part.images, wanted[name].images)
        labelled = form not in ("tensor", "floats", "array", "without channels")
        assert (part.labels is not None) == labelled
        assert not labelled or part.labels.dtype == torch.int64


def test_every_image_is_of_one_split():
    parts = split((PIXELS, torch.arange(48)))
    assert sorted(torch.cat([parts["train"].labels, parts["validation"].labels]).tolist()) == [*range(48)]


def test_a_run_on_given_images_is_trained_and_goes_on_with_them_alone(tmp_path):
    whole = train(tmp_path / "whole", data=PIXELS, **SHORT)
    half = train(tmp_path / "half", data=PIXELS, **SHORT)
    assert whole.finished and whole.model.sample([0]).shape == (1, 1, 8, 8)
    facts = whole.model.provenance["data"]
    assert (facts["name"], facts["images"], facts["given"]) == ("images", 44, True)
    shutil.rmtree(half.folder / "checkpoints" / "step-000004")
    with pytest.raises(UserError, match="images that were passed in Python; resume it by tg.resume.run, data=...."):
        tg.resume(half.folder, quiet=True)
    with pytest.raises(UserError, match="not those that this run was trained on"):
        tg.resume(half.folder, data=255 - PIXELS, quiet=True)
    tg.resume(half.folder, data=PIXELS.float() / 255, quiet=True)
    assert_same(whole.folder, half.folder, "step-000004")


def test_a_named_set_that_is_handed_over_is_that_set(tmp_path):
    splits = {name: load_data("digits", name) for name in ("train", "validation")}
    named, given = train(tmp_path / "named", **SHORT), train(tmp_path / "given", data=splits, **SHORT)
    assert_same(named.folder, given.folder, "step-000004")
    assert given.model.provenance["data"]["name"] == "digits"


def test_a_dataset_with_labels_is_classified(tmp_path):
    run = classify(tmp_path / "run", data=Pairs(), model={"encoder": "8C3s2-TCJA", "time_steps": 2}, steps=2)
    assert run.model.classes == 3 and run.model.classify(torch.rand(2, 1, 8, 8)).shape == (2, 2, 3)


def test_a_path_is_a_name(tmp_path):
    (tmp_path / "pics").mkdir()
    for i, pixels in enumerate(PIXELS):
        Image.fromarray(pixels[0].numpy()).save(tmp_path / "pics" / f"{i}.png")
    run = train(tmp_path / "run", data=tmp_path / "pics", **SHORT)
    assert run.model.provenance["data"]["name"] == "pics" and tg.resume(run.folder, quiet=True).finished


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (3, "data is a int; an ImageSet, an array (N, C, H, W), (images, labels) or a Dataset is wanted"),
        (iter([1]), "data is a list_iterator"),
        (PIXELS[0, 0], "images have the shape (8, 8); (N, C, H, W) is wanted"),
        (PIXELS[:0], "images have the shape (0, 1, 8, 8); (N, C, H, W) is wanted, N at least 1"),
        (PIXELS.float(), "images are torch.float32; uint8, or floats in [0, 1], are wanted"),
        (PIXELS.float() / 127.5 - 1, "uint8, or floats in [0, 1], are wanted"),
        (torch.full((4, 1, 8, 8), float("nan")), "uint8, or floats in [0, 1], are wanted"),
        (PIXELS.long(), "images are torch.int64; uint8, or floats"),
        ((PIXELS, LABELS.float()), "labels are torch.float32 (48,); integers from 0, (N,), are wanted"),
        ((PIXELS, LABELS - 1), "integers from 0, (N,), are wanted"),
        ((PIXELS, LABELS[:, None]), "labels are torch.int64 (48, 1)"),
        ((PIXELS, LABELS[:5]), "48 images but labels (5,)"),
        (torch.utils.data.TensorDataset(torch.zeros(0, 1, 8, 8)), "the data are empty"),
        ({"train": PIXELS}, "data has the splits train; train and validation are wanted"),
        (np.zeros((20, 5, 8, 8), np.uint8), "images have 5 channels; 1 (grey) or 3 (RGB) are wanted"),
        (
            torch.zeros(20, 1, 8, 9, dtype=torch.uint8),
            "images are 8 x 9: model.image_size (--size) brings them to one square",
        ),
        (PIXELS[:1], "the data are 1 image; at least 2 are wanted"),
        ([*PIXELS[:9], PIXELS[0, :, :5]], "item 9 of the data is (1, 5, 8) torch.uint8, item 0 (1, 8, 8) torch.uint8"),
        ([{"image": PIXELS[0], "label": 1}] * 9, "item 0 of the data: a dict; an image, or an image and its label"),
        ([(PIXELS[0], "cat")] * 9, "item 0 of the data: a label of type str; a whole number from 0 is wanted"),
        ([(PIXELS[0], 1), (PIXELS[1],), *PIXELS], "1 of 50 items of the data have a label; all or none"),
        ([Image.new("F", (8, 8))] * 9, "item 0 of the data: pixel mode F is not supported"),
        ([PIXELS[:5, 0]] * 9, "item 0 of the data: an image of shape (5, 8, 8); (C, H, W) with 1 or 3 channels"),
    ],
)
def test_what_is_no_images_is_told_in_one_line(tmp_path, data, says):
    with pytest.raises(UserError) as error:
        train(tmp_path / "run", data=data, **SHORT)
    assert says in str(error.value) and "\n" not in str(error.value)
    assert not (tmp_path / "run").exists()


def test_pictures_with_a_palette_are_in_their_colours_and_arrays_in_either_order(tmp_path):
    colours = np.random.RandomState(0).randint(0, 256, (6, 8, 8, 3), np.uint8)
    palettes = [Image.fromarray(pixels).quantize(16) for pixels in colours]
    found = image_set(palettes, "train").images
    assert np.array_equal(found.permute(0, 2, 3, 1).numpy(), [np.array(picture.convert("RGB")) for picture in palettes])
    for order in (colours, colours.transpose(0, 3, 1, 2)):
        assert np.array_equal(image_set(list(order), "train").images.permute(0, 2, 3, 1).numpy(), colours)
    mirrored = image_set([pixels[:, ::-1] for pixels in colours], "train").images
    assert np.array_equal(mirrored.permute(0, 2, 3, 1).numpy(), colours[:, :, ::-1])


def test_a_dataset_that_uses_its_buffer_again_has_all_its_images():
    class Reusing(Pairs):
        buffer = np.zeros((8, 8), np.uint8)

        def __getitem__(self, i):
            self.buffer[:] = PIXELS[i, 0].numpy()
            return self.buffer, float(LABELS[i])

    found = image_set(Reusing(), "train")
    assert torch.equal(found.images, PIXELS) and torch.equal(found.labels, LABELS)


def test_data_that_only_have_a_sets_name_are_not_taken_for_it(tmp_path):
    digits = load_data("digits", "train")
    run = train(tmp_path / "run", data=replace(digits, images=255 - digits.images), **SHORT)
    with pytest.raises(UserError, match="digits: not the samples that this run was trained on"):
        own_data(run.model)
    splits = {name: load_data("digits", name) for name in ("train", "validation")}
    assert own_data(train(tmp_path / "same", data=splits, **SHORT).model) == "digits"


def test_images_of_other_sizes_are_resized_as_a_folders_are(tmp_path):
    (tmp_path / "pics").mkdir()
    for i, pixels in enumerate(PIXELS):
        Image.fromarray(pixels[0].numpy()).save(tmp_path / "pics" / f"{i:02d}.png")
    wanted = load_data(tmp_path / "pics", "all", size=12, channels=3).images
    fitted = fit_splits({"train": ImageSet(PIXELS, None, "images", "train")}, 12, 3)["train"]
    assert torch.equal(fitted.images, wanted)
    model = MODEL | {"image_size": 12, "image_channels": 3, "encoder": "8C3s2-TCJA"}
    run = train(tmp_path / "run", data=PIXELS, **SHORT | {"model": model})
    assert run.model.sample([0]).shape == (1, 3, 12, 12) and tg.resume(run.folder, data=PIXELS, quiet=True).finished


def test_a_class_that_validation_alone_has_is_a_class(tmp_path):
    data = {"train": (PIXELS[:40], LABELS[:40] % 2), "validation": (PIXELS[40:], LABELS[40:])}
    run = classify(tmp_path / "run", data=data, model={"encoder": "8C3-MP2", "time_steps": 3})
    assert run.finished and run.model.head.classes == 3


def test_a_model_of_classes_wants_labels(tmp_path):
    conditional = {"model": MODEL | {"latent": {"conditional": True}}}
    for settings in (conditional, {"model": MODEL | {"head": "3L"}}):
        with pytest.raises(UserError, match="no labels"):
            train(tmp_path / "run", data=PIXELS, **SHORT | settings)
    with pytest.raises(UserError, match="no labels"):
        classify(tmp_path / "run", data=PIXELS)
    assert train(tmp_path / "run", data=(PIXELS, LABELS), **SHORT | conditional).model.classes == 3
