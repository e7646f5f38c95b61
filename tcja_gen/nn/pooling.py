"""Max pooling that keeps little for its gradient: of each window two or four bytes, which pixel was the largest.

PyTorch keeps the input and eight bytes of each window. The values and gradients are PyTorch's own, also where several
pixels are equal, as in most windows of spikes: the first of them gets the gradient.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from .gradients import differentiable_once


def max_pool(x: Tensor, size: int) -> Tensor:
    """The largest of each size x size pixels: x (N, C, H, W) -> (N, C, H / size, W / size)."""
    if not (x.is_cpu and x.requires_grad and torch.is_grad_enabled()):
        return F.max_pool2d(x, size)
    return _MaxPool.apply(x, size)


class _MaxPool(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x: Tensor, size: int) -> Tensor:
        y, largest = F.max_pool2d(x, size, return_indices=True)
        ctx.save_for_backward(largest.to(torch.int16 if x[0, 0].numel() <= 2**15 else torch.int32))
        ctx.settings = size, x.shape, x.stride()
        return y

    @staticmethod
    @differentiable_once
    def backward(ctx, grad: Tensor):
        (largest,), (size, shape, stride) = ctx.saved_tensors, ctx.settings
        like = torch.empty_strided(shape, stride, dtype=grad.dtype)  # never written, hence no memory
        window, none, one = [size, size], [0, 0], [1, 1]
        backward = torch.ops.aten.max_pool2d_with_indices_backward
        return backward(grad, like, window, window, none, one, False, largest.long()), None
