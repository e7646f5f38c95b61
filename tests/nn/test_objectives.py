import pytest
import torch
import torch.nn.functional as F

from tcja_gen.nn.objectives import OBJECTIVES, SMSE, TET, CrossEntropy, RateMSE, accuracy
from tcja_gen.training.config import Config, change

T, N, K = 5, 7, 4


@pytest.fixture
def outputs() -> torch.Tensor:
    return torch.randn(T, N, K, generator=torch.Generator().manual_seed(0))


@pytest.fixture
def labels() -> torch.Tensor:
    return torch.arange(N) % K


def test_smse_exceeds_rate_mse_by_the_variance_over_time(outputs, labels):
    g = F.one_hot(labels, K).float()
    difference = SMSE()(outputs, g) - RateMSE()(outputs, g)
    torch.testing.assert_close(difference, outputs.var(0, correction=0).mean())


def test_cross_entropy_is_that_of_the_mean_output(outputs, labels):
    g = F.one_hot(labels, K).float()
    torch.testing.assert_close(CrossEntropy()(outputs, g), F.cross_entropy(outputs.mean(0), labels))


def test_tet_is_the_mean_cross_entropy_of_the_steps_and_a_pull_to_phi(outputs, labels):
    g = F.one_hot(labels, K).float()
    each = torch.stack([F.cross_entropy(o, labels) for o in outputs]).mean()
    torch.testing.assert_close(TET(tet_weight=0.0)(outputs, g), each)
    wanted = 0.9 * each + 0.1 * (outputs - 2.0).square().mean()
    torch.testing.assert_close(TET(tet_weight=0.1, tet_mean=2.0)(outputs, g), wanted)


@pytest.mark.parametrize("kind", OBJECTIVES)
def test_mixed_targets_lie_between_those_they_are_mixed_of(kind, outputs, labels):
    one, two = (F.one_hot(c, K).float() for c in (labels, (labels + 1) % K))
    objective = OBJECTIVES[kind]()
    mixed = objective(outputs, 0.5 * one + 0.5 * two)
    low, high = sorted([objective(outputs, one), objective(outputs, two)])
    assert mixed <= high + 1e-6 and (mixed >= low - 1e-6 or kind in ("smse", "rate-mse"))


def test_accuracy_counts_the_largest_mean_output():
    o = torch.tensor([[[0.0, 1.0], [1.0, 0.0]], [[3.0, 1.0], [1.0, 0.5]]])  # means: class 0, class 0
    assert accuracy(o, torch.eye(2)) == 0.5


def test_an_unknown_objective_is_named():
    with pytest.raises(ValueError, match="objective.classification.kind' is 'mse'; known: ce, tet, smse, rate-mse"):
        change(Config(task="classify"), {"objective": {"classification": {"kind": "mse"}}})


@pytest.mark.parametrize(("settings", "named"), [({"weight": -1.0}, "weight is -1.0"), ({"tet_weight": 2.0}, "lie in")])
def test_weights_that_make_no_sense_are_refused(settings, named):
    with pytest.raises(ValueError, match=named):
        TET(**settings)
