"""Less memory for more time: activation checkpointing of spiking layers.

Training normally keeps what every layer needs for its gradient, for all T steps. A `recomputed` stage keeps only its
input, spikes as bits or as one byte each, and runs its forward pass again during the backward pass. The gradients are
the same.
"""

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.autograd.graph import get_gradient_edge

from .gradients import differentiable_once
from .normalisation import updating_statistics
from .packed import Packed, graph_tensor, stand_in, without_gradient

MEMORY = ("speed", "recompute")


def recomputed(
    run: Callable[[Tensor | Packed], Tensor | Packed], stage: nn.Module, x: Tensor | Packed, binary: bool
) -> Tensor | Packed:
    """run(x), computed again in the backward pass. run: uses the layers of `stage`, and draws no random numbers.
    binary: x is 0 or 1."""
    if not torch.is_grad_enabled():
        return run(x)
    parameters = [p for p in stage.parameters() if p.requires_grad]
    given = (x.x, x.bits) if isinstance(x, Packed) else (x, None)
    made = _Recompute.apply(run, stage, binary, *given, *parameters)
    return Packed(*made) if isinstance(made, tuple) else made


class _Recompute(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx, run: Callable, stage: nn.Module, binary: bool, x: Tensor, bits: Tensor | None, *parameters: Tensor
    ) -> Tensor | tuple[Tensor, Tensor]:
        ctx.save_for_backward(bits if bits is not None else x.to(torch.bool) if binary else x)
        device = x.device.type
        precision = device, torch.get_autocast_dtype(device), torch.is_autocast_enabled(device)
        packed = None if bits is None else x.shape
        ctx.settings, ctx.parameters = (run, stage, x.dtype, precision, packed), parameters
        y = run(x if bits is None else Packed(x, bits))
        return without_gradient(ctx, y.x, y.bits) if isinstance(y, Packed) else y

    @staticmethod
    @differentiable_once
    def backward(ctx, grad: Tensor, *_):
        (kept,), (run, stage, dtype, precision, packed) = ctx.saved_tensors, ctx.settings
        x = stand_in(grad, *packed) if packed else kept.detach().to(dtype)
        x.requires_grad_(ctx.needs_input_grad[3])
        with torch.enable_grad(), torch.autocast(*precision), updating_statistics(stage, False):
            y = run(Packed(x, kept) if packed else x)
            end = get_gradient_edge(graph_tensor(y))  # does not keep the output itself
        del y
        wanted = [*([x] if x.requires_grad else []), *ctx.parameters]
        grads = torch.autograd.grad(end, wanted, grad, allow_unused=True)
        gx, *gp = grads if x.requires_grad else (None, *grads)
        return None, None, None, gx, None, *gp
