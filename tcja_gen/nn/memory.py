"""Less memory for more time: activation checkpointing of spiking layers.

Training normally keeps what every layer needs for its gradient, for all T steps. A `recomputed` stage keeps only its
input, spikes as one byte each, and runs its forward pass again during the backward pass. The gradients are the same.
"""

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.autograd.graph import get_gradient_edge

from .gradients import differentiable_once
from .normalisation import updating_statistics

MEMORY = ("speed", "recompute")


def recomputed(run: Callable[[Tensor], Tensor], stage: nn.Module, x: Tensor, binary: bool) -> Tensor:
    """run(x), computed again in the backward pass. run: uses the layers of `stage`, and draws no random numbers.
    binary: x is 0 or 1."""
    if not torch.is_grad_enabled():
        return run(x)
    parameters = [p for p in stage.parameters() if p.requires_grad]
    return _Recompute.apply(run, stage, binary, x, *parameters)


class _Recompute(torch.autograd.Function):
    @staticmethod
    def forward(ctx, run: Callable, stage: nn.Module, binary: bool, x: Tensor, *parameters: Tensor) -> Tensor:
        ctx.save_for_backward(x.to(torch.bool) if binary else x)
        device = x.device.type
        precision = device, torch.get_autocast_dtype(device), torch.is_autocast_enabled(device)
        ctx.settings, ctx.parameters = (run, stage, x.dtype, precision), parameters
        return run(x)

    @staticmethod
    @differentiable_once
    def backward(ctx, grad: Tensor):
        (kept,), (run, stage, dtype, precision) = ctx.saved_tensors, ctx.settings
        x = kept.detach().to(dtype).requires_grad_(ctx.needs_input_grad[3])
        with torch.enable_grad(), torch.autocast(*precision), updating_statistics(stage, False):
            end = get_gradient_edge(run(x))  # does not keep the output itself
        wanted = [*([x] if x.requires_grad else []), *ctx.parameters]
        grads = torch.autograd.grad(end, wanted, grad, allow_unused=True)
        return None, None, None, *([] if x.requires_grad else [None]), *grads
