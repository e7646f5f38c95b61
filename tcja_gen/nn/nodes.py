"""Other neurons in the place of the LIF: SpikingJelly's by class name, and modules that a plugin registers.

    neuron = "spikingjelly:ParametricLIFNode"
    neuron = "spikingjelly:LIFNode(tau=2.0, v_threshold=0.5, surrogate_function=ATan(alpha=2.0))"

A node, as SpikingJelly calls it, is a module from currents (T, N, ...) to spikes of the same shape. Every layer has one
of its own, whose parameters are trained and saved. It runs as it is there, surrogate gradient included, in float32 and
without the kernels of this package. Tested with SpikingJelly 2.0.

Nodes are stateless here: a call starts from rest, and afterwards every part with a method `reset` is reset. Where a
network runs one time step at a time (the autoregressive latent), its state is handed in and out. SpikingJelly's nodes
can do so unless they need the whole sequence, as PSN does; a module of a plugin needs a method
`step(x, state) -> spikes, state`, with state None at rest.
"""

import ast
import inspect
from collections.abc import Callable
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property, partial
from typing import Any

import torch
from torch import Tensor, nn

from ..errors import UserError
from .normalisation import LIF, NormLIF, TDBatchNorm

PREFIX = "spikingjelly:"


@dataclass(frozen=True)
class NodeNeuron:
    """Neurons that are modules. name: as in the settings; make: gives a new module for every layer."""

    name: str
    make: Callable[[], nn.Module] = field(compare=False, repr=False)

    @cached_property
    def gain(self) -> float:
        """As `Neuron.gain`, by the node's attributes of the same names; 1 if it has no `v_threshold`."""
        node = self.make()
        threshold = getattr(node, "v_threshold", None)
        if not isinstance(threshold, (int, float)):
            return 1.0
        tau = _tau(node) if getattr(node, "decay_input", False) is True else 1.0
        return (threshold - (getattr(node, "v_reset", None) or 0.0)) * tau

    def check_single_steps(self) -> None:
        """UserError if the neurons need the whole sequence at once."""
        node = self.make()
        if not hasattr(node, "step") and not _keeps_memories(node):
            raise UserError(f"neuron {self.name!r} cannot run one time step at a time, which this latent needs")

    def __str__(self) -> str:
        return self.name


def _tau(node: nn.Module) -> float:
    """The time constant at the start; SpikingJelly's parametric LIF learns w = -log(tau - 1)."""
    if isinstance(w := getattr(node, "w", None), nn.Parameter):
        return 1 / w.detach().sigmoid().item()
    return getattr(node, "tau", 1.0)


class Node(nn.Module):
    """Nodes alone, as `LIF`: currents (T, N, ...), or one static frame (N, ...) with `steps` = T, -> spikes."""

    def __init__(self, neuron: NodeNeuron):
        super().__init__()
        self.node = neuron.make()

    def forward(self, x: Tensor, steps: int | None = None) -> Tensor:
        return from_rest(self.node, x, steps)


class NormNode(TDBatchNorm):
    """tdBN and the nodes behind it, as `NormLIF`: currents (T, N, C, ...) -> spikes."""

    def __init__(self, channels: int, neuron: NodeNeuron, alpha: float = 1.0, **options):
        super().__init__(channels, alpha * neuron.gain, **options)
        self.node = neuron.make()

    def forward(self, x: Tensor, steps: int | None = None, offset: Tensor | None = None) -> Tensor:
        return from_rest(self.node, *self.gated(super().forward(x, steps, offset), steps))

    def step(self, x: Tensor, state: Any | None) -> tuple[Tensor, Any]:
        """One time step by the running statistics: x (N, C) and the node's state, None at rest -> spikes and state."""
        a, b = self.affine(self.running_mean, self.running_var)
        spikes, state = one_step(self.node, a * x.float() + b, state)
        return spikes.to(x.dtype), state


SPIKING = (LIF, NormLIF, Node, NormNode)  # layers of neurons


def from_rest(node: nn.Module, x: Tensor, steps: int | None = None) -> Tensor:
    """Spikes (T, N, ...) for currents x (T, N, ...), or for a frame (N, ...) that is the input of all `steps`."""
    x = x.expand(steps, *x.shape) if steps else x
    try:
        with torch.autocast(x.device.type, enabled=False), _failing_by_name(node):
            spikes = node(x.float())
    finally:
        for part in node.modules():
            if callable(getattr(part, "reset", None)):
                part.reset()
    if not isinstance(spikes, Tensor) or spikes.shape != x.shape:
        found = tuple(spikes.shape) if isinstance(spikes, Tensor) else type(spikes).__name__
        raise UserError(f"neurons {type(node).__name__} give {found} for currents {tuple(x.shape)}, wanted the same")
    return spikes.to(x.dtype)


def one_step(node: nn.Module, x: Tensor, state: Any | None) -> tuple[Tensor, Any]:
    """Spikes (N, ...) for currents x (N, ...), and the state after the step. state: None at rest."""
    if hasattr(node, "step"):
        return node.step(x, state)
    from spikingjelly.activation_based import base

    node.step_mode = "s"
    try:
        with torch.autocast(x.device.type, enabled=False), _failing_by_name(node):
            state = tuple(base.extract_memories(node)) if state is None else state
            (spikes,), state = base.to_functional_forward(node)((x,), state)
    finally:
        node.step_mode = "m"
    return spikes, state


@contextmanager
def _failing_by_name(node: nn.Module):
    """Makes a UserError of what a node raises that is not made for a layer of any shape."""
    try:
        yield
    except (TypeError, ValueError) as error:
        raise UserError(f"neurons {type(node).__name__} fail: {_line(error)}") from error


def _keeps_memories(node: nn.Module) -> bool:
    """Whether it is one of SpikingJelly's nodes that carry their state from step to step."""
    return hasattr(node, "named_memories") and "s" in node.supported_step_mode()


def spikingjelly_neuron(name: str) -> NodeNeuron:
    """The neuron "spikingjelly:Class" or "spikingjelly:Class(argument=value, ...)". Values are Python literals, and for
    `surrogate_function` a class of SpikingJelly's surrogates. UserError if there is no such neuron."""
    neuron = NodeNeuron(name, partial(_spikingjelly_node, name))
    neuron.make()
    return neuron


def _spikingjelly_node(name: str) -> nn.Module:
    try:
        from spikingjelly.activation_based import neuron, surrogate
    except ImportError:
        raise UserError(f'neuron {name!r}: there is no spikingjelly; pip install "tcja_gen[spikingjelly]"') from None
    try:
        call = ast.parse(name.removeprefix(PREFIX).strip(), mode="eval").body
        made = _made(call, neuron, nn.Module, surrogate)
        made.step_mode = "m"
    except UserError as error:
        raise UserError(f"neuron {name!r}: {error}") from None
    except AssertionError:
        raise UserError(
            f"neuron {name!r}: an argument has the wrong type (write whole numbers as 2.0) or is out of range"
        ) from None
    except (SyntaxError, TypeError, ValueError) as error:
        raise UserError(f"neuron {name!r}: {_line(error)}") from None
    return made


def _made(call: ast.expr, module: Any, kind: type, surrogates: Any) -> Any:
    """The object of a class of `module`, from an expression `Class` or `Class(argument=value, ...)`."""
    keywords = call.keywords if isinstance(call, ast.Call) else []
    named = call.func if isinstance(call, ast.Call) and not call.args else call
    if not isinstance(named, ast.Name) or any(k.arg is None for k in keywords):
        raise UserError("wanted Class or Class(argument=value, ...)")
    known = {key: part for key, part in vars(module).items() if inspect.isclass(part) and issubclass(part, kind)}
    if named.id not in known:
        raise UserError(f"SpikingJelly has no {named.id}; known: {', '.join(sorted(known))}")
    return known[named.id](**{k.arg: _value(k.value, surrogates) for k in keywords})


def _value(expression: ast.expr, surrogates: Any) -> Any:
    if isinstance(expression, (ast.Name, ast.Call)):
        return _made(expression, surrogates, surrogates.SurrogateFunctionBase, surrogates)
    return ast.literal_eval(expression)


def _line(error: Exception) -> str:
    return (str(error) or type(error).__name__).splitlines()[0]
