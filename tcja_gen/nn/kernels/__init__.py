"""What runs the neurons: plain PyTorch, or kernels, which fuse a whole sequence of normalisation and neurons.

Five functions of `neurons` and `normalisation` exist three times, under the same names and with the same arguments:

    plain    PyTorch, a loop over time, on any device; what the others are tested against
    native   C++ for a CPU: `cpu.cpp`, which `cpu.py` compiles once a machine
    triton   Triton for a GPU: `gpu.py`
"""

from collections.abc import Callable
from importlib import import_module

PATHS = {"plain": None, "native": ".cpu", "triton": ".gpu"}


def kernel_for(path: str, function: Callable) -> Callable:
    """`function` as it runs on one of `PATHS`: as it stands, or the kernel of the same name."""
    module = PATHS[path]
    return getattr(import_module(module, __name__), function.__name__) if module else function
