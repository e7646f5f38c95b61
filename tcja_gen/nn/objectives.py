"""Objectives of classification, scalars of the outputs o (T, N, K) and the target probabilities g (N, K).

    ce        CE(mean over t of o_t, g)
    tet       (1 - lambda) mean over t of CE(o_t, g) + lambda mean (o - phi)^2      Deng et al., ICLR 2022; TCJA's code
    smse      mean over t and classes of (o_t - g)^2                                TCJA paper, spike mean-square-error
    rate-mse  mean over classes of (mean over t of o_t - g)^2                       what TCJA's code computes

smse is rate-mse plus the variance of the outputs over time (mean over N and K).
"""

import torch.nn.functional as F
from torch import Tensor

from ..errors import UserError

OBJECTIVES = ("ce", "tet", "smse", "rate-mse")


def objective(kind: str, o: Tensor, g: Tensor, tet_weight: float = 1e-3, tet_mean: float = 1.0) -> Tensor:
    """The objective by name. tet_weight, tet_mean: lambda and phi of "tet", unused elsewhere."""
    o = o.float()
    if kind == "ce":
        return F.cross_entropy(o.mean(0), g)
    if kind == "tet":
        each = F.cross_entropy(o.flatten(0, 1), g.repeat(len(o), 1))
        return (1 - tet_weight) * each + tet_weight * (o - tet_mean).square().mean()
    if kind == "smse":
        return (o - g).square().mean()
    if kind == "rate-mse":
        return (o.mean(0) - g).square().mean()
    raise UserError(f"unknown objective {kind!r}; known: {', '.join(OBJECTIVES)}")


def accuracy(o: Tensor, g: Tensor) -> Tensor:
    """Share of the N samples whose largest output, averaged over time, is that of their largest target."""
    return (o.mean(0).argmax(1) == g.argmax(1)).float().mean()
