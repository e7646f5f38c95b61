"""Objectives of classification, scalars of the outputs o (T, N, K) and the target probabilities g (N, K).

    ce        CE(mean over t of o_t, g)
    tet       (1 - lambda) mean over t of CE(o_t, g) + lambda mean (o - phi)^2      Deng et al., ICLR 2022; TCJA's code
    smse      mean over t and classes of (o_t - g)^2                                TCJA paper, spike mean-square-error
    rate-mse  mean over classes of (mean over t of o_t - g)^2                       what TCJA's code computes

smse is rate-mse plus the variance of the outputs over time (mean over N and K).
An objective is its own settings: `TET(weight=1.0, tet_mean=0.5)(o, g)`.
"""

from dataclasses import dataclass

import torch.nn.functional as F
from torch import Tensor

from ..ranges import check_ranges, setting


@dataclass(frozen=True)
class CrossEntropy:
    """Cross-entropy of the outputs' mean over time."""

    weight: float = setting(1.0, least=0)
    """Weight of the classification in the loss."""

    def __post_init__(self):
        check_ranges(self, "objective.classification: ")

    def __call__(self, o: Tensor, g: Tensor) -> Tensor:
        return F.cross_entropy(o.float().mean(0), g)


@dataclass(frozen=True)
class TET(CrossEntropy):
    """Cross-entropy of every step, and the outputs' squared distance from phi."""

    tet_weight: float = setting(1e-3, least=0, most=1)
    """lambda, the share of the second part."""
    tet_mean: float = setting(1.0)
    """phi, the value that outputs are drawn to."""

    def __call__(self, o: Tensor, g: Tensor) -> Tensor:
        o = o.float()
        each = F.cross_entropy(o.flatten(0, 1), g.repeat(len(o), 1))
        return (1 - self.tet_weight) * each + self.tet_weight * (o - self.tet_mean).square().mean()


@dataclass(frozen=True)
class SMSE(CrossEntropy):
    """Squared error of the outputs of every step."""

    def __call__(self, o: Tensor, g: Tensor) -> Tensor:
        return (o.float() - g).square().mean()


@dataclass(frozen=True)
class RateMSE(CrossEntropy):
    """Squared error of the outputs' mean over time."""

    def __call__(self, o: Tensor, g: Tensor) -> Tensor:
        return (o.float().mean(0) - g).square().mean()


OBJECTIVES = {"ce": CrossEntropy, "tet": TET, "smse": SMSE, "rate-mse": RateMSE}


def accuracy(o: Tensor, g: Tensor) -> Tensor:
    """Share of the N samples whose largest output, averaged over time, is that of their largest target."""
    return (o.mean(0).argmax(1) == g.argmax(1)).float().mean()
