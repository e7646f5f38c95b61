"""ESVAE's latent of firing rates (Zhan et al., 2023). It calls the spikes "Poisson"; each step is a Bernoulli draw.

    posterior  r_q = mean over t of h_t                     (N, L), h are the encoder's spikes
    prior      r_p = sigmoid(W eps + b), eps ~ N(0, 1)      (N, L)
    spikes     z_t = [r > u_t], u_t uniform in [0, 1)       (T, N, L), for r_q or r_p

Every step is drawn from the same rate, so z does not say when the encoder fired. The gradient of a spike with respect
to the rate is a box, 1 where |r - u| < 1/2. The divergence compares the two sets of n rates in a batch by a maximum
mean discrepancy with five Gaussian kernels:

    D_ij = |r_i - r_j|^2 over all 2n rates,  b = sum of D / ((2n)^2 - 2n) / 4, without gradient
    k_ij = sum over m = 0..4 of exp(-D_ij / (2^m b))
    MMD  = mean k_qq + mean k_pp - 2 mean k_qp              means over n^2 pairs, including the diagonals (biased)

The prior is trained by this term only. ESVAE gives it the weight 1e-3, and the prior's layer 10 times the learning rate
(`prior_lr` of a recipe).
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ...registry import register_latent
from ..draws import Draws
from ..fused import world_size
from .protocol import Context, Latent, LatentSettings

BANDWIDTHS = 5


@dataclass(frozen=True)
class PoissonSettings(LatentSettings):
    """Settings of `PoissonLatent`; a channel is a rate."""


@register_latent("poisson", PoissonSettings)
class PoissonLatent(Latent):
    """ESVAE's latent of firing rates. The module's text has its equations."""

    def __init__(self, settings: PoissonSettings, context: Context):
        super().__init__(settings, context)
        self.prior = nn.Linear(self.channels, self.channels)
        self.entry = self.linear_entry(context)

    def encode(self, h: Tensor, draws: Draws) -> Tensor:
        return self._spikes(rates(h), draws).to(h.dtype)

    def infer(self, h: Tensor, draws: Draws, progress: float = 1.0, y: Tensor | None = None) -> tuple[Tensor, Tensor]:
        q = rates(h)
        z = self._spikes(q, draws).to(h.dtype)
        p = self._prior_rates(draws)
        return z, rbf_mmd(all_rates(q), all_rates(p)) if self.training else rbf_mmd(q, p)

    def sample(self, draws: Draws, y: Tensor | None = None) -> Tensor:
        return self._spikes(self._prior_rates(draws), draws)

    def _prior_rates(self, draws: Draws) -> Tensor:
        return self.prior(draws.normal(self.channels)).float().sigmoid()

    def _spikes(self, r: Tensor, draws: Draws) -> Tensor:
        """z (T, N, L) drawn from rates (N, L)."""
        return _Exceeds.apply(r - draws.uniform(self.time_steps, self.channels).transpose(0, 1))


class _Exceeds(torch.autograd.Function):
    """[x > 0] with a surrogate gradient: a box of width 1 and height 1."""

    @staticmethod
    def forward(ctx, x: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        return (x > 0).to(x.dtype)

    @staticmethod
    def backward(ctx, grad: Tensor) -> Tensor:
        (x,) = ctx.saved_tensors
        return grad * (x.abs() < 0.5)


def rates(h: Tensor) -> Tensor:
    """Spikes per step: (T, N, L) -> (N, L), float32."""
    return h.float().mean(0)


def rbf_mmd(q: Tensor, p: Tensor) -> Tensor:
    """The MMD of two sets of n rows, (n, L) each. It is 0 for equal sets, in any order of the rows."""
    r, n = torch.cat([q, p]), len(q)
    with torch.autocast(r.device.type, enabled=False):
        squares = r.square().sum(1)
        d = (squares[:, None] + squares - 2 * r @ r.T).clamp(min=0)
    b = (d.detach().sum() / (4 * n * n - 2 * n) / 4).clamp(min=1e-12)  # the distance is 0 if all rows are equal
    k = sum(torch.exp(-d / (b * 2**m)) for m in range(BANDWIDTHS))
    return k[:n, :n].mean() + k[n:, n:].mean() - 2 * k[:n, n:].mean()


def all_rates(r: Tensor) -> Tensor:
    """Rates (n, L) of the whole batch: those of all processes, with gradient."""
    if world_size() == 1:
        return r
    from torch.distributed.nn.functional import all_gather

    return torch.cat(all_gather(r.contiguous()))
