import zipfile
from pathlib import Path

import numpy as np
import PIL.Image
import pytest
import torch

from tcja_gen.data import ImageSet, load_images
from tcja_gen.data.pictures import fit, fit_all

NOISE = np.random.RandomState(0)


def picture(width=6, height=6, mode="RGB"):
    bands = {"L": 1, "LA": 2, "RGB": 3, "RGBA": 4}[mode]
    pixels = NOISE.randint(0, 256, (height, width, bands), dtype=np.uint8)
    return PIL.Image.fromarray(pixels.squeeze(-1) if bands == 1 else pixels)


def save(path: Path, image=None) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    (image or picture()).save(path)
    return path


def zipped(folder: Path, target: Path, prefix="") -> Path:
    with zipfile.ZipFile(target, "w") as archive:
        for file in folder.rglob("*"):
            archive.write(file, prefix + file.relative_to(folder).as_posix())
    return target


@pytest.fixture
def shapes(tmp_path):
    """12 + 4 pictures of classes 2 and 10 in train/ and test/."""
    for part, n in {"train": 6, "test": 2}.items():
        for label in ("2", "10"):
            for i in range(n):
                save(tmp_path / "shapes" / part / label / f"{i}.png")
    return tmp_path / "shapes"


def pixels_of(path):
    return torch.from_numpy(np.array(PIL.Image.open(path))).permute(2, 0, 1)


def test_oblong_pictures_come_out_as_torchvisions_resize_and_crop(tmp_path):
    from torchvision.transforms import v2

    sides = [(9, 17), (40, 23), (31, 30), (8, 13), (5, 6)]
    for i, side in enumerate(sides):
        save(tmp_path / "a" / f"{i}.png", picture(*side))
    transform = v2.Compose([v2.Resize(8), v2.CenterCrop(8), v2.PILToTensor()])
    wanted = torch.stack([transform(PIL.Image.open(tmp_path / "a" / f"{i}.png")) for i in range(len(sides))])
    assert torch.equal(load_images(tmp_path / "a", "all", size=8).images, wanted)


def test_splits_are_disjoint_complete_and_the_same_each_time():
    parts = {split: load_images("digits", split) for split in ("train", "validation", "test")}
    assert [len(part) for part in parts.values()] == [1374, 124, 299]
    rows = [row.numpy().tobytes() for part in parts.values() for row in part.images]
    everything = [row.numpy().tobytes() for row in load_images("digits", "all").images]
    assert sorted(rows) == sorted(everything) and len(set(everything)) == 1797
    assert load_images("digits", "test").fingerprint == parts["test"].fingerprint
    assert len(load_images("digits", "train+validation")) == 1374 + 124


def test_carved_splits_never_move_between_versions():
    from tcja_gen.data.catalogue import partition

    parts = partition(torch.arange(24))
    assert parts["test"].tolist() == [0, 4, 10, 15] and parts["validation"].tolist() == [6]


def test_validation_comes_out_of_train_and_test_is_untouched(shapes):
    train, validation = load_images(shapes, "train"), load_images(shapes, "validation")
    assert (len(train), len(validation), len(load_images(shapes, "test"))) == (11, 1, 4)
    assert len(load_images(shapes, "train+validation")) == 12
    assert not (train.images == validation.images).flatten(1).all(1).any()


def test_validation_folder_is_used_as_it_is(shapes):
    save(shapes / "val/10/v.png")
    validation = load_images(shapes, "validation")
    assert torch.equal(validation.images[0], pixels_of(shapes / "val/10/v.png"))
    assert validation.labels.tolist() == [1] and len(load_images(shapes, "train")) == 12


def test_classes_and_files_come_in_natural_order(tmp_path):
    names = ["img10.png", "img2.png", "img1.png"]
    for label in ("class10", "class9"):
        for name in names:
            save(tmp_path / "set" / label / name)
    found = load_images(tmp_path / "set", "all")
    order = [f"{label}/img{i}.png" for label in ("class9", "class10") for i in (1, 2, 10)]
    assert found.classes == ("class9", "class10") and found.labels.tolist() == [0, 0, 0, 1, 1, 1]
    assert torch.equal(found.images, torch.stack([pixels_of(tmp_path / "set" / name) for name in order]))


def test_folder_without_classes_has_no_labels(tmp_path):
    for i in range(3):
        save(tmp_path / "flat" / f"{i}.png")
    found = load_images(tmp_path / "flat", "all")
    assert len(found) == 3 and found.labels is None and found.classes is None and found.name == "flat"


@pytest.mark.parametrize("prefix", ["", "wrapped/"])
def test_zip_gives_what_its_folder_gives_and_extracts_nothing(shapes, tmp_path, prefix):
    archive = zipped(shapes, tmp_path / "shapes.zip", prefix)
    with zipfile.ZipFile(archive, "a") as more:
        more.writestr("__MACOSX/train/2/._0.png", b"resource fork")
        more.writestr(f"{prefix}train/2/.hidden.png", b"hidden")
    before = sorted(tmp_path.iterdir())
    for split in ("train", "test", "all"):
        assert load_images(archive, split).fingerprint == load_images(shapes, split).fingerprint
    assert load_images(archive).classes == ("2", "10") and sorted(tmp_path.iterdir()) == before


def test_alpha_goes_onto_black(tmp_path):
    half = PIL.Image.new("RGBA", (4, 4), (200, 100, 50, 128))
    save(tmp_path / "a/0.png", half)
    save(tmp_path / "a/1.png", half.quantize())
    images = load_images(tmp_path / "a", "all").images
    assert images.shape == (2, 3, 4, 4)
    assert images[:, :, 0, 0].tolist() == [[100, 50, 25]] * 2


def test_sixteen_bit_grey_is_scaled(tmp_path):
    values = np.linspace(0, 65535, 16).round().astype(np.uint16).reshape(4, 4)
    save(tmp_path / "a/0.png", PIL.Image.fromarray(values))
    images = load_images(tmp_path / "a", "all").images
    assert images.shape == (1, 1, 4, 4) and images.flatten().tolist() == list(range(0, 256, 17))


def test_sixteen_bit_grey_is_rounded_to_the_nearest_level(tmp_path):
    """65535 / 255 = 257 to a level."""
    levels = [0, 1, 100, 254]
    values = np.array([[257 * level + more for level in levels] for more in (0, 128, 129, 256)], np.uint16)
    save(tmp_path / "a/0.png", PIL.Image.fromarray(values))
    found = load_images(tmp_path / "a", "all").images[0, 0].tolist()
    assert found == [levels, levels, [level + 1 for level in levels], [level + 1 for level in levels]]


def test_channels_convert_both_ways(tmp_path):
    image = picture()
    save(tmp_path / "colour/0.png", image)
    save(tmp_path / "grey/0.png", image.convert("L"))
    grey = load_images(tmp_path / "colour", "all", channels=1).images
    assert torch.equal(grey, load_images(tmp_path / "grey", "all").images)
    assert torch.equal(load_images(tmp_path / "grey", "all", channels=3).images, grey.expand(-1, 3, -1, -1))


def test_sideways_photograph_is_turned_upright(tmp_path):
    image, exif = picture(8, 8), PIL.Image.Exif()
    exif[0x0112] = 6  # turn by 90 degrees clockwise
    (tmp_path / "a").mkdir()
    image.save(tmp_path / "a/0.png", exif=exif)
    found = load_images(tmp_path / "a", "all").images[0].permute(1, 2, 0).numpy()
    assert np.array_equal(found, np.rot90(np.array(image), -1))


def test_mixed_sizes_ask_for_a_size(tmp_path):
    save(tmp_path / "a/0.png", picture(6, 6))
    save(tmp_path / "a/1.png", picture(8, 6))
    with pytest.raises(ValueError, match=r"1.png is 8 x 6, 0.png is 6 x 6: give a size \(--size"):
        load_images(tmp_path / "a", "all")
    assert load_images(tmp_path / "a", "all", size=5).images.shape == (2, 3, 5, 5)


def test_an_oblong_picture_is_named_once(tmp_path):
    save(tmp_path / "a.png", picture(8, 6))
    with pytest.raises(ValueError, match=r"a.png is 8 x 6, which is not square: give a size"):
        load_images(tmp_path, "all")


def test_what_is_done_to_pictures_of_a_folder_is_told(tmp_path):
    save(tmp_path / "a.png", picture(8, 6))
    told = load_images(tmp_path, "all", size=6, channels=1).converted
    assert told == "colour, 8 x 6 pixels, converted to grey, 6 x 6 pixels"
    save(tmp_path / "a.png", picture(6, 6))
    assert not load_images(tmp_path, "all").converted


def test_mixed_grey_and_colour_ask_for_channels(tmp_path):
    save(tmp_path / "a/0.png", picture(mode="L"))
    save(tmp_path / "a/1.png", picture(mode="RGB"))
    with pytest.raises(ValueError, match="1.png is RGB, 0.png is L: give the channels"):
        load_images(tmp_path / "a", "all")


def test_bad_file_is_named_with_the_command_that_finds_all(shapes):
    file = shapes / "train/10/3.png"
    file.write_bytes(file.read_bytes()[:60])
    with pytest.raises(ValueError) as caught:
        load_images(shapes, "train+validation")
    message = str(caught.value)
    assert message.startswith(f"{file}: truncated") and f"`tcja-gen check {shapes}`" in message
    assert "\n" not in message


def test_image_beside_class_folders_is_refused(shapes):
    save(shapes / "train/stray.png")
    with pytest.raises(ValueError, match="stray.png lies beside class folders"):
        load_images(shapes)


@pytest.mark.parametrize(
    ("source", "error", "says"),
    [
        ("mnits", ValueError, "did you mean 'mnist'.*fashion-mnist, cifar10"),
        ("no/such/folder", FileNotFoundError, "no/such/folder: no such folder or zip"),
        ("missing.zip", FileNotFoundError, "missing.zip: no such folder or zip"),
    ],
)
def test_unknown_source_says_what_is_known(source, error, says):
    with pytest.raises(error, match=says):
        load_images(source)


def test_mistaken_arguments_say_what_to_give(tmp_path):
    for arguments, says in [
        ({"split": "dev"}, "unknown split 'dev': take one of train, validation"),
        ({"channels": 2}, r"channels 2: take 1 \(grey\) or 3"),
        ({"size": 1}, "size 1 is too small"),
    ]:
        with pytest.raises(ValueError, match=says):
            load_images("digits", **arguments)


def test_neither_folder_nor_zip_and_empty_folder(tmp_path):
    (tmp_path / "notes.zip").write_text("not a zip")
    with pytest.raises(ValueError, match="notes.zip is neither a folder nor a readable zip"):
        load_images(tmp_path / "notes.zip")
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match="empty: no images found"):
        load_images(tmp_path / "empty")


def test_too_few_images_for_a_split(tmp_path):
    save(tmp_path / "one/0.png")
    assert len(load_images(tmp_path / "one", "train")) == 1
    with pytest.raises(ValueError, match="no image in split 'test'.*train 1, validation 0, test 0"):
        load_images(tmp_path / "one", "test")


def test_fingerprint_is_of_the_content_alone():
    images, labels = torch.arange(24, dtype=torch.uint8).view(2, 1, 3, 4), torch.tensor([0, 1])
    one = ImageSet(images, labels, "a", "train")
    assert one.fingerprint == ImageSet(images.clone(), labels, "b", "test").fingerprint
    others = [(images.view(2, 1, 4, 3), labels), (images + 1, labels), (images, None), (images, 1 - labels)]
    prints = {ImageSet(x, y, "a", "train").fingerprint for x, y in others}
    assert len(prints) == 4 and one.fingerprint not in prints


@pytest.mark.parametrize(
    ("shape", "size", "channels"), [((28, 28), 32, 1), ((8, 8), 8, 1), ((20, 20), 12, 1), ((6, 6, 3), 6, 3)]
)
def test_arrays_converted_at_once_are_those_converted_one_by_one(shape, size, channels):
    pixels = np.random.RandomState(0).randint(0, 256, (700, *shape), np.uint8)
    whole = fit_all(pixels, size, channels)
    wanted = np.stack([fit(PIL.Image.fromarray(image), size, channels) for image in pixels])
    assert whole is None or np.array_equal(whole, wanted)
    assert (whole is not None) or shape[0] != size  # a resize may differ on some processors, and is then not used
    assert fit_all(pixels, 5, 4 - channels) is None
