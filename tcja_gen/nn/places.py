"""Spikes of an encoder at some places only, as a round of a masked prior needs them.

What cannot matter for these places is left out: pixels too far away for the last convolutions, and every other place
behind them, where layers look at single pixels.
"""

import math
from collections.abc import Sequence
from contextlib import contextmanager

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .coders import SpikingEncoder
from .layers import Residual, SpikingBlock, TemporalDropout
from .normalisation import LIF
from .sequence import run_stages
from .sparse import wanted


def spikes_at(encoder: SpikingEncoder, x: Tensor, places: Tensor) -> Tensor:
    """encoder(x) at the pixels with the indices `places` (P,): spikes (T, N, C, P), bit for bit the same.

    x: images (N, C, H, W). Without gradient, for layers that keep the image's size. Layers of weights that skip zeros
    leave out what cannot matter for these pixels.
    """
    body = list(encoder.stages)
    while len(body) > 1 and _is_pointwise(body[-1]) and isinstance(body[-2], (SpikingBlock, LIF)):
        body.pop()
    pixels = torch.zeros(math.prod(encoder.shape[1:]), dtype=torch.bool).index_fill(0, places, True)
    with _computing(body, pixels.view(encoder.shape[1:])):
        y = run_stages(body, x, False, False, encoder.time_steps)
    y = y.flatten(3)[..., places, None]  # (T, N, C, P, 1)
    return run_stages(encoder.stages[len(body) :], y, False, False)[..., 0]


def _is_pointwise(stage: nn.Module) -> bool:
    return isinstance(stage, SpikingBlock) and stage.weights.weight.shape[2:] == (1, 1) and stage.gate is None


@contextmanager
def _computing(stages: Sequence[nn.Module], pixels: Tensor):
    """Inside, layers that skip zeros compute only what matters for some `pixels` of the output, (H, W) of bool. It goes
    back from the last stage as far as that is not every pixel."""
    told = {}
    for stage in reversed(stages):
        blocks = [stage] if isinstance(stage, SpikingBlock) else []
        if isinstance(stage, Residual) and stage.attention is None and stage.shortcut is None:
            blocks = [stage.second, stage.first]
        if any(block.gate is not None for block in blocks):
            break  # a gate sees all pixels
        if not blocks and not isinstance(stage, (LIF, TemporalDropout)):
            break
        for weights in (block.weights for block in blocks):
            told[weights] = pixels
            reach = weights.kernel_size[0] // 2
            pixels = F.max_pool2d(pixels[None].float(), 2 * reach + 1, 1, reach)[0] > 0
    token = wanted.set(told)
    try:
        yield
    finally:
        wanted.reset(token)
