import numpy as np
import pytest
import torch

from tcja_gen.data import Batches, EventSet, ImageSet
from tcja_gen.data.batches import flip_images, shift_images


def image_set(n=20, channels=3, labels=True):
    pixels = np.random.RandomState(2).randint(0, 256, (n, channels, 6, 5), np.uint8)
    return ImageSet(torch.from_numpy(pixels), torch.arange(n) if labels else None, "noise", "train")


def test_batch_is_the_images_scaled_to_plus_minus_one():
    data = image_set()
    batches = Batches(data, 4)
    x, chosen = batches.at(3)[0], batches.indices_at(3)
    assert x.dtype == torch.float32 and torch.equal(x, data.images[chosen].float() / 127.5 - 1)
    assert x.min() >= -1 and x.max() <= 1 and torch.equal(batches.labels_at(3), chosen)


def test_step_gives_the_same_batch_whatever_was_asked_before():
    options = {"seed": 3, "flip": True, "shift": 2}
    one, other = Batches(image_set(), 8, **options), Batches(image_set(), 8, **options)
    forward = [one.at(step)[0] for step in range(7)]
    for step in (6, 0, 3, 2, 5, 1, 4):
        assert torch.equal(other.at(step)[0], forward[step])


def test_every_epoch_shows_every_image_once_and_in_another_order():
    batches = Batches(image_set(20), 8)
    seen = torch.cat([batches.indices_at(step) for step in range(5)])
    first, second = seen[:20], seen[20:]
    assert first.sort().values.tolist() == second.sort().values.tolist() == list(range(20))
    assert first.tolist() != second.tolist()


def test_seeds_are_unrelated_even_one_apart():
    epochs = [Batches(image_set(), 20, seed=seed).indices_at(step).tolist() for seed in (0, 1) for step in (0, 1)]
    assert len({tuple(epoch) for epoch in epochs}) == 4


def test_set_smaller_than_the_batch_wraps_round():
    batches = Batches(image_set(3), 8)
    assert batches.at(0)[0].shape[0] == 8 and batches.indices_at(0).bincount().tolist() in (
        [3, 3, 2],
        [3, 2, 3],
        [2, 3, 3],
    )
    seen = torch.cat([batches.indices_at(step) for step in range(3)])
    assert seen.bincount().tolist() == [8, 8, 8]


@pytest.mark.parametrize("world", [2, 4])
def test_processes_together_see_the_batch_of_one(world):
    options = {"seed": 5, "flip": True, "shift": 1}
    whole = Batches(image_set(), 12, **options)
    shares = [Batches(image_set(), 12, **options, rank=rank, world=world) for rank in range(world)]
    for step in (0, 1, 9):
        for rank, share in enumerate(shares):
            assert torch.equal(share.at(step)[0], whole.at(step)[0][rank::world])
            assert torch.equal(share.labels_at(step), whole.labels_at(step)[rank::world])


def test_flip_mirrors_about_half_and_changes_nothing_else():
    data = image_set()
    plain, flipped = Batches(data, 20), Batches(data, 20, flip=True)
    mirrored = 0
    for step in range(20):
        for x, y in zip(plain.at(step)[0], flipped.at(step)[0], strict=True):
            same, mirror = torch.equal(x, y), torch.equal(x.flip(-1), y)
            assert same or mirror
            mirrored += mirror
    assert 150 < mirrored < 250


def test_flip_and_shift_do_what_they_say():
    x = image_set(2, 1).images
    assert torch.equal(flip_images(x, torch.tensor([True, False])), torch.stack([x[0].flip(-1), x[1]]))
    moved = shift_images(x, torch.tensor([[1, -2], [0, 0]]), 2)  # down 1, left 2
    wanted = torch.zeros_like(x[0])
    wanted[:, 1:, :-2] = x[0, :, :-1, 2:]
    assert torch.equal(moved, torch.stack([wanted, x[1]]))


def test_shift_fills_with_black_and_reaches_every_offset():
    data = ImageSet(torch.full((50, 1, 5, 5), 255, dtype=torch.uint8), None, "white", "train")
    x = Batches(data, 50, shift=1).at(0)[0]
    assert set(x.unique().tolist()) == {-1.0, 1.0}
    assert {int(image.eq(1).sum()) for image in x} == {16, 20, 25}
    assert Batches(data, 50, shift=1).labels_at(0) is None


def test_mistakes_are_named():
    with pytest.raises(ValueError, match="batch 10 is not a positive multiple of the 4 processes"):
        Batches(image_set(), 10, world=4)
    with pytest.raises(ValueError, match="rank 2 is not one of the 2 processes"):
        Batches(image_set(), 10, rank=2, world=2)
    with pytest.raises(ValueError, match="is empty"):
        Batches(image_set(0), 4)
    with pytest.raises(ValueError, match="shift -1 is negative"):
        Batches(image_set(), 4, shift=-1)


def event_set() -> EventSet:
    draw = torch.Generator().manual_seed(0)
    frames = torch.randint(0, 5, (10, 3, 2, 8, 8), generator=draw).to(torch.uint8)
    return EventSet(frames, torch.arange(10) % 3, "clips", "train", ("a", "b", "c"))


def test_event_frames_come_time_first_with_their_classes():
    batches = Batches(event_set(), 4, classes=3)
    x, targets = batches.at(1)
    chosen = batches.indices_at(1)
    assert torch.equal(x, event_set().frames[chosen].transpose(0, 1).float())
    assert torch.equal(targets.argmax(1), event_set().labels[chosen]) and targets.sum() == 4


@pytest.mark.parametrize("mixup", [0.0, 0.5])
def test_processes_share_out_augmented_and_mixed_batches_of_one(mixup):
    settings = {"augment": ("flip", "roll", "cutout"), "mixup": mixup, "classes": 3}
    whole = Batches(event_set(), 4, **settings)
    for rank in range(2):
        share = Batches(event_set(), 4, rank=rank, world=2, **settings)
        for step in range(4):
            (x, y), (wanted_x, wanted_y) = share.at(step), whole.at(step)
            assert torch.equal(x, wanted_x[:, rank::2]) and torch.equal(y, wanted_y[rank::2])
    mixed = torch.stack([whole.at(step)[1].amax(1) for step in range(4)])
    assert (mixed < 1).any() == (mixup > 0)


def test_augmentation_for_the_other_kind_of_data_is_refused():
    with pytest.raises(ValueError, match="flip and shift are for images"):
        Batches(event_set(), 4, flip=True)
    images = ImageSet(torch.zeros(4, 1, 8, 8, dtype=torch.uint8), None, "grey", "train")
    with pytest.raises(ValueError, match="augment is for event frames"):
        Batches(images, 4, augment=("roll",))
    with pytest.raises(ValueError, match="there are none to learn"):
        Batches(images, 4, mixup=0.5)
