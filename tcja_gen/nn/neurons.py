"""Leaky integrate-and-fire neurons without state.

One neuron covers the papers that this package follows. Charge, fire and hard reset of time step t:

    V_t = H_{t-1} + (I_t - (H_{t-1} - V_reset)) / tau      decay_input=True   (TCJA-SNN, eq. 1-3)
    V_t = H_{t-1} - (H_{t-1} - V_reset) / tau + I_t        decay_input=False  (TET; FSVAE with tau = 4/3)
    S_t = 1 if V_t >= V_threshold else 0                   (strict=True: >)
    H_t = V_t (1 - S_t) + V_reset S_t

`lif` runs a whole sequence from rest and forgets its membrane afterwards; `lif_step` is the same neuron one
step at a time, its membrane handed in and out. The two agree bit for bit. The membrane is always float32.

The gradient of a spike is a surrogate. With x = V - V_threshold and sharpness `alpha`:

    atan       alpha / 2 / (1 + (pi/2 alpha x)^2)
    triangle   max(0, alpha - alpha^2 |x|)                 gamma = 1 / alpha of the papers
    box        alpha if |x| < 1 / (2 alpha) else 0         FSVAE's paper: alpha = 1 / 0.2
    box-zero   the same box around V = 0                   FSVAE's code: alpha = 1
"""

import functools
import math
from dataclasses import dataclass, replace

import torch
from torch import Tensor

SURROGATES = {"atan": 2.0, "triangle": 1.0, "box": 5.0, "box-zero": 1.0}  # with the papers' sharpness


@dataclass(frozen=True)
class Neuron:
    """Settings of a LIF neuron; `Neuron.preset("tcja" | "tet" | "fsvae")` gives those of the papers."""

    tau: float = 2.0  # membrane time constant, in time steps, > 1
    decay_input: bool = True  # divide the input by tau, too
    v_threshold: float = 1.0
    v_reset: float = 0.0
    detach_reset: bool = True  # no gradient through the reset
    surrogate: str = "atan"
    alpha: float = 2.0  # sharpness of the surrogate
    strict: bool = False  # fire at V > threshold rather than V >= threshold

    def __post_init__(self):
        if self.tau <= 1:
            raise ValueError(f"neuron: tau is {self.tau}, it must be greater than 1")
        if self.alpha <= 0:
            raise ValueError(f"neuron: alpha is {self.alpha}, it must be positive")
        if self.surrogate not in SURROGATES:
            raise ValueError(f"neuron: unknown surrogate {self.surrogate!r}; known: {', '.join(SURROGATES)}")

    @classmethod
    def preset(cls, name: str, **changes) -> "Neuron":
        """The neuron of a paper by name, with single settings changed by keyword.

        Another surrogate comes with its own sharpness (`SURROGATES`), unless `alpha` is given, too.
        """
        if name not in PRESETS:
            raise ValueError(f"unknown neuron preset {name!r}; known: {', '.join(PRESETS)}")
        if changes.get("surrogate") in SURROGATES and changes["surrogate"] != PRESETS[name].surrogate:
            changes = {"alpha": SURROGATES[changes["surrogate"]], **changes}
        return replace(PRESETS[name], **changes)

    @property
    def gain(self) -> float:
        """Scale of a normalised current whose deviation just reaches the threshold (see `TDBatchNorm`)."""
        return (self.v_threshold - self.v_reset) * (self.tau if self.decay_input else 1.0)


PRESETS = {
    "tcja": Neuron(),
    "tet": Neuron(decay_input=False, detach_reset=False, surrogate="triangle", alpha=1.0, strict=True),
    "fsvae": Neuron(
        tau=4 / 3,
        decay_input=False,
        v_threshold=0.2,
        detach_reset=False,
        surrogate="box-zero",
        alpha=1.0,
        strict=True,
    ),
}


def surrogate_gradient(v: Tensor, neuron: Neuron) -> Tensor:
    """dS/dV at membrane potentials v, any shape."""
    x, alpha = v - neuron.v_threshold, neuron.alpha
    if neuron.surrogate == "atan":
        return alpha / 2 / (1 + (math.pi / 2 * alpha * x).square())
    if neuron.surrogate == "triangle":
        return (alpha - alpha * alpha * x.abs()).clamp(min=0)
    centred = v if neuron.surrogate == "box-zero" else x
    return alpha * (centred.abs() < 0.5 / alpha).to(v.dtype)


def charge(h: Tensor, x: Tensor, neuron: Neuron) -> Tensor:
    """V_t from the membrane H_{t-1} and the current I_t, both float32."""
    if neuron.decay_input:
        return h + (x - (h - neuron.v_reset)) / neuron.tau
    return h * (1 - 1 / neuron.tau) + (x + neuron.v_reset / neuron.tau)


def fires(v: Tensor, neuron: Neuron) -> Tensor:
    """Which membranes have reached the threshold, as booleans."""
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

    x: input current, any shape. v: membrane after the previous step (float32, same shape), None at rest.
    Returns the spikes (dtype of x) and the membrane after the reset (float32).
    """
    h = torch.full_like(x, neuron.v_reset, dtype=torch.float32) if v is None else v
    v = charge(h, x.float(), neuron)
    spike = _Fire.apply(v, neuron)
    gate = spike.detach() if neuron.detach_reset else spike
    return spike.to(x.dtype), v * (1 - gate) + neuron.v_reset * gate


def run(x: Tensor, v: Tensor | None, affine: tuple[Tensor, Tensor] | None, neuron: Neuron, steps: int) -> Tensor:
    """Spikes (steps, ...) of currents x (steps, ...), or (1, ...) for one frame that is the input of every step.

    `affine` (a, b): the current is a x + b, a and b broadcast against a frame.
    """
    h = torch.full_like(x[0], neuron.v_reset, dtype=torch.float32) if v is None else v
    spikes = []
    for frame in _frames(x, affine, steps):
        v = charge(h, frame, neuron)
        fired = fires(v, neuron)
        h = torch.where(fired, neuron.v_reset, v)
        spikes.append(fired.to(x.dtype))
    return torch.stack(spikes)


def run_backward(
    x: Tensor,
    v: Tensor | None,
    affine: tuple[Tensor, Tensor] | None,
    grad: Tensor,
    neuron: Neuron,
    steps: int,
) -> tuple[list[Tensor], Tensor]:
    """Gradients for the currents, one float32 tensor per frame of x, and for v. Computes the membranes again."""
    h = torch.full_like(x[0], neuron.v_reset, dtype=torch.float32) if v is None else v
    membranes = []
    for frame in _frames(x, affine, steps):
        membranes.append(charge(h, frame, neuron))
        h = torch.where(fires(membranes[-1], neuron), neuron.v_reset, membranes[-1])

    carry = torch.zeros_like(h)  # dL/dH_t
    grads = []
    for v, g in zip(reversed(membranes), reversed(grad.unbind(0)), strict=True):
        ds = surrogate_gradient(v, neuron)
        through_reset = torch.where(fires(v, neuron), 0.0, carry)
        if not neuron.detach_reset:
            through_reset = through_reset + carry * (neuron.v_reset - v) * ds
        dv = g.float() * ds + through_reset
        grads.append(dv / neuron.tau if neuron.decay_input else dv)
        carry = dv * (1 - 1 / neuron.tau)
    if x.shape[0] != steps:  # one frame for all steps
        return [sum(grads)], carry
    return grads[::-1], carry


def _frames(x: Tensor, affine: tuple[Tensor, Tensor] | None, steps: int) -> list[Tensor]:
    frames = [frame.float() for frame in x.unbind(0)]
    if affine:
        frames = [affine[0] * frame + affine[1] for frame in frames]
    return frames if x.shape[0] == steps else frames * steps


@functools.cache
def compiled(function):
    """`function` as fused kernels: one compilation per T, neuron and dtype, whatever the shape of a layer."""
    torch._dynamo.config.recompile_limit = max(torch._dynamo.config.recompile_limit, 64)  # models side by side
    fast = torch.compile(function, dynamic=True)

    def call(*args):
        with torch.autocast(args[0].device.type, enabled=False):  # or every change of it compiles again
            return fast(*args)

    return call


class _LIF(torch.autograd.Function):
    """The whole sequence as one operation that saves only its input, in the input's own dtype."""

    @staticmethod
    def forward(ctx, x: Tensor, v: Tensor | None, neuron: Neuron, steps: int, fused: bool) -> Tensor:
        ctx.save_for_backward(x, v)
        ctx.settings = neuron, steps, fused
        return (compiled(run) if fused else run)(x.data, v, None, neuron, steps)

    @staticmethod
    def backward(ctx, grad: Tensor):
        x, v = ctx.saved_tensors
        neuron, steps, fused = ctx.settings
        grads, gv = (compiled(run_backward) if fused else run_backward)(x.data, v, None, grad.data, neuron, steps)
        return torch.stack(grads).to(x.dtype), (gv if v is not None else None), None, None, None


def lif(
    x: Tensor,
    v: Tensor | None = None,
    neuron: Neuron = PRESETS["tcja"],
    *,
    steps: int | None = None,
    fused: bool = False,
) -> Tensor:
    """Spikes of a layer of LIF neurons over a sequence, from rest (or from membrane `v`).

    x: currents (T, ...); or, with `steps` = T, one frame (...) that is the input of every step.
    v: initial membrane (...), float32. fused: loops compiled by `torch.compile`.
    Returns spikes (T, ...) of 0 and 1 in the dtype of x.
    """
    frame = x.shape if steps else x.shape[1:]
    if v is not None and v.shape != frame:
        raise ValueError(f"lif: the membrane has shape {tuple(v.shape)}, the input's frames {tuple(frame)}")
    return _LIF.apply(x[None] if steps else x, v, neuron, steps or len(x), fused)
