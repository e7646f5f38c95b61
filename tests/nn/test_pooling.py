"""Max pooling: PyTorch's values and gradients, with less kept for them."""

import pytest
import torch
import torch.nn.functional as F

from tcja_gen.nn.pooling import max_pool


def grads(pool, x, size, seed=0):
    x = x.detach().clone().requires_grad_()
    y = pool(x, size)
    y.backward(torch.randn(y.shape, generator=torch.Generator().manual_seed(seed)).to(y.dtype))
    return y.detach(), x.grad


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize(
    "shape, size", [((6, 4, 8, 8), 2), ((3, 2, 7, 9), 2), ((2, 3, 10, 11), 3), ((1, 1, 182, 182), 2)]
)
@pytest.mark.parametrize("layout", [torch.channels_last, torch.contiguous_format])
def test_values_and_gradients_are_pytorchs_also_where_several_pixels_are_equal(dtype, shape, size, layout):
    torch.manual_seed(0)
    for x in ((torch.rand(shape) < 0.3).to(dtype), torch.randn(shape, dtype=dtype)):
        x = x.to(memory_format=layout)
        for ours, theirs in zip(grads(max_pool, x, size), grads(F.max_pool2d, x, size), strict=True):
            assert torch.equal(ours, theirs) and ours.stride() == theirs.stride()


def test_an_eighth_of_the_input_is_kept_for_the_gradient():
    kept = []
    x = (torch.rand(8, 16, 32, 32) < 0.3).float().requires_grad_()
    with torch.autograd.graph.saved_tensors_hooks(lambda t: (kept.append(t.nbytes), t)[1], lambda t: t):
        max_pool(x, 2)
    assert sum(kept) == x.detach().nbytes / 8
