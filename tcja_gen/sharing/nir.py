"""Networks for neuromorphic hardware: NIR files (neuroir.org), by SpikingJelly's exchange.

    tdBN is folded into the weights before it:  a (W x + b) + c = (a W) x + (a b + c)
    LIF      tau dt, r = 1, or tau where the input is not divided by tau; one time step is `STEP` seconds

A network runs one step at a time, so it must be causal: attention whose gate at step t is computed from all T steps is
refused. So is all that NIR or the exchange has no word for: transposed convolutions (hence every decoder), products,
max pooling, residual sums, voting, draws of random numbers. What remains is classifiers of convolutions, average
pooling and linear layers, and encoders of spatial codes.

The input is the same at every step for images, in [-1, 1] (2 x - 1 of an image in [0, 1]). Otherwise it is event
counts, which for the encoder of a generator are scaled to [-1, 1], too (`SpikingVAE.as_input`). The output is that of
every step: a classifier's scores are their mean over T steps. A network from NIR fires at V >= threshold; neurons with
`strict` fire at V > threshold, which differs where both are equal.
"""

from collections.abc import Iterable, Iterator
from pathlib import Path

import torch
from torch import Tensor, nn

from ..errors import UserError
from ..models import SpikingClassifier
from ..nn import CodeLatent
from ..nn.attention import SE, Gate
from ..nn.layers import Flatten, Pool, SpikingBlock, TemporalDropout
from ..nn.normalisation import LIF, NormLIF

STEP = 1e-4  # seconds; the default of NIR's frameworks


def graph(model: nn.Module, part: str):
    """The part of a model as a nir.NIRGraph. UserError if the packages are missing, or NIR cannot say it."""
    try:
        import nir  # noqa: F401
        import nirtorch  # noqa: F401
        from spikingjelly.activation_based import functional
        from spikingjelly.activation_based.nir_exchange import export_to_nir
    except ImportError:
        raise UserError('format nir needs more packages: pip install "tcja_gen[export]"') from None
    net = nn.Sequential(*_layers(_stages(model, part)))
    functional.set_step_mode(net, "m")
    x = torch.zeros(1, 1, model.image_channels, model.image_size, model.image_width)
    return export_to_nir(net, x, dt=STEP)


def write(made, file: Path) -> None:
    """Writes a nir.NIRGraph as HDF5."""
    import nir

    nir.write(file, made)


def _stages(model: nn.Module, part: str) -> Iterable[nn.Module]:
    """The layers of a part, in order."""
    classifies = part == "classifier" or part == "all" and isinstance(model, SpikingClassifier)
    if classifies and model.head is not None:
        return [*model.encoder.stages, *model.head.stages]
    if part == "encoder" and isinstance(getattr(model, "latent", None), CodeLatent):
        return [*model.encoder.stages, model.latent.entry]
    if part == "encoder" and hasattr(model, "latent"):
        raise UserError("NIR draws no random numbers, which this latent does; encoders of spatial codes draw none")
    if part in ("all", "decoder") and hasattr(model, "latent"):
        raise UserError("NIR has no transposed convolution, which a decoder needs; --part encoder or classifier")
    raise UserError(f"NIR: this model has no part {part!r} that runs one step at a time")


def _layers(stages: Iterable[nn.Module]) -> Iterator[nn.Module]:
    """The same layers of SpikingJelly, with normalisation folded into weights."""
    from spikingjelly.activation_based import layer

    for stage in stages:
        if isinstance(stage, SpikingBlock):
            yield from _block(stage)
        elif isinstance(stage, LIF):
            yield _node(stage.neuron)
        elif isinstance(stage, Pool) and stage.kind == "average":
            yield layer.AvgPool2d(stage.size)
        elif isinstance(stage, Flatten):
            yield layer.Flatten()
        elif isinstance(stage, nn.Linear):
            yield _weights(stage, torch.ones(stage.out_features), torch.zeros(stage.out_features))
        elif not isinstance(stage, TemporalDropout):
            raise UserError(f"NIR: {_reason(stage)}")


def _reason(stage: nn.Module) -> str:
    """Why a layer is refused."""
    name = type(stage).__name__
    if isinstance(stage, SE):
        return f"{name} multiplies two signals, for which there is no word"
    if isinstance(stage, Gate):
        return f"the gate of {name} looks ahead in time (it sees all T steps), and networks run one step at a time"
    return f"there is no word for {name} ({stage.extra_repr() or getattr(stage, 'kind', 'as it is here')})"


def _block(block: SpikingBlock) -> Iterator[nn.Module]:
    neurons = block.neurons
    if not isinstance(neurons, (NormLIF, LIF)):
        raise UserError(f"NIR: {_reason(neurons)}")
    if block.gate is not None:
        raise UserError(f"NIR: {type(block.gate).__name__} multiplies currents by a gate, for which there is no word")
    if isinstance(neurons, NormLIF):
        a, b = neurons.affine(neurons.running_mean, neurons.running_var)
    else:
        a, b = torch.ones(block.weights.outputs), torch.zeros(block.weights.outputs)
    yield _weights(block.weights, a, b)
    yield _node(neurons.neuron)


def _weights(weights: nn.Module, a: Tensor, b: Tensor) -> nn.Module:
    """A layer of weights whose output is a y + b of the output y of `weights`; a, b: (C,)."""
    from spikingjelly.activation_based import layer

    if isinstance(weights, nn.Linear):
        made = layer.Linear(weights.in_features, weights.out_features)
    elif isinstance(weights, nn.Conv2d):
        sizes = {name: getattr(weights, name) for name in ("kernel_size", "stride", "padding")}
        made = layer.Conv2d(weights.in_channels, weights.out_channels, **sizes)
    else:
        raise UserError(f"NIR: {_reason(weights)}")
    with torch.no_grad():
        made.weight.copy_(weights.weight * a.view(-1, *[1] * (weights.weight.dim() - 1)))
        made.bias.copy_(b if weights.bias is None else a * weights.bias + b)
    return made


def _node(neuron) -> nn.Module:
    from spikingjelly.activation_based.neuron import LIFNode

    settings = {name: float(getattr(neuron, name)) for name in ("tau", "v_threshold", "v_reset")}
    return LIFNode(decay_input=neuron.decay_input, **settings)
