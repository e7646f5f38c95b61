"""Kernels that run normalisation and neurons of a whole sequence as one operation.

The functions of `neurons` and `fused` that pass over a stream exist on three paths, with the same names and
arguments:

    plain    PyTorch with a loop over time, on any device; the others are tested against it
    native   C++ for CPUs: `cpu.cpp`, which `cpu.py` compiles once on each machine
    triton   Triton for GPUs: `gpu.py`

Layers of weights whose input is spikes have kernels for a CPU alone: `sparse.cpp` and `sparse.py`.
"""

from collections.abc import Callable
from importlib import import_module

PATHS = {"plain": None, "native": ".cpu", "triton": ".gpu"}


def kernel_for(path: str, reference: Callable) -> Callable:
    """What computes `reference` on one of `PATHS`: itself, or the kernel of the same name."""
    module = PATHS[path]
    return getattr(import_module(module, __name__), reference.__name__) if module else reference
