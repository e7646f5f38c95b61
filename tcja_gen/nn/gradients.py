"""Hand-written gradients cannot be differentiated again; an attempt must raise an error, never give a wrong number.

torch's `once_differentiable` is not enough: `torch.autograd.grad` of a gradient, with respect to only some tensors, can
skip its error and leave the missing term out. Here the error stands between a gradient and every tensor that it depends
on.
"""

from collections.abc import Callable, Sequence
from functools import wraps

import torch
from torch import Tensor, nn


def differentiable_once(backward: Callable) -> Callable:
    """Decorator for `backward` of a `torch.autograd.Function`. To differentiate its result, which depends on the saved
    tensors and on those in `ctx.parameters`, is a RuntimeError."""

    @wraps(backward)
    def refusing(ctx, *grads: Tensor):
        with torch.no_grad():
            found = backward(ctx, *grads)
        if not torch.is_grad_enabled():  # no second derivative is possible
            return found
        depends = [*grads, *ctx.saved_tensors, *getattr(ctx, "parameters", ())]
        depends = [t for t in depends if isinstance(t, Tensor) and t.requires_grad]
        several = found if isinstance(found, tuple) else (found,)
        return tuple(None if g is None else _Refused.apply(g, *depends) for g in several)

    return refusing


def gate_graph(gate: nn.Module, z: Tensor) -> tuple[Tensor, Tensor]:
    """The squeezed stream z (T, N, C), as a leaf of autograd's graph where gradients are wanted, and its gate."""
    z = z.detach().requires_grad_(torch.is_grad_enabled())
    return z, gate.gate(z)


def graph_gradients(
    f: Tensor, z: Tensor, parameters: Sequence[Tensor], needed: Sequence[bool], gf: Tensor
) -> list[Tensor | None]:
    """Gradients of z and of the parameters (None where frozen) through the graph of f, from the gradient gf of f."""
    wanted = [p for p, need in zip(parameters, needed, strict=True) if need]
    if not f.requires_grad:  # a frozen gate that does not depend on z
        return [torch.zeros_like(z), *(None for _ in needed)]
    gz, *found = torch.autograd.grad(f, (z, *wanted), gf, retain_graph=True, allow_unused=True, materialize_grads=True)
    return [gz, *(found.pop(0) if need else None for need in needed)]


class _Refused(torch.autograd.Function):
    """The identity, whose backward pass is an error."""

    @staticmethod
    def forward(ctx, grad: Tensor, *depends: Tensor) -> Tensor:
        return grad.view_as(grad)

    @staticmethod
    def backward(ctx, grad: Tensor):
        raise RuntimeError("spiking layers can be differentiated once; there is no gradient of their gradient")
