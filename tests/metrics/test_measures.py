import numpy as np
import pytest
import torch

from tcja_gen.metrics import (
    Statistics,
    density_coverage,
    inception_score,
    kid,
    kid_subsets,
    measures,
    nearest,
    precision_recall,
    psnr,
    ssim,
)


@pytest.fixture
def features() -> tuple[torch.Tensor, torch.Tensor]:
    """Two sets (200, 12) that overlap."""
    g = torch.Generator().manual_seed(0)
    scale = torch.linspace(0.5, 2, 12)
    return torch.randn(200, 12, generator=g) * scale + 0.3, torch.randn(200, 12, generator=g)


def test_fid_is_that_of_torch_fidelity_and_torchmetrics_and_of_a_set_with_itself_nought(features):
    from torch_fidelity.metric_fid import fid_features_to_statistics, fid_statistics_to_metric
    from torchmetrics.image.fid import FrechetInceptionDistance

    a, b = features
    found = Statistics.of(a).distance(Statistics.of(b))
    theirs = fid_statistics_to_metric(*map(fid_features_to_statistics, (a, b)), verbose=False)
    assert found == pytest.approx(theirs["frechet_inception_distance"], rel=1e-6)
    identity = torch.nn.Identity()
    identity.num_features = 12
    metric = FrechetInceptionDistance(identity).set_dtype(torch.float64)
    metric.update(a.double(), real=False)
    metric.update(b.double(), real=True)
    assert found == pytest.approx(float(metric.compute()), rel=1e-4)
    assert Statistics.of(a).distance(Statistics.of(a)) == pytest.approx(0, abs=1e-9)


def test_kid_is_that_of_torch_fidelity_and_draws_by_its_own_seed(features):
    from torch_fidelity.metric_kid import kid_features_to_metric

    a, b = features
    theirs = kid_features_to_metric(a.double(), b.double(), kid_subsets=3, kid_subset_size=200, verbose=False)
    assert kid(a, b, subsets=3).mean == pytest.approx(theirs["kernel_inception_distance_mean"], rel=1e-6)
    torch.manual_seed(1)
    before = torch.get_rng_state()
    first = kid(a, b, subsets=10, size=50)
    assert torch.equal(before, torch.get_rng_state()) and first.std > 0
    assert first == kid(a, b, subsets=10, size=50) != kid(a, b, subsets=10, size=50, seed=1)


def test_the_inception_score_is_that_of_torch_fidelity_and_between_1_and_the_number_of_classes(features):
    from torch_fidelity.metric_isc import isc_features_to_metric

    torch.manual_seed(1)
    before = torch.get_rng_state()
    theirs = isc_features_to_metric(features[0], splits=1)["inception_score_mean"]
    assert inception_score(features[0], splits=1).mean == pytest.approx(theirs, rel=1e-5)
    assert torch.equal(before, torch.get_rng_state())
    sure = 50 * torch.nn.functional.one_hot(torch.arange(200) % 5).float()
    assert inception_score(sure, splits=1).mean == pytest.approx(5, rel=1e-6)
    assert inception_score(sure[:1].expand(200, 5)) == pytest.approx((1, 0), abs=1e-6)
    with pytest.raises(ValueError, match="in 10 splits of 12 images: wanted 1 to 6"):
        inception_score(sure[:12])


@pytest.mark.parametrize(("n", "splits"), [(25, 10), (200, 10), (199, 7), (20, 10), (37, 1)])
def test_the_inception_score_is_cut_into_parts_as_torch_fidelity_cuts_it(features, n, splits):
    from torch_fidelity.metric_isc import isc_features_to_metric

    logits = features[0][:n] * 3
    shuffled = logits[torch.randperm(n, generator=torch.Generator().manual_seed(0))]
    theirs = isc_features_to_metric(shuffled, splits=splits, shuffle=False)
    found = inception_score(logits, splits=splits)
    assert found.mean == pytest.approx(theirs["inception_score_mean"], rel=1e-12)
    if splits == 1:
        assert found.std is None  # one part has no spread
    else:
        assert found.std == pytest.approx(theirs["inception_score_std"], rel=1e-9)


def test_kid_is_the_mean_over_as_many_subsets_as_asked_for_and_its_spread_is_theirs(features):
    from torch_fidelity.metric_kid import kid_features_to_metric

    a, b = features
    draw = torch.Generator().manual_seed(3)
    chosen = [(torch.randperm(200, generator=draw)[:50], torch.randperm(200, generator=draw)[:50]) for _ in range(7)]
    one = dict(kid_subsets=1, kid_subset_size=50, verbose=False)
    theirs = [kid_features_to_metric(a[j].double(), b[i].double(), **one) for i, j in chosen]
    theirs = [score["kernel_inception_distance_mean"] for score in theirs]
    found = kid(a, b, subsets=7, size=50, seed=3)
    assert found == pytest.approx((np.mean(theirs), np.std(theirs)), rel=1e-9)


def test_kid_of_all_there_is_on_both_sides_is_one_subset_without_a_spread(features):
    a, b = features
    assert kid_subsets(200, 200) == (1, 200) and kid_subsets(200, 201) == (100, 200) and kid_subsets(9999, 5000)[0] > 1
    assert kid(a, b).std is None and kid(a, b[:199]).std > 0
    assert kid(a, b).mean == pytest.approx(kid(a, b, subsets=1).mean)


def test_precision_and_recall_are_those_of_torch_fidelity_at_any_size_of_chunk(features, monkeypatch):
    from torch_fidelity.metric_prc import calculate_precision_recall_full

    monkeypatch.setattr(measures, "ROWS", 64)
    a, b = features
    found = precision_recall(a, b)
    assert found == pytest.approx(calculate_precision_recall_full(a, b), rel=1e-6)
    assert found[0] != found[1] and 0 < min(found)


def test_density_and_coverage_are_those_of_the_definition(features):
    a, b = features
    a, b, k = a[:60].numpy(), b[:70].numpy(), 5
    hits, covered = 0, set()
    for i, real in enumerate(b):
        reach = sorted(np.linalg.norm(b - real, axis=1))[k]  # the first is the distance to itself
        for fake in a:
            if np.linalg.norm(fake - real) < reach:
                hits += 1
                covered.add(i)
    wanted = (hits / (k * len(a)), len(covered) / len(b))
    assert density_coverage(torch.from_numpy(a), torch.from_numpy(b), k) == pytest.approx(wanted, rel=1e-12)
    assert 0 < wanted[1] < 1


def test_copies_of_training_images_are_found_at_no_distance(features):
    train, held_out = features[1][:100], features[1][100:]
    distance, closest = nearest(train[:50], train)
    assert not distance.any() and torch.equal(closest, torch.arange(50))
    slow = [min(float((x - y).norm()) for y in train) for x in held_out[:5]]
    assert nearest(held_out[:5], train)[0].tolist() == pytest.approx(slow, rel=1e-5)


def test_psnr_and_ssim_know_a_perfect_and_a_spoilt_image():
    x = torch.rand(3, 1, 16, 16, generator=torch.Generator().manual_seed(0)) * 0.9
    assert psnr(x + 0.1, x) == pytest.approx(20, abs=1e-3) and psnr(x, x) == 100
    assert ssim(x, x) == pytest.approx(1, abs=1e-5)
    assert ssim(x * 0 + 0.5, x) < ssim(x * 0.9, x) < 1
    assert ssim(x[..., :8, :8], x[..., :8, :8]) == pytest.approx(1, abs=1e-5)  # smaller than the window


def test_ssim_is_that_of_pixels_whose_range_is_one():
    """Of flat images it is (2 a b + C1) / (a^2 + b^2 + C1) with C1 = (0.01 range)^2 (Wang et al. 2004, eq. 6)."""
    a, b = 0.02, 0.01
    wanted = (2 * a * b + 1e-4) / (a * a + b * b + 1e-4)
    assert ssim(torch.full((2, 1, 16, 16), a), torch.full((2, 1, 16, 16), b)) == pytest.approx(wanted, rel=1e-4)


def test_features_that_do_not_fit_are_refused_in_one_line(features):
    a, b = features
    for score in (kid, precision_recall, density_coverage, nearest):
        with pytest.raises(ValueError, match=r"found \(200, 12\) and \(200, 9\)"):
            score(a, b[:, :9])
    for score, fewest in ((kid, 2), (precision_recall, 4), (density_coverage, 6)):
        with pytest.raises(ValueError, match=f"1 images on one side; this score needs at least {fewest}"):
            score(a[:1], b)
