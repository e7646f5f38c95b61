"""Folders and zips as people have them: with stray files, links, other tools' zips, and traps."""

import os
import zipfile

import numpy as np
import PIL.Image
import pytest

from tcja_gen.data import check_images, load_images
from tcja_gen.data.folders import BIGGEST

NOISE = np.random.RandomState(2)


def save(path):
    path.parent.mkdir(parents=True, exist_ok=True)
    PIL.Image.fromarray(NOISE.randint(0, 256, (6, 6, 3), np.uint8)).save(path)


@pytest.fixture
def top(tmp_path):
    """top/dataset/{train,test}/{a,b}/*.png: 12 and 6 pictures a class."""
    for part, n in {"train": 12, "test": 6}.items():
        for label in ("a", "b"):
            for i in range(n):
                save(tmp_path / "top" / "dataset" / part / label / f"{i}.png")
    return tmp_path / "top"


def prints(source) -> dict:
    return {split: load_images(source, split).fingerprint for split in ("train", "validation", "test", "all")}


def refusal(source, split="train") -> str:
    with pytest.raises(ValueError) as caught:
        load_images(source, split)
    assert "\n" not in str(caught.value)
    return str(caught.value)


STRAY = ["README.txt", "labels.csv", "Thumbs.db", ".DS_Store", ".hidden/1.png", "__MACOSX/._1.png", "docs/how.pdf"]
STRAY += ["dataset/notes.md", "dataset/train/list.csv", "dataset/train/a/list.csv", "dataset/test/.DS_Store"]


@pytest.mark.parametrize("stray", STRAY)
def test_a_stray_file_changes_no_split_and_no_class(top, stray):
    before = prints(top)
    (top / stray).parent.mkdir(parents=True, exist_ok=True)
    (top / stray).write_text("not a picture")
    assert prints(top) == before and load_images(top).classes == ("a", "b")


@pytest.mark.parametrize("empty", ["train", "test", "other", "dataset/extra", "dataset/train/c"])
def test_an_empty_folder_changes_no_split_and_no_class(top, empty):
    before = prints(top)
    (top / empty).mkdir(parents=True)
    assert prints(top) == before and load_images(top).classes == ("a", "b")


@pytest.mark.parametrize("beside", ["cover.png", "more/1.png", "train/preview.png"])
def test_splits_that_would_be_mixed_in_silence_are_refused(top, beside):
    save(top / beside)
    said = refusal(top)
    assert str(top) in said and ("dataset" in said or "cover" in said)
    assert [problem.reason for problem in check_images(top)] == [said.removeprefix(f"{top}: ")]


def test_classes_that_hold_splits_are_not_mixed(tmp_path):
    for label in ("cat", "dog"):
        for part in ("train", "test"):
            save(tmp_path / "set" / label / part / "1.png")
    assert "cat/test" in refusal(tmp_path / "set")


def test_a_class_called_train_does_not_swallow_the_others(tmp_path):
    for label in ("bus", "car", "train"):
        for i in range(3):
            save(tmp_path / "vehicles" / label / f"{i}.png")
    assert "bus/0.png" in refusal(tmp_path / "vehicles")


def test_a_link_that_leads_back_multiplies_no_image(top):
    before = prints(top)
    for name, target in {"dataset/train/a/loop": "..", "dataset/again": "train", "up": ".."}.items():
        (top / name).symlink_to(target)
    assert prints(top) == before
    told = {problem.file: problem.reason for problem in check_images(top)}
    assert {str(top / name) for name in ("dataset/train/a/loop", "dataset/again", "up")} == told.keys()
    assert all("link to a folder" in reason for reason in told.values())


def test_a_linked_folder_is_read_once_and_under_its_own_name(tmp_path):
    for i in range(4):
        save(tmp_path / "elsewhere" / f"{i}.png")
        save(tmp_path / "set" / "b" / f"{i}.png")
    (tmp_path / "set" / "c").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "set" / "a").symlink_to("b")
    found = load_images(tmp_path / "set", "all")
    assert found.classes == ("b", "c") and found.labels.tolist() == [0] * 4 + [1] * 4


def test_a_link_to_nothing_and_a_pipe_are_named_and_not_waited_for(top):
    (top / "dataset/train/a/gone.png").symlink_to("nowhere")
    os.mkfifo(top / "dataset/train/a/pipe.png")
    told = {problem.file: problem.reason for problem in check_images(top)}
    assert told.keys() == {str(top / "dataset/train/a" / name) for name in ("gone.png", "pipe.png")}


@pytest.mark.parametrize("spelling", ["{}", "./{}", "/{}"])
@pytest.mark.parametrize("slash", ["/", "\\"])
def test_zips_of_other_tools_are_read_as_the_folder(top, tmp_path, spelling, slash):
    with zipfile.ZipFile(tmp_path / "top.zip", "w") as archive:
        for path in sorted(top.rglob("*")):
            name = spelling.format(path.relative_to(top).as_posix()).replace("/", slash)
            archive.writestr(name + slash if path.is_dir() else name, b"" if path.is_dir() else path.read_bytes())
    assert prints(tmp_path / "top.zip") == prints(top) and load_images(tmp_path / "top.zip").classes == ("a", "b")
    assert check_images(tmp_path / "top.zip") == []


def test_a_zip_bomb_is_refused_by_the_name_of_the_member(tmp_path):
    with zipfile.ZipFile(tmp_path / "bomb.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        with archive.open("a/1.png", "w") as member:
            for _ in range(BIGGEST // 2**24 + 1):
                member.write(bytes(2**24))
    said = refusal(tmp_path / "bomb.zip", "all")
    assert "bomb.zip/a/1.png" in said and "at most 268 MB" in said


def test_a_member_that_holds_more_than_it_says_is_not_unpacked(tmp_path):
    with zipfile.ZipFile(tmp_path / "lies.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a/1.png", bytes(2**26))
    data = (tmp_path / "lies.zip").read_bytes()
    (tmp_path / "lies.zip").write_bytes(data.replace((2**26).to_bytes(4, "little"), (100).to_bytes(4, "little")))
    assert "lies.zip/a/1.png: unreadable" in refusal(tmp_path / "lies.zip", "all")


@pytest.mark.parametrize("method", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_a_zip_that_unpacks_without_a_bound_is_refused(top, tmp_path, method):
    with zipfile.ZipFile(tmp_path / "set.zip", "w", method) as archive:
        archive.write(top / "dataset/train/a/0.png", "a/0.png")
    assert "another method than deflate" in refusal(tmp_path / "set.zip", "all")


def test_names_that_are_no_utf8_are_read_and_named(top):
    folder = os.fsencode(top / "dataset/train/a")
    with open(os.path.join(folder, b"gr\xfcn.png"), "wb") as file:
        file.write((top / "dataset/train/b/0.png").read_bytes())
    with open(os.path.join(folder, b"caf\xe9.png"), "wb") as file:
        file.write(b"nothing")
    assert [os.fsencode(problem.file)[-8:] for problem in check_images(top)] == [b"caf\xe9.png"]
