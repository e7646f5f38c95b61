"""FSVAE's autoregressive Bernoulli latent (Kamata, Mukuta, Harada, AAAI 2022).

Posterior and prior are spiking networks that see the latent of the previous step. Each outputs k bits for every latent
channel at every time step. z is one of the k bits, drawn uniformly. So z is a Bernoulli variable whose probability is
the mean of its k bits.

    posterior  q(z_t | x_<=t, z_<t)    input: encoder spikes and z_{t-1}, concatenated
    prior      p(z_t | z_<t)           input: z_{t-1}                          z_0 = 0

The networks are causal in time and keep their membranes from step to step, so a sequence costs T steps. FSVAE's code
runs the whole prefix again for every step. In evaluation mode the result is the same. In training it normalises each
prefix by its own statistics, so the bits that are fed back differ from those that are returned in about 18 % of cases.
Here the pass that draws z uses the running statistics. `passes="prefixes"` does as FSVAE's code.
"""

from dataclasses import dataclass, field
from typing import Literal

import torch
from torch import Tensor, nn

from ...errors import UserError
from ...ranges import check_ranges, setting
from ...registry import register_latent
from ..draws import Draws
from ..kernels.sparse import steady
from ..layers import Build, linear_block
from ..modes import evaluating
from ..nodes import NodeNeuron
from ..normalisation import updating_statistics
from .protocol import Context, Latent, LatentSettings, check_class

PSP_TAU = 2.0  # synaptic time constant of the divergence, in time steps


@dataclass(frozen=True)
class ScheduledSampling:
    """How often the prior sees its own z in training, instead of the posterior's."""

    start: float = setting(0.1, least=0, most=1)
    """Probability at the start of training."""
    end: float = setting(0.3, least=0, most=1)
    """Probability at the end of training; linear in between."""
    first: int = setting(5, least=0)
    """First time step at which it may happen, counted from 0."""
    replace: Literal["draw", "vote"] = "draw"
    """How the prior's own z is made. draw: one of its k bits, decided for each image. vote: the majority of the k bits,
    decided once for the whole batch, as in FSVAE's code."""

    def __post_init__(self):
        check_ranges(self, "scheduled sampling: ")
        if self.replace not in ("draw", "vote"):
            raise UserError(f"scheduled sampling: unknown replacement {self.replace!r}; known: draw, vote")

    def check(self, time_steps: int) -> None:
        """UserError if a setting was changed that has no effect with so few time steps."""
        if time_steps - 1 > self.first or not (self.start or self.end):
            return
        default = ScheduledSampling()
        changed = [name for name in ("start", "end", "replace") if getattr(self, name) != getattr(default, name)]
        if time_steps - 1 <= default.first != self.first:
            changed.append("first")
        if changed:
            raise UserError(
                f"scheduled.{changed[0]} has no effect with time_steps = {time_steps} and scheduled.first = "
                f"{self.first}: the last step that may be replaced is {time_steps - 2}"
            )

    def probability(self, progress: float | Tensor) -> float | Tensor:
        """Probability at this progress of the training, in [0, 1]."""
        return self.start + (self.end - self.start) * progress


def psp(p: Tensor) -> Tensor:
    """Postsynaptic potential of firing probabilities p (T, ...): s_t = s_{t-1} + (p_t - s_{t-1}) / tau, s_0 = 0."""
    s, out = torch.zeros_like(p[0]), []
    for frame in p.unbind(0):
        s = s + (frame - s) / PSP_TAU
        out.append(s)
    return torch.stack(out)


def mmd(q: Tensor, p: Tensor) -> Tensor:
    """Squared difference of the PSPs of q and p, (T, N, L) each, mean over T, N and L, as in FSVAE's code."""
    return (psp(q) - psp(p)).square().mean()


def mmd_sum(q: Tensor, p: Tensor) -> Tensor:
    """As `mmd`, but summed over T and L, as in FSVAE's paper, whose kernel is the inner product of the PSPs."""
    return (psp(q) - psp(p)).square().sum((0, 2)).mean()


def kl(q: Tensor, p: Tensor, eps: float = 1e-2) -> Tensor:
    """Bernoulli KL(q || p) summed over T and L, mean over N, in nats; eps keeps the logarithms finite."""
    q, p = q.float(), p.float()
    positive = q * ((q + eps).log() - (p + eps).log())
    negative = (1 - q) * ((1 - q + eps).log() - (1 - p + eps).log())
    return (positive + negative).sum((0, 2)).mean()


DIVERGENCES = {"mmd": mmd, "mmd-sum": mmd_sum, "kl": kl}


@dataclass(frozen=True)
class BernoulliSettings(LatentSettings):
    """Settings of `BernoulliLatent`."""

    k: int = setting(20, least=1)
    """Number of bits per channel and time step; one of them is drawn."""
    divergence: Literal["mmd", "mmd-sum", "kl"] = "mmd"
    """Divergence of posterior and prior. mmd: MMD of their PSPs, a mean; mmd-sum: the sum, as in FSVAE's paper; kl: KL
    of Bernoulli variables."""
    passes: Literal["steps", "prefixes"] = "steps"
    """How the posterior draws in training: step by step, or running every prefix again as in FSVAE's code (slow)."""
    conditional: bool = False
    """Condition the prior on the class of the image."""
    scheduled: ScheduledSampling = field(default=ScheduledSampling())
    """Scheduled sampling of the prior in training."""

    def __post_init__(self):
        super().__post_init__()
        if self.divergence not in DIVERGENCES:
            raise UserError(f"unknown divergence {self.divergence!r}; known: {', '.join(DIVERGENCES)}")
        if self.passes not in ("steps", "prefixes"):
            raise UserError(f"unknown kind of passes {self.passes!r}; known: steps, prefixes")


class BitNet(nn.Module):
    """Three linear blocks (tdBN with alpha = 2) from (T, N, inputs) to k bits per latent channel, (T, N, L, k)."""

    def __init__(self, inputs: int, channels: int, k: int, build: Build):
        super().__init__()
        if isinstance(build.neuron, NodeNeuron):
            build.neuron.check_single_steps()
        self.channels, self.k = channels, k
        widths = [inputs, 2 * channels, 4 * channels, k * channels]
        self.blocks = nn.ModuleList(
            linear_block(a, b, build, alpha=2.0) for a, b in zip(widths, widths[1:], strict=False)
        )

    def forward(self, x: Tensor) -> Tensor:
        for block in self.blocks:
            x = block(x)
        return x.unflatten(-1, (self.channels, self.k))

    def step(self, x: Tensor, membranes: list[Tensor | None]) -> tuple[Tensor, list[Tensor]]:
        """One time step: x (N, inputs) -> bits (N, L, k), and the membranes for the next step."""
        after = []
        for block, v in zip(self.blocks, membranes, strict=True):
            x, v = block.step(x, v)
            after.append(v)
        return x.unflatten(-1, (self.channels, self.k)), after

    def rest(self) -> list[Tensor | None]:
        """The membranes before the first step."""
        return [None] * len(self.blocks)


def choose(bits: Tensor, j: Tensor) -> Tensor:
    """Bit j of the k bits: bits (..., L, k), j (..., L) in 0..k-1 -> (..., L)."""
    return bits.gather(-1, j[..., None])[..., 0]


@register_latent("bernoulli", BernoulliSettings)
class BernoulliLatent(Latent):
    """FSVAE's latent, with k bits per channel. The module's text describes it."""

    def __init__(self, settings: BernoulliSettings, context: Context):
        super().__init__(settings, context)
        settings.scheduled.check(self.time_steps)
        self.k, self.passes, self.scheduled = settings.k, settings.passes, settings.scheduled
        self.divergence = DIVERGENCES[settings.divergence]
        self.posterior = BitNet(2 * self.channels, self.channels, self.k, context.build)
        self.prior = BitNet(self.channels + self.classes, self.channels, self.k, context.build)
        self.entry = self.linear_entry(context)

    def encode(self, h: Tensor, draws: Draws) -> Tensor:
        """z (T, N, L) drawn from the posterior, given encoder spikes h (T, N, L)."""
        return self._posterior(h, draws)[0]

    def infer(
        self, h: Tensor, draws: Draws, progress: float | Tensor = 1.0, y: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """z (T, N, L) drawn from the posterior, given encoder spikes h (T, N, L), and the divergence from the prior.

        The gradient of z reaches the posterior through the drawn bits. The gradient of the divergence reaches all k
        bits of both networks. progress, in [0, 1], sets the probability of scheduled sampling, which only takes place
        in training.
        """
        z, q = self._posterior(h, draws)
        previous = shift(z.detach())
        if self.training:
            previous = self._mix(previous, draws, progress, y)
        p = self.prior(self._with_class(previous, y))
        return z, self.divergence(q.mean(-1), p.mean(-1))

    @steady()
    def sample(self, draws: Draws, y: Tensor | None = None) -> Tensor:
        """z (T, N, L) from the prior, one row of draws per image."""
        j = self._indices(draws)
        z = [torch.zeros_like(j[0], dtype=torch.get_default_dtype())]
        membranes = self.prior.rest()
        for t in range(self.time_steps):
            bits, membranes = self.prior.step(self._with_class(z[-1], y), membranes)
            z.append(choose(bits, j[t]))
        return torch.stack(z[1:])

    def _posterior(self, h: Tensor, draws: Draws) -> tuple[Tensor, Tensor]:
        """z (T, N, L), and all bits that it was drawn from, (T, N, L, k)."""
        j = self._indices(draws)
        fed = self._draw_posterior(h, j)  # z_0 .. z_{T-1}, without gradient
        q = self.posterior(torch.cat([h, fed], -1))
        return choose(q, j), q

    def _with_class(self, z: Tensor, y: Tensor | None) -> Tensor:
        """z (..., N, L), concatenated with the class y (N, K) if the prior is conditional."""
        check_class(self.classes, y)
        return z if y is None else torch.cat([z, y.to(z.dtype).expand(*z.shape[:-1], -1)], -1)

    def _indices(self, draws: Draws) -> Tensor:
        """Indices j (T, N, L) of the drawn bits, uniform in 0..k-1."""
        return (draws.uniform(self.time_steps, self.channels) * self.k).long().transpose(0, 1)

    @torch.no_grad()
    @steady()
    def _draw_posterior(self, h: Tensor, j: Tensor) -> Tensor:
        """z_0 .. z_{T-1}, the posterior's input from the previous step, (T, N, L)."""
        z = [torch.zeros_like(h[0])]
        if self.passes == "prefixes":
            for t in range(1, self.time_steps):
                bits = self.posterior(torch.cat([h[:t], torch.stack(z)], -1))[-1]
                z.append(choose(bits, j[t - 1]))
            return torch.stack(z)
        with evaluating(self.posterior):  # normalised by the running statistics, which stay as they are
            membranes = self.posterior.rest()
            for t in range(self.time_steps - 1):
                bits, membranes = self.posterior.step(torch.cat([h[t], z[-1]], -1), membranes)
                z.append(choose(bits, j[t]))
        return torch.stack(z)

    @torch.no_grad()
    @steady()
    def _mix(self, previous: Tensor, draws: Draws, progress: float | Tensor, y: Tensor | None = None) -> Tensor:
        """Scheduled sampling: replaces some of z_1 .. z_{T-1} (rows 1.. of `previous`) by the prior's own z."""
        plan = self._plan(draws, self.scheduled.probability(progress))
        mixed, membranes = list(previous.unbind(0)), self.prior.rest()
        for t in range(max(plan, default=-1) + 1):  # the bits of step t become the input of step t + 1
            if self.passes == "steps":
                with evaluating(self.prior):
                    bits, membranes = self.prior.step(self._with_class(mixed[t], y), membranes)
            elif t in plan:
                swap, _ = plan[t]
                whether = swap if swap.dim() == 0 else True  # if the batch is not replaced, this pass does not count
                with updating_statistics(self.prior, whether):
                    bits = self.prior(self._with_class(torch.stack(mixed[: t + 1]), y))[-1]
            if t in plan:
                swap, u = plan[t]
                mixed[t + 1] = torch.where(swap, self._own(bits, u), mixed[t + 1])
        return torch.stack(mixed)

    def _plan(self, draws: Draws, p: float | Tensor) -> dict[int, tuple[Tensor, Tensor]]:
        """The steps at which images may take the prior's z: {step: (which images do, (N, 1) or a scalar, uniform
        numbers (N, L) for the prior's draw)}."""
        plan = {}
        for t in range(self.scheduled.first, self.time_steps - 1):
            swap, u = self._swap(draws, p), draws.uniform(self.channels)
            if swap is not False:
                plan[t] = torch.as_tensor(swap, device=draws.device), u
        return plan

    def _swap(self, draws: Draws, p: float | Tensor) -> Tensor | bool:
        """Which images take the prior's z, (N, 1). For a vote a scalar: whether all do, the same in all processes."""
        return draws.coin() < p if self.scheduled.replace == "vote" else draws.uniform(1) < p

    def _own(self, bits: Tensor, u: Tensor) -> Tensor:
        """The prior's own z (N, L) from its bits (N, L, k)."""
        if self.scheduled.replace == "vote":
            return (bits.mean(-1) + 1e-3 * (u - 0.5) > 0.5).to(bits.dtype)  # the noise only breaks ties
        return choose(bits, (u * self.k).long())


def shift(z: Tensor) -> Tensor:
    """z_1 .. z_T -> z_0 .. z_{T-1} with z_0 = 0."""
    return torch.cat([torch.zeros_like(z[:1]), z[:-1]])
