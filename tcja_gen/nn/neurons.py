"""Leaky integrate-and-fire (LIF) neurons that keep no state between calls.

One neuron covers the papers that this package follows. At time step t it charges, fires and resets:

    V_t = H_{t-1} + (I_t - (H_{t-1} - V_reset)) / tau      decay_input=True   (TCJA-SNN, eq. 1-3)
    V_t = H_{t-1} - (H_{t-1} - V_reset) / tau + I_t        decay_input=False  (TET; FSVAE with tau = 4/3)
    S_t = 1 if V_t >= V_threshold else 0                   (strict=True: >)
    H_t = V_t (1 - S_t) + V_reset S_t

`lif` runs a whole sequence from rest. `lif_step` is the same neuron for one step, with the membrane H as argument and
result. The two agree bit for bit. The membrane is always float32.

The backward pass replaces dS/dV by a surrogate gradient, with x = V - V_threshold and sharpness `alpha`:

    atan       alpha / 2 / (1 + (pi/2 alpha x)^2)
    triangle   max(0, alpha - alpha^2 |x|)                 gamma = 1 / alpha of the papers
    box        alpha if |x| < 1 / (2 alpha) else 0         FSVAE's paper: alpha = 1 / 0.2
    box-zero   the same box around V = 0                   FSVAE's code: alpha = 1
"""

import math
from dataclasses import dataclass, replace
from typing import Protocol

import torch
from torch import Tensor

from ..errors import UserError
from ..ranges import check_ranges, setting
from ..registry import NEURONS, register_neuron
from .gradients import differentiable_once
from .kernels import kernel_for
from .packed import Packed

SURROGATES = {"atan": 2.0, "triangle": 1.0, "box": 5.0, "box-zero": 1.0}  # and the papers' sharpness


@dataclass(frozen=True)
class Neuron:
    """Settings of a LIF neuron. `Neuron.preset("tcja")`, "tet" and "fsvae" are those of the papers."""

    tau: float = setting(2.0, above=1)  # membrane time constant, in time steps, > 1
    decay_input: bool = True  # whether the input is divided by tau, too
    v_threshold: float = setting(1.0)  # above v_reset
    v_reset: float = setting(0.0)
    detach_reset: bool = True  # no gradient through the reset
    surrogate: str = "atan"
    alpha: float = setting(2.0, above=0)  # sharpness of the surrogate
    strict: bool = False  # fire at V > threshold rather than V >= threshold

    def __post_init__(self):
        check_ranges(self, "neuron: ")
        if self.v_threshold <= self.v_reset:
            raise UserError(f"neuron: v_threshold is {self.v_threshold}, it must be above v_reset ({self.v_reset})")
        if self.surrogate not in SURROGATES:
            raise UserError(f"neuron: unknown surrogate {self.surrogate!r}; known: {', '.join(SURROGATES)}")

    @classmethod
    def preset(cls, name: str, **changes) -> "Neuron":
        """A registered neuron by name, with settings changed by keyword.

        A changed surrogate brings its own sharpness (`SURROGATES`), unless `alpha` is given, too.
        """
        neuron = NEURONS[name]()
        if not isinstance(neuron, Neuron):
            raise UserError(f"neuron {name!r} is a module and has no settings; only a `Neuron` has")
        if changes.get("surrogate") in SURROGATES and changes["surrogate"] != neuron.surrogate:
            changes = {"alpha": SURROGATES[changes["surrogate"]], **changes}
        return replace(neuron, **changes)

    @property
    def gain(self) -> float:
        """The current that charges a resting neuron to its threshold in one step. `TDBatchNorm` scales by it."""
        return (self.v_threshold - self.v_reset) * (self.tau if self.decay_input else 1.0)


@register_neuron("tcja")
def tcja() -> Neuron:
    """TCJA-SNN (Zhu et al., TNNLS 2024)."""
    return Neuron()


@register_neuron("tet")
def tet() -> Neuron:
    """TET (Deng et al., ICLR 2022)."""
    return Neuron(decay_input=False, detach_reset=False, surrogate="triangle", alpha=1.0, strict=True)


@register_neuron("fsvae")
def fsvae() -> Neuron:
    """FSVAE's code (Kamata et al., AAAI 2022)."""
    return Neuron(
        tau=4 / 3,
        decay_input=False,
        v_threshold=0.2,
        detach_reset=False,
        surrogate="box-zero",
        alpha=1.0,
        strict=True,
    )


PRESETS = {"tcja": tcja(), "tet": tet(), "fsvae": fsvae()}  # of the papers


def surrogate_gradient(v: Tensor, neuron: Neuron) -> Tensor:
    """dS/dV at membrane potentials v, any shape."""
    x, alpha = v - neuron.v_threshold, neuron.alpha
    if neuron.surrogate == "atan":
        return alpha / 2 / (1 + (math.pi / 2 * alpha * x).square())
    if neuron.surrogate == "triangle":
        return (alpha - alpha * alpha * x.abs()).clamp(min=0)
    centred = v if neuron.surrogate == "box-zero" else x
    return torch.where(centred.abs() < 0.5 / alpha, alpha, 0.0)


def charge(h: Tensor, x: Tensor, neuron: Neuron) -> Tensor:
    """V_t from the membrane h = H_{t-1} and the current x = I_t, both float32."""
    if neuron.decay_input:
        return h + (x - (h - neuron.v_reset)) / neuron.tau
    return h * (1 - 1 / neuron.tau) + (x + neuron.v_reset / neuron.tau if neuron.v_reset else x)


def fires(v: Tensor, neuron: Neuron) -> Tensor:
    """Whether each membrane has reached the threshold."""
    return v > neuron.v_threshold if neuron.strict else v >= neuron.v_threshold


class _Fire(torch.autograd.Function):
    """Heaviside step forward, surrogate backward."""

    @staticmethod
    def forward(ctx, v: Tensor, neuron: Neuron) -> Tensor:
        ctx.save_for_backward(v)
        ctx.neuron = neuron
        return fires(v, neuron).to(v.dtype)

    @staticmethod
    def backward(ctx, grad: Tensor):
        (v,) = ctx.saved_tensors
        return grad * surrogate_gradient(v, ctx.neuron), None


def lif_step(x: Tensor, v: Tensor | None, neuron: Neuron = PRESETS["tcja"]) -> tuple[Tensor, Tensor]:
    """One time step of the neuron.

    x: input current, any shape. v: membrane after the previous step, float32, same shape; None: at rest.
    Returns the spikes in the dtype of x, and the membrane after the reset, float32.
    """
    h = torch.full_like(x, neuron.v_reset, dtype=torch.float32) if v is None else v
    v = charge(h, x.float(), neuron)
    spike = _Fire.apply(v, neuron)
    gate = spike.detach() if neuron.detach_reset else spike
    return spike.to(x.dtype), v * (1 - gate) + neuron.v_reset * gate


def spikes(
    x: Tensor, a: Tensor | None, b: Tensor | None, neuron: Neuron, steps: int, v: Tensor | None = None
) -> Tensor:
    """Spikes (T, M, C) for currents a x + b, or for currents x if a and b are None.

    x: (T, M, C), or (1, M, C) for one frame that is the input of all `steps`. a, b: (C,). v: membranes (M, C); None: at
    rest.
    """
    h = torch.full_like(x[0], neuron.v_reset, dtype=torch.float32) if v is None else v
    out = []
    for current in _currents(x, a, b, steps):
        v = charge(h, current, neuron)
        fired = fires(v, neuron)
        h = torch.where(fired, neuron.v_reset, v)
        out.append(fired.to(x.dtype))
    return torch.stack(out)


def spikes_backward(
    x: Tensor,
    a: Tensor | None,
    b: Tensor | None,
    grad: Tensor,
    mean: Tensor | None,
    rstd: Tensor | None,
    neuron: Neuron,
    steps: int,
    v: Tensor | None = None,
    cost: float = 0.0,
) -> tuple[Tensor, Tensor | None, Tensor | None, Tensor | None]:
    """Gradients of `spikes` from `grad` (T, M, C) plus the cost of each spike. Computes the membranes again.

    Returns four tensors: dL/dI in the shape of x; two tensors (., C), with a and b only, whose sums over rows are the
    sums of dL/dI and of dL/dI (x - mean) rstd; and dL/dv, with v only.
    """
    h = torch.full_like(x[0], neuron.v_reset, dtype=torch.float32) if v is None else v
    membranes, fired = [], []
    for current in _currents(x, a, b, steps):
        membranes.append(charge(h, current, neuron))
        fired.append(fires(membranes[-1], neuron))
        h = torch.where(fired[-1], neuron.v_reset, membranes[-1])

    gain = 1 / neuron.tau if neuron.decay_input else 1.0  # dV/dI
    carry = torch.zeros_like(h)  # dL/dH_t
    grads = []
    for u, reset, g in zip(reversed(membranes), reversed(fired), reversed(grad.unbind(0)), strict=True):
        ds = surrogate_gradient(u, neuron)
        dv = (g.float() + cost) * ds + torch.where(reset, 0.0, carry)
        if not neuron.detach_reset:
            dv = dv + carry * (neuron.v_reset - u) * ds
        grads.append(dv * gain)
        carry = dv * (1 - 1 / neuron.tau)
    grads = torch.stack(grads[::-1])
    if len(x) != steps:
        grads = grads.sum(0, keepdim=True)  # one frame for all steps
    gv = None if v is None else carry
    if a is None:
        return grads.to(x.dtype), None, None, gv
    return grads.to(x.dtype), grads.sum(0), (grads * (x.float() - mean) * rstd).sum(0), gv


def summed_spikes(x: Tensor, a: Tensor, b: Tensor, neuron: Neuron, w: Tensor) -> Tensor:
    """Sum over time of w_t times the spikes for currents a x + b, (M, C). x: (T, M, C). a, b: (C,). w: (T,)."""
    return weighted_sum(spikes(x, a, b, neuron, len(w)), w)


def summed_spikes_backward(
    x: Tensor, a: Tensor, b: Tensor, grad: Tensor, mean: Tensor, rstd: Tensor, neuron: Neuron, w: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """The first three gradients of `spikes_backward`, from the gradient (M, C) of `summed_spikes`."""
    return spikes_backward(x, a, b, w.view(-1, 1, 1).to(grad.dtype) * grad, mean, rstd, neuron, len(w))[:3]


def weighted_sum(x: Tensor, w: Tensor) -> Tensor:
    """Sum over time of w_t x_t, x (T, ...), w (T,). On a CPU step by step in float32, as the kernels do it."""
    if not x.is_cpu or torch.compiler.is_exporting():  # a graph cannot look at the numbers in w
        return torch.tensordot(w.to(x.dtype), x, dims=1)
    total = torch.zeros_like(x[0], dtype=torch.promote_types(x.dtype, torch.float32))
    for frame, share in zip(x, w.tolist(), strict=True):
        total.add_(frame, alpha=share)
    return total.to(x.dtype)


def gated_spikes(x: Tensor, a: Tensor, b: Tensor, f: Tensor, neuron: Neuron) -> Tensor:
    """Spikes (T, M, C) for currents f (a x + b).

    x: (T, M, C), or (1, M, C) for one frame. a, b: (C,). f: (T, N, C), a factor for each image, which has M / N rows.
    """
    return spikes(_factors_of_rows(f, x) * (a * x.float() + b), None, None, neuron, len(f)).to(x.dtype)


def gated_spikes_backward(
    x: Tensor, a: Tensor, b: Tensor, f: Tensor, grad: Tensor, mean: Tensor, neuron: Neuron, cost: float = 0.0
) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients of `gated_spikes` from `grad` (T, M, C) plus the cost of each spike.

    Returns dL/d(a x + b) in the shape of x; and two tensors (T, N, C), the sums over the rows of each image of dL/dI
    and of dL/dI (x - mean), where I is the gated current.
    """
    rows = _factors_of_rows(f, x)
    g, *_ = spikes_backward(rows * (a * x.float() + b), None, None, grad, None, None, neuron, len(f), cost=cost)
    sums = (part.unflatten(1, (f.shape[1], -1)).sum(2) for part in (g, g * (x.float() - mean)))
    g = rows * g
    return (g if len(x) == len(f) else g.sum(0, keepdim=True)).to(x.dtype), *sums


def _factors_of_rows(f: Tensor, x: Tensor) -> Tensor:
    """f (T, N, C) for each row of x (., M, C): (T, M, C)."""
    return f.repeat_interleave(x.shape[1] // f.shape[1], 1)


def _currents(x: Tensor, a: Tensor | None, b: Tensor | None, steps: int) -> list[Tensor]:
    currents = [frame.float() if a is None else a * frame.float() + b for frame in x.unbind(0)]
    return currents if len(x) == steps else currents * steps


class Charge(Protocol):
    """What spikes cost beside the loss, see `training.firing`."""

    def note(self, spikes: Tensor | Packed) -> None:
        """Gets the spikes of every training pass."""

    def __call__(self, n: int) -> float:
        """What is added to the gradient of each of n spikes of a pass. Asked for in the backward pass."""


def cost_of(charge: Charge | None, grad: Tensor) -> float:
    """What is added to each of the gradients of spikes."""
    return 0.0 if charge is None else charge(grad.numel())


class _LIF(torch.autograd.Function):
    """The whole sequence as one operation. It keeps only its input, in the input's dtype."""

    @staticmethod
    def forward(
        ctx, x: Tensor, v: Tensor | None, neuron: Neuron, steps: int, path: str, charge: Charge | None
    ) -> Tensor:
        ctx.save_for_backward(x, v)
        ctx.settings = neuron, steps, path, charge
        return kernel_for(path, spikes)(x, None, None, neuron, steps, v)

    @staticmethod
    @differentiable_once
    def backward(ctx, grad: Tensor):
        x, v = ctx.saved_tensors
        neuron, steps, path, charge = ctx.settings
        cost = cost_of(charge, grad)
        gx, _, _, gv = kernel_for(path, spikes_backward)(x, None, None, grad, None, None, neuron, steps, v, cost=cost)
        return gx, gv, *[None] * 4


def lif(
    x: Tensor,
    v: Tensor | None = None,
    neuron: Neuron = PRESETS["tcja"],
    *,
    steps: int | None = None,
    path: str = "plain",
    charge: Charge | None = None,
) -> Tensor:
    """Spikes (T, ...) of LIF neurons over a sequence, 0 or 1 in the dtype of x.

    x: currents (T, ...); or, with `steps` = T, one frame (...) that is the input of every step.
    v: membrane (...) at the start, float32; None: at rest. path: one of `kernels.PATHS`. charge: see `Charge`.
    UserError without a time step.
    """
    if steps == 0 or not steps and not len(x):
        raise UserError("lif: there is no time step")
    frame = x.shape if steps else x.shape[1:]
    if v is not None and v.shape != frame:
        raise UserError(f"lif: the membrane has shape {tuple(v.shape)}, the input's frames {tuple(frame)}")
    t = steps or len(x)
    if not math.prod(frame):
        return x.expand(t, *frame).clone()
    row = x.reshape(1 if steps else t, 1, -1)
    return _LIF.apply(row, None if v is None else v.reshape(1, -1), neuron, t, path, charge).view(t, *frame)
