"""Gradients that are written by hand and have no gradient of their own: to ask for one is an error, never a number.

torch's `once_differentiable` refuses a backward pass through all of a graph alone: `torch.autograd.grad` of a gradient
with respect to some tensors leaves its error out, and the term with it. Here the refusal stands between a gradient and
all that the gradient depends on.
"""

from collections.abc import Callable
from functools import wraps

import torch
from torch import Tensor


def differentiable_once(backward: Callable) -> Callable:
    """`backward` of a `torch.autograd.Function`, whose gradient is refused. What it depends on beside what was saved
    stands in `ctx.parameters`."""

    @wraps(backward)
    def refusing(ctx, *grads: Tensor):
        with torch.no_grad():
            found = backward(ctx, *grads)
        if not torch.is_grad_enabled():  # nobody keeps a graph of this pass
            return found
        depends = [*grads, *ctx.saved_tensors, *getattr(ctx, "parameters", ())]
        depends = [t for t in depends if isinstance(t, Tensor) and t.requires_grad]
        several = found if isinstance(found, tuple) else (found,)
        return tuple(None if g is None else _Refused.apply(g, *depends) for g in several)

    return refusing


class _Refused(torch.autograd.Function):
    """A gradient as it is."""

    @staticmethod
    def forward(ctx, grad: Tensor, *depends: Tensor) -> Tensor:
        return grad.view_as(grad)

    @staticmethod
    def backward(ctx, grad: Tensor):
        raise RuntimeError("spiking layers can be differentiated once; a gradient of their gradient is not there")
