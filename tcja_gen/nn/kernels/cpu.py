"""The neurons on a CPU: `cpu.cpp`, compiled on first use and kept in the cache (`tcja_gen.cache`), behind the functions
of the same names in `neurons` and `normalisation`."""

import ctypes
import functools
import os
import shutil
import subprocess
from pathlib import Path

import torch
from torch import Tensor

from ...cache import cache_file
from ...files import replacing
from ..neurons import SURROGATES, Neuron
from .arguments import check_frames, floats, like

SOURCE = Path(__file__).with_name("cpu.cpp")
# as in IEEE 754, so that spikes are those of the plain loop: no product and sum in one rounding
FLAGS = ["-O3", "-std=c++17", "-shared", "-fPIC", "-ffp-contract=off", "-fno-math-errno", "-fno-trapping-math"]
BEST = [["-march=native", "-fopenmp"], ["-fopenmp"], ["-march=native"], []]  # the first that the compiler can do
ORDER = ["atan", "triangle", "box", "box-zero"]  # of the surrogates in cpu.cpp
assert set(ORDER) == set(SURROGATES)


class Constants(ctypes.Structure):
    """`Neuron` of cpu.cpp."""

    _fields_ = [(name, ctypes.c_float) for name in ("tau", "leak", "v_threshold", "v_reset", "alpha")] + [
        (name, ctypes.c_int) for name in ("decay_input", "strict", "detach_reset", "surrogate")
    ]


def compiler() -> str | None:
    """Path of the C++ compiler."""
    return next(filter(None, map(shutil.which, (os.environ.get("CXX") or "g++", "clang++"))), None)


@functools.cache
def library() -> ctypes.CDLL:
    """The compiled kernels. RuntimeError with the compiler's words if they cannot be had."""
    cxx = compiler()
    if not cxx:
        raise RuntimeError("there is no C++ compiler")
    processor = dict(torch.cpu.get_capabilities())  # homes are shared by unlike machines
    file = cache_file(
        "neurons", ".so", source=SOURCE.read_text(), compiler=cxx, flags=[FLAGS, BEST], processor=processor
    )
    if not file.exists():
        with replacing(file) as temporary:
            for best in BEST:
                command = [cxx, *FLAGS, *best, str(SOURCE), "-o", str(temporary)]
                done = subprocess.run(command, capture_output=True, text=True)
                if not done.returncode:
                    break
            else:
                raise RuntimeError(f"{cxx} fails: {(done.stderr.strip().splitlines() or ['no message'])[-1]}")
    kernels = ctypes.CDLL(str(file))
    kernels.parts.restype = ctypes.c_int64
    return kernels


@functools.cache
def _constants(neuron: Neuron) -> Constants:
    return Constants(
        neuron.tau,
        1 - 1 / neuron.tau,
        neuron.v_threshold,
        neuron.v_reset,
        neuron.alpha,
        neuron.decay_input,
        neuron.strict,
        neuron.detach_reset,
        ORDER.index(neuron.surrogate),
    )


def _call(function: str, x: Tensor, *arguments: Tensor | int | ctypes.Structure | None) -> None:
    """A kernel with the addresses of tensors; whether x is in half precision and the number of threads go last."""
    if x.dtype not in (torch.float32, torch.bfloat16):
        raise TypeError(f"neurons run in float32 or bfloat16, not {x.dtype}")
    given = [_argument(a) for a in arguments]
    half, threads = ctypes.c_int(x.dtype == torch.bfloat16), ctypes.c_int64(torch.get_num_threads())
    getattr(library(), function)(*given, half, threads)


def _argument(a: Tensor | int | ctypes.Structure | None):
    if a is None or isinstance(a, Tensor):
        return ctypes.c_void_p(None if a is None else a.data_ptr())
    return ctypes.c_int64(a) if isinstance(a, int) else ctypes.byref(a)


def spikes(x: Tensor, a: Tensor | None, b: Tensor | None, neuron: Neuron, steps: int, v: Tensor | None = None):
    """Spikes (T, M, C) of currents a x + b, x (T or 1, M, C), from rest or from membranes v (M, C)."""
    return _spikes(x, a, b, neuron, steps, v, None)


def _spikes(x: Tensor, a, b, neuron: Neuron, steps: int, v: Tensor | None, end: Tensor | None) -> Tensor:
    x = x.detach().contiguous()
    frames, rows, width = x.shape
    check_frames(frames, steps)
    (a, b), (v,) = floats(width, a, b), floats(rows * width, v)
    out = x.new_empty(steps, rows, width)
    _call("forward", x, x, a, b, v, out, end, rows, width, steps, frames, _constants(neuron))
    return out


def spikes_backward(
    x: Tensor,
    a: Tensor | None,
    b: Tensor | None,
    grad: Tensor,
    mean: Tensor | None,
    rstd: Tensor | None,
    neuron: Neuron,
    steps: int,
    v: Tensor | None = None,
) -> tuple[Tensor, Tensor | None, Tensor | None, Tensor | None]:
    """dL/dI like x; with an affine map also its sums and those of its product with the normalised input, (parts, C);
    with v, dL/dv."""
    x = x.detach().contiguous()
    frames, rows, width = x.shape
    check_frames(frames, steps)
    grad = like(x, (steps, rows, width), grad)
    (a, b, mean, rstd), (v,) = floats(width, a, b, mean, rstd), floats(rows * width, v)
    gx, gv = torch.empty_like(x), None if v is None else torch.empty_like(v)
    sums = products = None
    if a is not None:
        sums, products = x.new_empty(2, _parts(rows, width), width, dtype=torch.float32)
    arguments = (x, a, b, v, grad, mean, rstd, gx, gv, sums, products, rows, width, steps, frames, _constants(neuron))
    _call("backward", x, *arguments)
    return gx, sums, products, gv


def _parts(rows: int, width: int) -> int:
    return library().parts(ctypes.c_int64(rows), ctypes.c_int64(width))


def advance(x: Tensor, v: Tensor, a: Tensor, b: Tensor, neuron: Neuron) -> tuple[Tensor, Tensor]:
    """A time step of neurons: currents a x + b of x (N, C) and membranes v (N, C) -> spikes and membranes, float32."""
    end = v.new_empty(v.shape, dtype=torch.float32)  # row by row, however v lies in memory
    return _spikes(x[None], a, b, neuron, 1, v, end)[0], end


def squares(x: Tensor, mean: Tensor) -> Tensor:
    """Sums of (x - mean)^2, x (T, M, C) -> (parts, C)."""
    x = x.detach().contiguous()
    rows, width = x.shape[0] * x.shape[1], x.shape[2]
    out = x.new_empty(_parts(rows, width), width, dtype=torch.float32)
    _call("squares", x, x, *floats(width, mean), out, rows, width)
    return out


def finish(g: Tensor, x: Tensor, a: Tensor, mean: Tensor, rstd: Tensor, mean_g: Tensor, mean_gx: Tensor) -> Tensor:
    """dL/dx of batch normalisation, in the place of g if that is contiguous and of x's dtype."""
    x, width = x.detach().contiguous(), x.shape[-1]
    g = like(x, x.shape, g)
    _call("finish", x, g, x, *floats(width, a, mean, rstd, mean_g, mean_gx), x.numel() // width, width)
    return g
