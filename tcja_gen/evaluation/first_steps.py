"""A trained generator that stops before its last time step: quality against T from one model, without new training.

The prior and the decoder's neurons are causal. Attention is not: its gates see all T steps at once. So there are two
ways to stop after t steps, which are the same at t = T:

run t       the model runs t steps, at t / T of the cost. Its gates lose their weights for the other steps, as if these
            had no spikes, or no currents. The image is the readout of the t steps
read at t   the model runs all T steps, at the whole cost; the image is read out after t of them (`model.film`)

Either way a seed draws the same first t latent steps as in the whole model.
"""

from collections.abc import Sequence
from copy import deepcopy

from torch import Tensor, nn

from ..errors import UserError
from ..models import SpikingVAE
from ..nn import CLA, FC, TA, TCJA, CodeLatent, CurrentCLA, CurrentGate, CurrentTCJA, Gate, Readout, TimeGain
from ..nn.currents import CurrentTCJANormed


def run_steps(model: SpikingVAE, t: int) -> SpikingVAE:
    """A copy of a generator that runs only the first t of its T steps.

    UserError unless 1 <= t <= T, for a latent of codes, whose prior makes the bits of all steps at once, and for gates
    that divide by a mean over all steps.
    """
    _check(model, t)
    if t < model.time_steps and any(isinstance(part, CurrentTCJANormed) for part in model.modules()):
        raise UserError("TCJACnormed divides by a mean over all T steps: its generator cannot run fewer")
    if isinstance(model.latent, CodeLatent) and t < model.time_steps:
        raise UserError("codes are made for all T steps at once: their generator cannot run fewer")
    short = deepcopy(model)
    for part in short.modules():
        if hasattr(part, "time_steps"):
            part.time_steps = t
        if isinstance(part, Readout):
            part.weights = Readout(part.kind, t).weights.to(part.weights)
        if isinstance(part, (Gate, CurrentGate)):
            _cut(part, t)
    return short


def _cut(gate: Gate | CurrentGate, t: int) -> None:
    """Keep a gate's weights for the first t steps alone."""
    c = gate.channels
    if isinstance(gate, (TCJA, CLA, CurrentTCJA, CurrentCLA)):
        _keep(gate.cla, gate.cla.weight[:t, :t])
    elif isinstance(gate, TimeGain):
        gate.gain = nn.Parameter(gate.gain[:t].detach().clone())
    elif isinstance(gate, TA):
        _keep(gate.mlp[0], gate.mlp[0].weight[:, :t])
        _keep(gate.mlp[2], gate.mlp[2].weight[:t])
    elif isinstance(gate, FC):
        _keep(gate.fc, gate.fc.weight[: t * c, : t * c])


def _keep(layer: nn.Module, weight: Tensor) -> None:
    layer.weight = nn.Parameter(weight.detach().clone())


class ReadSteps:
    """A generator whose samples are read out after t of the T steps that it runs; UserError unless 1 <= t <= T."""

    def __init__(self, model: SpikingVAE, t: int):
        _check(model, t)
        self._model, self.time_steps = model, t

    def __getattr__(self, name: str):
        if name in ("reconstruct", "classify", "encode", "decode", "film", "interpolate"):
            raise AttributeError(f"only samples are read out early, {name} is not")
        return getattr(self._model, name)

    def sample(self, seeds: Sequence[int] | Tensor, classes=None) -> Tensor:
        """As `SpikingVAE.sample`."""
        return self._model.film(seeds, classes)[:, self.time_steps - 1]


def _check(model: SpikingVAE, t: int) -> None:
    if model.full_count:
        raise UserError("a generator of event frames gives a frame for each step: it has no image to read out early")
    if not 1 <= t <= model.time_steps:
        raise UserError(f"{t} steps of a generator with T = {model.time_steps}: wanted 1 to {model.time_steps}")
