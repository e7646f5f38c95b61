import pytest
import torch

from tcja_gen.data.event_augmentation import KINDS, augment, mixup


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def frames_of(n=24, steps=3, height=20, width=26):
    return torch.randint(0, 4, (n, steps, 2, height, width), generator=seeded(9)).float()


@pytest.mark.parametrize("kinds", [KINDS, *[(kind,) for kind in KINDS]])
def test_a_batch_depends_on_its_generator_alone(kinds):
    frames = frames_of()
    kept = frames.clone()
    first, again, other = (augment(frames, seeded(seed), kinds) for seed in (1, 1, 2))
    assert torch.equal(first, again) and not torch.equal(first, other) and torch.equal(frames, kept)
    assert first.shape == frames.shape and not torch.equal(first, frames)


@pytest.mark.parametrize("kinds", [KINDS, *[(kind,) for kind in KINDS]])
def test_all_steps_and_polarities_of_a_recording_move_alike(kinds):
    frames = frames_of(steps=1)[:, :, :1].expand(-1, 4, 2, -1, -1)
    moved = augment(frames, seeded(), kinds)
    assert torch.equal(moved, moved[:, :1, :1].expand_as(moved))


@pytest.mark.parametrize("kinds", [("flip",), ("roll",), ("flip", "roll")])
def test_mirroring_and_rolling_lose_no_event(kinds):
    frames = frames_of()
    moved = augment(frames, seeded(), kinds)
    assert torch.equal(moved.sum((3, 4)), frames.sum((3, 4)))


def test_moved_counts_are_counts():
    assert set(augment(frames_of(), seeded()).unique().tolist()) <= {0.0, 1.0, 2.0, 3.0}


def test_about_half_of_the_recordings_are_mirrored():
    frames = frames_of(400, 1, 4, 4)
    moved = augment(frames, seeded(), ("flip",))
    mirrored = [torch.equal(a, b.flip(-1)) for a, b in zip(moved, frames, strict=True)]
    assert 160 < sum(mirrored) < 240


def test_rolls_reach_five_pixels_and_no_further():
    point = torch.zeros(300, 1, 2, 21, 31)
    point[..., 10, 15] = 1
    row, column = augment(point, seeded(), ("roll",))[:, 0, 0].nonzero()[:, 1:].T
    assert set(row.tolist()) == set(range(5, 16)) and set(column.tolist()) == set(range(10, 21))


def test_rotation_turns_oblong_frames_without_stretching_them():
    point = torch.zeros(300, 1, 2, 41, 81)
    point[..., 17:24, 57:64] = 1  # a blob 20 pixels from the middle
    moved = augment(point, seeded(), ("rotation",))[:, 0, 0]
    y = (moved.sum(2) * torch.arange(41)).sum(1) / moved.sum((1, 2)) - 20
    x = (moved.sum(1) * torch.arange(81)).sum(1) / moved.sum((1, 2)) - 40
    angle = torch.rad2deg(torch.atan2(y, x))
    assert ((x.square() + y.square()).sqrt() - 20).abs().max() < 0.7
    assert angle.abs().max() < 15.5 and angle.min() < -13 and angle.max() > 13


def test_shear_moves_rows_sideways_by_their_distance_from_the_middle():
    column = torch.zeros(300, 1, 2, 41, 41)
    column[..., 20] = 1
    moved = augment(column, seeded(), ("shear",))[:, 0, 0]  # (300, 41, 41)
    assert torch.equal(moved.sum(2), torch.ones(300, 41))
    reach = moved.argmax(2) - 20
    assert (reach[:, 20] == 0).all() and (reach[:, 0] == -reach[:, 40]).all()
    assert reach.abs().max() == 3  # 20 tan 8.6° = 3.02


def test_cutout_empties_a_square_that_grows_with_the_frame():
    for side, longest in ((48, 8), (128, 21)):
        holes = augment(torch.ones(100, 1, 2, side, side), seeded(), ("cutout",))[:, 0, 0] == 0
        heights, widths = holes.any(2).sum(1), holes.any(1).sum(1)
        assert torch.equal(holes.sum((1, 2)), heights * widths)
        assert heights.max() == widths.max() == longest and heights.min() >= 1


def test_each_recording_gets_one_move_of_those_asked_for():
    frames = torch.ones(400, 1, 2, 24, 24)  # rolled, ones stay ones
    still = (augment(frames, seeded(), ("roll", "cutout")) == 1).flatten(1).all(1)
    assert 160 < int(still.sum()) < 240


def test_more_processes_see_the_same_batch():
    frames = frames_of()
    whole = augment(frames, seeded())
    for rank in range(3):
        assert torch.equal(augment(frames[rank::3], seeded(), rank=rank, world=3), whole[rank::3])


def test_without_kinds_nothing_moves():
    assert torch.equal(augment(frames_of(), seeded(), ()), frames_of())


def test_mixed_targets_sum_to_one_and_tell_how_frames_were_mixed():
    frames = torch.eye(6).view(6, 1, 1, 1, 6).expand(6, 2, 2, 3, 6)
    mixed, targets = mixup(frames, torch.eye(6), seeded())
    assert torch.allclose(targets.sum(1), torch.ones(6))
    assert torch.allclose(mixed, targets.view(6, 1, 1, 1, 6).expand_as(mixed))
    assert torch.equal(mixup(frames, torch.eye(6), seeded())[0], mixed)
    assert not torch.equal(mixup(frames, torch.eye(6), seeded(1))[0], mixed)


def test_shares_follow_the_arcsine_law():
    frames, targets = torch.zeros(2, 1, 2, 1, 1), torch.tensor([[1.0, 0.0], [0.0, 1.0]])
    generator = seeded()
    shares = torch.stack([mixup(frames, targets, generator)[1][0, 0] for _ in range(2000)])
    unlike = shares[shares < 1]  # with itself for a partner a recording stays as it is, half of the time
    assert abs(float(unlike.mean()) - 0.5) < 0.05 and abs(float(unlike.var()) - 0.125) < 0.015


def test_mistaken_arguments_are_told():
    with pytest.raises(ValueError, match="unknown augmentation 'rol': take some of flip, roll"):
        augment(frames_of(), seeded(), ("rol",))
    with pytest.raises(ValueError, match="torch.uint8 .* wanted float"):
        augment(frames_of().byte(), seeded())
    with pytest.raises(ValueError, match="wanted float .24, classes.: use one_hot"):
        mixup(frames_of(), torch.zeros(24).long(), seeded())
    with pytest.raises(ValueError, match="alpha 0 of mixup"):
        mixup(frames_of(), torch.zeros(24, 3), seeded(), 0)
