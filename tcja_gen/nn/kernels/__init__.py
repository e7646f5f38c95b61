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

import torch

PATHS = {"plain": None, "native": ".cpu", "triton": ".gpu"}


class OnPath:
    """Mixed into a layer that has a `path`, set by `normalisation.fuse`.

    While torch.compile traces it, the plain path takes the place of the native one: a trace sees the addresses that a
    kernel gets as numbers, and would free the memory behind them too early.
    """

    _path = "plain"

    @property
    def path(self) -> str:
        return "plain" if self._path == "native" and torch.compiler.is_compiling() else self._path

    @path.setter
    def path(self, path: str) -> None:
        self._path = path


def kernel_for(path: str, reference: Callable) -> Callable:
    """What computes `reference` on one of `PATHS`: itself, or the kernel of the same name."""
    module = PATHS[path]
    return getattr(import_module(module, __name__), reference.__name__) if module else reference
