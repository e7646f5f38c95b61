"""Folders of many small pictures: read in several processes, once, and never taken for what they no longer are."""

import os
import zipfile

import numpy as np
import PIL.Image
import pytest

from tcja_gen.cache import cache_file
from tcja_gen.data import load_images, reading

PIXELS = np.random.RandomState(5).randint(0, 256, (1250, 6, 6), np.uint8)


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pictures") / "small"
    folder.mkdir()
    for i, pixels in enumerate(PIXELS):
        PIL.Image.fromarray(pixels).save(folder / f"{i}.png")
    return folder


@pytest.fixture
def folder(written, tmp_path, monkeypatch):
    """1,250 pictures of their own, and an empty cache."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    copy = tmp_path / "small"
    copy.mkdir()
    for file in written.iterdir():
        os.link(file, copy / file.name)
    return copy


def kept() -> list:
    return [*cache_file("pictures", ".npy").parent.glob("pictures-*")]


def replace(file, pixels) -> None:
    file.unlink()
    PIL.Image.fromarray(pixels).save(file)


def test_a_set_of_crops_and_its_folder_are_not_taken_for_each_other(tmp_path, monkeypatch):
    monkeypatch.setattr(reading, "MANY", 4)
    for split in ("train", "test"):
        (tmp_path / "celeba" / split).mkdir(parents=True)
        for i in range(9):
            pixels = np.random.RandomState(i).randint(0, 256, (109, 89, 3), np.uint8)
            PIL.Image.fromarray(pixels).save(tmp_path / "celeba" / split / f"{i}.png")
    ways = {"celeba-10k": {}, tmp_path / "celeba": {"channels": 3}}
    found = {}
    for first in ways:  # the cache of each place holds what was read first
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / str(len(found))))
        for way in sorted(ways, key=lambda way: way != first):
            found.setdefault(way, []).append(load_images(way, "test", root=tmp_path, size=16, **ways[way]).images)
    named, folder = found.values()
    assert np.array_equal(*named) and np.array_equal(*folder) and not np.array_equal(named[0], folder[0])


def test_all_pictures_come_in_their_order_from_one_process_and_from_several(folder, monkeypatch):
    for number in (1, 3):
        monkeypatch.setattr(reading, "cores", lambda number=number: number)
        assert np.array_equal(load_images(folder, "all").images[:, 0].numpy(), PIXELS)
        kept()[0].unlink()


def test_the_second_time_no_picture_is_decoded(folder, monkeypatch):
    first = load_images(folder, "all")
    monkeypatch.setattr(reading, "fit", None)
    assert load_images(folder, "all").fingerprint == first.fingerprint


def test_a_picture_that_was_replaced_is_read_anew(folder):
    before = load_images(folder, "all").images
    replace(folder / "7.png", PIXELS[8])
    after = load_images(folder, "all").images
    assert np.array_equal(after[7, 0].numpy(), PIXELS[8]) and (before != after).any((1, 2, 3)).nonzero().tolist() == [
        [7]
    ]


def test_what_was_kept_for_a_size_that_was_asked_for_does_not_hide_pictures_of_another(folder):
    replace(folder / "1249.png", PIXELS[0, :5, :5])
    assert load_images(folder, "all", size=6).images.shape == (1250, 1, 6, 6)
    with pytest.raises(ValueError, match=r"1249.png is 5 x 5, 0.png is 6 x 6"):
        load_images(folder, "all")


def test_a_bad_picture_is_named_whichever_process_reads_it_and_nothing_is_kept(folder):
    for number in (1100, 700):
        (folder / f"{number}.png").unlink()
        (folder / f"{number}.png").write_bytes(b"")
    with pytest.raises(ValueError, match=r"small/700.png: empty file"):
        load_images(folder, "all")
    assert not kept()


def test_a_damaged_file_of_the_cache_is_made_anew(folder, capsys):
    load_images(folder, "all")
    kept()[0].write_bytes(kept()[0].read_bytes()[:5000])
    assert np.array_equal(load_images(folder, "all").images[:, 0].numpy(), PIXELS)
    assert "is made anew" in capsys.readouterr().err


def test_a_zip_is_read_in_processes_that_do_not_disturb_each_other(folder, tmp_path, monkeypatch):
    monkeypatch.setattr(reading, "cores", lambda: 3)
    with zipfile.ZipFile(tmp_path / "small.zip", "w") as archive:
        for file in folder.iterdir():
            archive.write(file, file.name)
    assert np.array_equal(load_images(tmp_path / "small.zip", "all").images[:, 0].numpy(), PIXELS)


def test_few_pictures_leave_nothing_in_the_cache(folder):
    load_images(folder, "test")
    assert not kept()
