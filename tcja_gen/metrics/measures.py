"""Scores from features: KID, IS, precision and recall, density and coverage, memorisation; PSNR and SSIM of images.

Features are float `(N, D)` on the CPU. FID is `Statistics.distance`. PSNR, SSIM and the kernel of KID come from
torchmetrics, precision and recall from torch-fidelity. IS, the subsets of KID, and the standard deviation of both
(divided by the number of parts, not by one less) are as in torch-fidelity. Random choices are drawn by a seed; the
global random state is not changed.
"""

import math
from typing import NamedTuple

import torch
from torch import Tensor

from ..errors import UserError

ROWS = 256  # of a matrix of distances that are in memory at once; sorting takes four times as much


class Spread(NamedTuple):
    """A score that is a mean over parts, and its standard deviation over them; None if there is one part."""

    mean: float
    std: float | None

    @classmethod
    def of(cls, parts: Tensor) -> "Spread":
        return cls(float(parts.mean()), float(parts.std(correction=0)) if len(parts) > 1 else None)


def kid(features: Tensor, reference: Tensor, subsets: int = 100, size: int = 1000, seed: int = 0) -> Spread:
    """Kernel Inception Distance (Binkowski et al. 2018): unbiased MMD^2 with the kernel (x . y / D + 1)^3.

    The mean over random subsets of both sides, see `kid_subsets`; in float64.
    """
    from torchmetrics.image.kid import poly_mmd

    _alike(features, reference)
    subsets, size = kid_subsets(len(features), len(reference), subsets, size)
    generator = torch.Generator().manual_seed(seed)

    def drawn(x: Tensor) -> Tensor:
        return x[torch.randperm(len(x), generator=generator)[:size]].double()

    return Spread.of(torch.stack([poly_mmd(drawn(reference), drawn(features)) for _ in range(subsets)]))


def kid_subsets(n: int, n_reference: int, subsets: int = 100, size: int = 1000) -> tuple[int, int]:
    """Number and size of the subsets that KID draws: smaller ones if a side has fewer features.

    One subset if it has all features of both sides, since any other would be the same.
    """
    size = min(size, n, n_reference)
    return (1 if size == n == n_reference else subsets), size


def inception_score(logits: Tensor, splits: int = 10, seed: int = 0) -> Spread:
    """Inception Score (Salimans et al. 2016) of logits `(N, K)`: exp of the mean of KL(p(y|x), p(y)).

    It is averaged over parts of the shuffled images, whose sizes differ by one at most. It looks at generated images
    alone. UserError if a part would have fewer than two images.
    """
    if not 1 <= splits <= len(logits) // 2:
        raise UserError(f"IS in {splits} splits of {len(logits)} images: wanted 1 to {len(logits) // 2} splits")
    n, order = len(logits), torch.randperm(len(logits), generator=torch.Generator().manual_seed(seed))
    parts = [order[i * n // splits : (i + 1) * n // splits] for i in range(splits)]
    return Spread.of(torch.stack([_part_score(logits[part].double()) for part in parts]))


def _part_score(logits: Tensor) -> Tensor:
    log_p = logits.log_softmax(1)  # (n, K)
    log_q = log_p.logsumexp(0) - math.log(len(log_p))
    return (log_p.exp() * (log_p - log_q)).sum(1).mean().exp()


def precision_recall(features: Tensor, reference: Tensor, k: int = 3) -> tuple[float, float]:
    """Improved precision and recall (Kynkäänniemi et al. 2019), in [0, 1].

    Precision: the share of generated images within the radius of a real one, its distance to its k-th nearest real
    neighbour. Recall: the share of real images within the radius of a generated one.
    """
    from torch_fidelity.metric_prc import calculate_precision_recall_part

    _alike(features, reference, k + 1)
    return calculate_precision_recall_part(features, reference, neighborhood=k, batch_size=ROWS)


def density_coverage(features: Tensor, reference: Tensor, k: int = 5) -> tuple[float, float]:
    """Density and coverage (Naeem et al. 2020, eq. 3 and 4); real images score 1 and about 1 - 2^-k.

    The radius of a real image is its distance to its k-th nearest real neighbour. Density: the mean number of real
    images in whose radius a generated image lies, divided by k; it can exceed 1. Coverage: the share of real images
    with a generated one in their radius. A single outlier changes them less than precision and recall.
    """
    _alike(features, reference, k + 1)
    hits, covered = 0, 0
    for real in reference.split(ROWS):
        radius = torch.cdist(real, reference).kthvalue(k + 1).values  # (rows,), the nearest is the image itself
        within = torch.cdist(real, features) < radius[:, None]
        hits += int(within.sum())
        covered += int(within.any(1).sum())
    return hits / (k * len(features)), covered / len(reference)


def nearest(features: Tensor, others: Tensor) -> tuple[Tensor, Tensor]:
    """Distance `(N,)` of each feature to the nearest of the others, and the number `(N,)` of that one."""
    _alike(features, others, 1)
    closest = torch.cat([torch.cdist(x, others).argmin(1) for x in features.split(ROWS)])
    return (features - others[closest]).norm(dim=1), closest  # torch.cdist is not exact: a copy would not be at 0


def psnr(images: Tensor, originals: Tensor) -> float:
    """Peak signal-to-noise ratio in dB, mean over images `(N, C, H, W)` in [0, 1]."""
    from torchmetrics.functional.image import peak_signal_noise_ratio

    ratio = peak_signal_noise_ratio(images, originals, (0.0, 1.0), reduction="none", dim=(1, 2, 3))
    return float(ratio.clamp(max=100).mean())  # a perfect image has an infinite ratio


def ssim(images: Tensor, originals: Tensor) -> float:
    """Structural similarity (Wang et al. 2004; Gaussian window), mean over images in [0, 1]; at most 1."""
    from torchmetrics.functional.image import structural_similarity_index_measure

    side = ssim_window(images)
    pairs = zip(images.split(ROWS), originals.split(ROWS), strict=True)
    window = dict(gaussian_kernel=False, kernel_size=side) if side < 11 else {}
    parts = [structural_similarity_index_measure(x, y, data_range=1.0, reduction="none", **window) for x, y in pairs]
    return float(torch.cat([part.reshape(-1) for part in parts]).mean())


def ssim_window(images: Tensor) -> int:
    """Side of the window: 11 (Gaussian, as in the paper), or the largest odd side that fits a smaller image (flat)."""
    return min(11, (min(images.shape[-2:]) - 1) // 2 * 2 + 1)


def _alike(features: Tensor, reference: Tensor, fewest: int = 2) -> None:
    if features.dim() != 2 or reference.dim() != 2 or features.shape[1] != reference.shape[1]:
        found = f"{tuple(features.shape)} and {tuple(reference.shape)}"
        raise UserError(f"scores compare features (N, D) and (M, D); found {found}")
    if (n := min(len(features), len(reference))) < fewest:
        raise UserError(f"{n} images on one side; this score needs at least {fewest}")
