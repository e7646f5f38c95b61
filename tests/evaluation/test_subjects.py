"""What is scored: the images that a score is of, and the seeds and bytes that they are made with."""

from pathlib import Path

import torch
from PIL import Image

from tcja_gen.data import load_images
from tcja_gen.evaluation import Request, evaluate
from tcja_gen.evaluation.generate import quantise, reconstruct
from tcja_gen.evaluation.subjects import Subject


def test_bytes_are_rounded_and_not_cut_off():
    exact = torch.arange(256.0)
    for shift in (-0.4, 0.4):
        moved = ((exact + shift) / 255).clamp(0, 1).view(1, 1, 16, 16)
        assert torch.equal(quantise(moved).flatten(), exact.to(torch.uint8))


def test_reconstructions_are_those_of_the_seed_that_was_asked_for(model):
    images = torch.randint(256, (6, 1, 8, 8), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    wanted = model.reconstruct(images.float() / 255, seeds=torch.arange(5, 11))
    assert torch.equal(reconstruct(model, images, seed=5, batch=4), wanted)
    assert not torch.equal(reconstruct(model, images, seed=0), wanted)


def test_a_score_of_reconstructions_depends_on_its_seed(model):
    real = load_images("digits", "test")
    one, other = (Subject.of(model, Request(n=64, seed=seed, batch=64), []).reconstructions(real) for seed in (0, 64))
    assert not torch.equal(one, other)
    scores = [evaluate(model, "digits", ["reconstruction"], n=64, seed=seed)["scores"] for seed in (0, 64, 0)]
    assert scores[0] == scores[2] != scores[1]


def test_of_many_images_a_random_choice_is_scored_since_folders_are_sorted_by_class():
    chosen = Request(n=20, seed=0).draw(100).tolist()
    assert len(set(chosen)) == 20 and sum(number >= 50 for number in chosen) > 4 and chosen == sorted(chosen)
    assert Request(n=20, seed=0).draw(100).tolist() == chosen
    assert Request(n=20, seed=1).draw(100).tolist() != chosen


def test_a_record_tells_how_its_images_were_drawn(quick_networks):
    images = load_images("digits", "train").images
    some, all_of_them = (evaluate(images[:100], "digits", "fad", n=n, seed=3) for n in (80, 100))
    assert some["protocol"]["fad"]["drawn"] == "by seed 3" and "80 of 100 images scored" in " ".join(some["notes"])
    assert all_of_them["protocol"]["fad"]["drawn"] is None and "100 images" not in " ".join(all_of_them["notes"])


def test_a_folder_of_samples_may_be_called_like_a_data_set(quick_networks, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("digits").mkdir()
    noise = torch.randint(256, (40, 8, 8), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    for i, pixels in enumerate(noise):
        Image.fromarray(pixels.numpy()).save(f"digits/{i:02d}.png")
    scores = [evaluate(source, "digits", "fad", n=40)["scores"] for source in (Path("digits"), noise[:, None])]
    assert scores[0] == scores[1]
