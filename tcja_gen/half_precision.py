"""Weights in half precision: files of about half the size, for models that compute in fp32 as before.

Matrices and kernels of convolutions become float16. Vectors stay as they are: biases, thresholds and statistics of
batch norm are few, and an error in them reaches every value of a channel. A tensor stays as it is, too, if float16
cannot hold it: it has values above 65,504, or is so tiny that its error is above 0.1 % (rounding alone: below 0.05 %).

Rounding is no small matter for spikes: one that flips changes all that follows, so score what you publish.
"""

from collections.abc import Mapping

import torch
from torch import Tensor

ERROR = 1e-3  # root of the mean square, relative to that of the tensor


def halved(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The same tensors, matrices in float16. To halve again what was loaded into fp32 changes nothing."""
    return {name: x.half() if _fits(x) else x for name, x in tensors.items()}


def _fits(x: Tensor) -> bool:
    if x.dtype != torch.float32 or x.dim() < 2:
        return False
    values = x.detach().double()
    return bool((values.half().double() - values).norm() <= ERROR * values.norm())  # False for inf and nan
