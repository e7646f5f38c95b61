"""The Fréchet distance between two sets of features, and the statistics it needs.

    d = |mu1 - mu2|^2 + tr(S1) + tr(S2) - 2 tr sqrt(S1 S2)      (Dowson & Landau 1982; Heusel et al. 2017)

tr sqrt(S1 S2) is the sum of the singular values of F1^T F2, where F F^T = S comes from the eigenvectors of S. This way
needs no general matrix square root and no complex numbers, works for a singular covariance, and is fast if n < D.
"""

import json
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike
from torch import Tensor

from ..errors import MissingFile, UserError
from ..files import replacing

ROWS = 4096  # of features that are in float64 at once


def frechet_distance(mu1: ArrayLike, sigma1: ArrayLike, mu2: ArrayLike, sigma2: ArrayLike) -> float:
    """Fréchet distance of two Gaussians: means `(D,)`, covariances `(D, D)`; float64 inside, never negative.

    Singular covariances are fine. UserError for shapes that do not fit and for values that are not finite.

    >>> frechet_distance([0.0, 0.0], [[1.0, 0.0], [0.0, 1.0]], [3.0, 0.0], [[4.0, 0.0], [0.0, 1.0]])
    10.0
    """
    mu1, sigma1, mu2, sigma2 = (_float64(x) for x in (mu1, sigma1, mu2, sigma2))
    d = mu1.size
    if mu1.shape != (d,) or mu2.shape != (d,) or sigma1.shape != (d, d) or sigma2.shape != (d, d):
        shapes = " ".join(str(x.shape) for x in (mu1, sigma1, mu2, sigma2))
        raise UserError(f"Fréchet distance: found shapes {shapes}, wanted (D,) (D, D) (D,) (D, D)")
    if not all(np.isfinite(x).all() for x in (mu1, sigma1, mu2, sigma2)):
        raise UserError("Fréchet distance: a mean or a covariance is not finite")
    shared = np.linalg.svd(_factor(sigma1).T @ _factor(sigma2), compute_uv=False).sum()
    distance = ((mu1 - mu2) ** 2).sum() + np.trace(sigma1) + np.trace(sigma2) - 2 * shared
    return max(0.0, float(distance))  # rounding alone can make it negative


def _float64(x: ArrayLike | Tensor) -> np.ndarray:
    return np.asarray(x.detach().cpu() if isinstance(x, Tensor) else x, dtype=np.float64)


def _factor(sigma: np.ndarray) -> np.ndarray:
    """F `(D, rank)` with F F^T = sigma; directions whose variance is only rounding error are left out."""
    values, vectors = np.linalg.eigh((sigma + sigma.T) / 2)
    kept = values > len(values) * np.finfo(np.float64).eps * max(values[-1], 0)
    return vectors[:, kept] * np.sqrt(values[kept])


@dataclass(frozen=True)
class Statistics:
    """Mean and covariance of the features of n images; n is None where a file does not say."""

    mu: np.ndarray  # (D,) float64
    sigma: np.ndarray  # (D, D) float64, divided by n - 1
    n: int | None = None
    metadata: dict = field(default_factory=dict)  # JSON-ready facts: how the features were made

    @classmethod
    def of(cls, features: Tensor | np.ndarray, **metadata) -> "Statistics":
        """Statistics of features `(N, D)` in float64; UserError for N < 2 and for values that are not finite."""
        x = np.asarray(features.detach().cpu() if isinstance(features, Tensor) else features)
        if x.ndim != 2 or len(x) < 2:
            raise UserError(f"statistics need features (N, D) of at least 2 images, found {x.shape}")
        if not np.isfinite(x).all():
            bad = int((~np.isfinite(x)).any(axis=1).sum())
            raise UserError(f"{bad} of {len(x)} images have features that are not finite")
        mu, squares = x.mean(axis=0, dtype=np.float64), 0.0
        for start in range(0, len(x), ROWS):  # never the whole set in float64
            centred = x[start : start + ROWS] - mu
            squares = squares + centred.T @ centred
        return cls(mu, squares / (len(x) - 1), len(x), metadata)

    def distance(self, other: "Statistics") -> float:
        """`frechet_distance` to another set of statistics."""
        return frechet_distance(self.mu, self.sigma, other.mu, other.sigma)

    def save(self, file: str | Path) -> None:
        """Write `.npz` with `mu`, `sigma`, `n` and the metadata as a JSON string; readable without pickle."""
        metadata = json.dumps(self.metadata, sort_keys=True)
        arrays = dict(mu=self.mu, sigma=self.sigma, metadata=np.array(metadata))
        if self.n is not None:
            arrays["n"] = np.array(self.n)
        with replacing(Path(file)) as temporary, open(temporary, "wb") as f:
            np.savez(f, **arrays)

    @classmethod
    def load(cls, file: str | Path, within: str = "") -> "Statistics":
        """Read an `.npz` with at least `mu` and `sigma`, ours or FSVAE's. Never unpickles.

        within: what precedes these names in a file that holds more
        MissingFile, or UserError that names the file if it is something else.
        """
        if not Path(file).is_file():
            raise MissingFile(f"{file}: no such file; wanted an .npz with mu and sigma")
        try:
            with np.load(file, allow_pickle=False) as arrays:
                mu, sigma = _float64(arrays[f"{within}mu"]), _float64(arrays[f"{within}sigma"])
                n = int(arrays[f"{within}n"]) if f"{within}n" in arrays else None
                metadata = json.loads(str(arrays["metadata"])) if "metadata" in arrays else {}
        except Exception as error:  # zip, header, missing key, pickle: many types
            reason = str(error).splitlines()[0] if str(error) else type(error).__name__
            raise UserError(f"{file}: not an .npz with numbers mu and sigma ({reason})") from None
        finite = np.isfinite(mu).all() and np.isfinite(sigma).all()
        if mu.ndim != 1 or sigma.shape != (mu.size, mu.size) or not finite:
            raise UserError(f"{file}: mu {mu.shape} and sigma {sigma.shape} are no finite mean and covariance")
        return cls(mu, sigma, n, metadata)
