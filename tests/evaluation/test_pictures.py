"""Pictures that people look at: large enough, labelled, and with the facts to make them again."""

import math

import pytest
import torch
from PIL import Image

import tcja_gen as tg
from tcja_gen.cli import main
from tcja_gen.commands.images import parse_seeds
from tcja_gen.evaluation import pictures
from tcja_gen.models import store

MODEL = {"encoder": "4C3s2-TCJA", "latent": {"channels": 4, "k": 2, "conditional": True}, "time_steps": 2}


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    settings = {"steps": 2, "batch": 8, "compile": "off", "device": "cpu", "quiet": True}
    return tg.train(out=str(tmp_path_factory.mktemp("runs") / "r"), model=MODEL, **settings).folder


@pytest.mark.parametrize("n", [1, 2, 5, 64])
@pytest.mark.parametrize("side", [8, 30, 32, 64])
def test_a_grid_is_wide_enough_to_be_seen_and_keeps_every_pixel(n, side):
    images = torch.rand(n, 1, side, side)
    pixels = pictures.grid(images)
    border, columns = (0, 1) if n == 1 else (2, math.ceil(n**0.5))
    tile = (pixels.shape[2] - border) // columns - border
    assert pixels.shape[2] >= 512 and tile % side == 0
    first = pixels[0, border : border + tile : tile // side, border : border + tile : tile // side]
    assert torch.equal(first, (images[0, 0] * 255).round().to(torch.uint8))


def test_rows_of_unlike_length_have_their_labels_and_are_filled_with_grey():
    pixels = pictures.rows([("seven", torch.ones(3, 1, 8, 8)), ("one", torch.zeros(1, 1, 8, 8))])
    grid = pixels[:, :, -(3 * 172 + 8) :]
    assert grid[0, 90, 500] == 255 and grid[0, 260, 90] == 0 and grid[0, 260, 500] in (127, 128)
    margin = pixels[:, :, : -(3 * 172 + 8)]
    assert (margin[:, :174] < 100).any() and (margin[:, 174:] < 100).any()


def test_reconstructions_stand_below_their_originals():
    labels = [label for label, _ in pictures.pairs(torch.zeros(20, 1, 8, 8), torch.ones(20, 1, 8, 8))]
    assert labels == ["original", "reconstruction"] * 2


def test_a_conditional_grid_has_a_row_for_each_class():
    images = torch.arange(7.0).view(7, 1, 1, 1) / 7
    rows = dict(pictures.by_class(images, [3, 4, 5, 6, 7, 8, 30], 3, ["cat", "dog"]))
    assert [*rows] == ["cat", "dog", "2"]
    assert [(7 * row).round().flatten().int().tolist() for row in rows.values()] == [[0, 3, 6], [1, 4], [2, 5]]


@pytest.mark.parametrize("seeds", [[0], [0, 1, 2, 8], [5, 3, 4], [7, 7]])
def test_seeds_are_written_as_sample_reads_them(seeds):
    assert parse_seeds(pictures.seed_text(seeds)) == seeds


def test_a_picture_file_says_how_to_make_it_again(run, tmp_path, capsys):
    facts = {"model": store.weights_hash(tg.load(run)), "run": "r", "step": "2"}
    assert main(["sample", str(run), "--seeds", "3-22", "--grid", "--out", str(tmp_path)]) == 0
    assert main(["sample", str(run), "--seeds", "4,6", "--out", str(tmp_path)]) == 0
    assert main(["reconstruct", str(run), "--n", "4", "--out", str(tmp_path)]) == 0
    files = {tmp_path / "samples.png": "3-22", tmp_path / "000006.png": "000006"}
    files |= {tmp_path / "reconstructions.png": "0-3", run / "samples/step-000002.png": "0-63"}
    for file, seeds in files.items():
        text = Image.open(file).text
        assert {name: text[name] for name in facts} == facts and text["seeds"] == seeds
        assert text["command"] and text["software"].startswith("tcja_gen ")


def test_other_weights_have_another_hash(run):
    model = tg.load(run)
    before = store.weights_hash(model)
    next(model.parameters()).data.flatten()[0] += 1e-6
    assert before != store.weights_hash(model)
