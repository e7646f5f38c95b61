import shutil
import zipfile

import numpy as np
import PIL.Image
import pytest

from tcja_gen.data import check_images, load_images

NOISE = np.random.RandomState(1)


def save(path, size=8, mode="RGB"):
    path.parent.mkdir(parents=True, exist_ok=True)
    PIL.Image.fromarray(NOISE.randint(0, 256, (size, size, 3), np.uint8)).convert(mode).save(path)


@pytest.fixture
def good(tmp_path):
    for part in ("train", "test"):
        for label in ("cat", "dog"):
            for i in range(3):
                save(tmp_path / "set" / part / label / f"{i}.png")
    return tmp_path / "set"


@pytest.fixture
def bad(good):
    """The good set with one file of each defect; returns the folder and what is to be found, file by file."""
    whole = (good / "train/cat/0.png").read_bytes()
    (good / "train/cat/cut.png").write_bytes(whole[: len(whole) // 2])
    (good / "train/cat/empty.png").write_bytes(b"")
    (good / "train/cat/text.jpg").write_text("no image at all")
    save(good / "train/dog/tiny.png", size=2)
    PIL.Image.fromarray(np.zeros((8, 8), np.float32)).save(good / "train/dog/float.tif")
    shutil.copy(good / "train/dog/0.png", good / "test/dog/twin.png")
    (good / "train/notes.txt").write_text("ignored")
    save(good / "extra/0.png")
    (good / ".hidden.png").write_text("not reported")
    return good, {
        "train/cat/cut.png": "truncated or broken",
        "train/cat/empty.png": "empty file",
        "train/cat/text.jpg": "not an image",
        "train/dog/tiny.png": "2 x 2 pixels",
        "train/dog/float.tif": "pixel mode F",
        "test/dog/twin.png": "same bytes as train/dog/0.png",
        "train/notes.txt": "ignored in training",
        "extra/0.png": "outside the folders",
    }


def assert_found(problems, source, wanted):
    found = {problem.file: problem.reason for problem in problems}
    assert len(found) == len(problems)
    assert set(found) == {str(source / name) for name in wanted}
    for name, reason in wanted.items():
        assert reason in found[str(source / name)] and "\n" not in found[str(source / name)]


def test_good_set_has_no_problem(good):
    assert check_images(good) == [] and check_images(good, size=4, channels=3) == []


def test_every_bad_file_of_a_folder_is_named(bad):
    folder, wanted = bad
    (folder / "train/bird").mkdir()
    assert_found(check_images(folder), folder, wanted | {"train/bird": "folder without images"})


def test_every_bad_file_of_a_zip_is_named(bad, tmp_path):
    folder, wanted = bad
    with zipfile.ZipFile(tmp_path / "set.zip", "w") as archive:
        for file in folder.rglob("*"):
            archive.write(file, file.relative_to(folder).as_posix())
    assert_found(check_images(tmp_path / "set.zip"), tmp_path / "set.zip", wanted)


def test_damaged_zip_member_is_named(good, tmp_path):
    target, whole = tmp_path / "set.zip", (good / "train/cat/1.png").read_bytes()
    with zipfile.ZipFile(target, "w") as archive:
        for i in range(3):
            archive.write(good / f"train/cat/{i}.png", f"{i}.png")
    data = target.read_bytes()
    target.write_bytes(data.replace(whole, whole[:-20] + bytes(20)))
    assert_found(check_images(target), target, {"1.png": "unreadable (Bad CRC-32"})


def test_what_check_passes_loads_and_what_it_names_does_not(bad):
    folder, wanted = bad
    with pytest.raises(ValueError, match="tcja-gen check"):
        load_images(folder, "all")
    for name in wanted:
        (folder / name).unlink()
    (folder / "extra").rmdir()
    assert check_images(folder) == [] and len(load_images(folder, "all")) == 12


def test_pictures_that_loading_converts_are_no_problem(good):
    save(good / "test/cat/grey.png", mode="L")
    assert check_images(good, channels=3) == check_images(good, channels=1) == []


def test_sizes_and_channels_that_cannot_be_are_refused(good):
    for shape, told in (({"size": -5}, "size -5 is too small"), ({"channels": 7}, "take 1")):
        for source in (good, "digits"):
            with pytest.raises(ValueError, match=told):
                check_images(source, **shape)


def test_mixed_shapes_are_one_problem_of_the_set(good):
    save(good / "test/cat/large.png", size=10, mode="L")
    problems = check_images(good)
    assert [problem.file for problem in problems] == [str(good)] * 2
    assert "8 x 8" in problems[0].reason and "test/cat/large.png" in problems[0].reason
    assert "grey and colour" in problems[1].reason
    assert check_images(good, size=8, channels=1) == [] and check_images(good, size=8)[0] == problems[1]


def test_stray_image_beside_classes_is_named(good):
    save(good / "train/stray.png")
    assert_found(check_images(good), good, {"train/stray.png": "beside class folders"})


def test_missing_files_of_a_builtin_set_are_named_one_by_one(tmp_path):
    problems = check_images("mnist", root=tmp_path)
    assert len(problems) == 4 and {problem.reason for problem in problems} == {"missing"}
    assert str(tmp_path / "MNIST/raw/t10k-labels-idx1-ubyte") in {problem.file for problem in problems}
    assert check_images("digits") == []


def test_damaged_file_of_a_builtin_set_is_named(tmp_path):
    (tmp_path / "cifar-100-python").mkdir()
    (tmp_path / "cifar-100-python/train").write_bytes(b"something else")
    problems = {problem.file: problem.reason for problem in check_images("cifar100", root=tmp_path)}
    assert problems.pop(str(tmp_path / "cifar-100-python/train")).startswith("damaged (MD5")
    assert set(problems.values()) == {"missing"} and len(problems) == 2


def test_missing_and_cut_celeba_pictures_are_named(tmp_path):
    folder = tmp_path / "celeba/img_align_celeba"
    for name in ("000001.jpg", "000003.jpg"):
        save(folder / name)
    (folder / "000003.jpg").write_bytes((folder / "000001.jpg").read_bytes()[:200])
    (tmp_path / "celeba/list_eval_partition.txt").write_text("000001.jpg 0\n000002.jpg 2\n000003.jpg 0\n")
    problems = {problem.file: problem.reason for problem in check_images("celeba", root=tmp_path)}
    assert problems.keys() == {str(folder / "000002.jpg"), str(folder / "000003.jpg")}
    assert problems[str(folder / "000002.jpg")] == "missing"
