import pytest
import torch

from tcja_gen.nn import ImageDraws, StepDraws


def test_an_images_numbers_depend_on_its_seed_only():
    many, alone, reversed_ = ImageDraws(range(5)), ImageDraws([3]), ImageDraws(range(4, -1, -1))
    for shape in ((4, 3), (), (7,)):
        numbers = many.uniform(*shape)
        assert numbers.shape == (5, *shape)
        assert torch.equal(numbers[3:4], alone.uniform(*shape))
        assert torch.equal(numbers, reversed_.uniform(*shape).flip(0))
    assert len(many) == 5 and (numbers >= 0).all() and (numbers < 1).all()
    assert len(numbers.unique()) == numbers.numel()


def test_other_random_numbers_of_the_program_change_nothing():
    first = ImageDraws([0, 1]).uniform(6)
    torch.manual_seed(123)
    torch.rand(10)
    assert torch.equal(first, ImageDraws([0, 1]).uniform(6))
    state = torch.get_rng_state()
    ImageDraws([0]).uniform(3), StepDraws(0, 0, 2).uniform(3)
    assert torch.equal(state, torch.get_rng_state())


@pytest.mark.parametrize("world", [2, 4])
def test_processes_share_out_the_numbers_of_one(world):
    whole = StepDraws(5, 17, batch=8)
    parts = [StepDraws(5, 17, 8, rank, world) for rank in range(world)]
    assert [len(part) for part in parts] == [8 // world] * world
    for shape in ((4, 3), (2,)):
        together = torch.stack([part.uniform(*shape) for part in parts], 1).flatten(0, 1)
        assert torch.equal(whole.uniform(*shape), together)
    coins = {part.coin() for part in parts}
    assert coins == {whole.coin()}


def test_every_step_and_every_seed_draws_other_numbers():
    drawn = [StepDraws(seed, step, 4).uniform(3) for seed in (0, 1) for step in (0, 1, 2)]
    assert torch.stack(drawn).unique().numel() == 6 * 12


def test_what_one_stream_draws_changes_no_number_of_another():
    plain, other = StepDraws(1, 2, 4), StepDraws(1, 2, 4)
    dropout = other.stream("dropout").uniform(5)
    assert torch.equal(plain.uniform(3), other.uniform(3))
    assert torch.equal(plain.stream("between").uniform(5), other.stream("between").uniform(5))
    assert torch.equal(plain.stream("dropout").uniform(5), dropout)
    assert not torch.equal(other.stream("dropout").uniform(5), dropout)  # it has gone on
    image = ImageDraws([1, 2])
    numbers = [image.uniform(50), *(image.stream(name).uniform(50) for name in ("a", "b"))]
    assert torch.stack(numbers).unique().numel() == 300


def test_streams_are_of_the_image_of_the_step_and_shared_out_too():
    assert torch.equal(ImageDraws([4, 3]).stream("a").normal(2)[1:], ImageDraws([3]).stream("a").normal(2))
    whole, parts = StepDraws(5, 7, 6), [StepDraws(5, 7, 6, rank, 3) for rank in range(3)]
    together = torch.stack([part.stream("a").uniform(2) for part in parts], 1).flatten(0, 1)
    assert torch.equal(whole.stream("a").uniform(2), together)
    drawn = [StepDraws(seed, step, 4).stream("a").uniform(3) for seed in (0, 1) for step in (0, 1)]
    assert torch.stack(drawn).unique().numel() == 48
