"""The neurons on a CPU: `cpu.cpp`, compiled on first use and kept in the cache (`tcja_gen.cache`), behind the functions
of the same names in `neurons` and `normalisation`."""

import ctypes
import functools
import hashlib
import os
import shlex
import shutil
import subprocess
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from torch import Tensor

from ...cache import cache_file
from ...files import write
from ..neurons import SURROGATES, Neuron
from .arguments import array_like, check_frames, float32_arrays

SOURCE = Path(__file__).with_name("cpu.cpp")
# as in IEEE 754, so that spikes are those of the plain loop: no product and sum in one rounding
FLAGS = ["-O3", "-std=c++17", "-shared", "-fPIC", "-ffp-contract=off", "-fno-math-errno", "-fno-trapping-math"]
OPTIONAL_FLAGS = [
    ["-march=native", "-fopenmp"],
    ["-fopenmp"],
    ["-march=native"],
    [],
]  # the first that the compiler can do
SURROGATE_ORDER = ["atan", "triangle", "box", "box-zero"]  # of the surrogates in cpu.cpp
assert set(SURROGATE_ORDER) == set(SURROGATES)


class Constants(ctypes.Structure):
    """`Neuron` of cpu.cpp."""

    _fields_ = [(name, ctypes.c_float) for name in ("tau", "leak", "v_threshold", "v_reset", "alpha")] + [
        (name, ctypes.c_int) for name in ("decay_input", "strict", "detach_reset", "surrogate")
    ]


def compiler() -> str | None:
    """Command line of the C++ compiler: that of $CXX, which may have words before it or behind (ccache g++), g++ or
    clang++."""
    for command in (os.environ.get("CXX") or "g++", "clang++"):
        program, *words = _split_command(command) or [""]
        if found := shutil.which(program):
            return shlex.join([found, *words])
    return None


def _split_command(command: str) -> list[str]:
    try:
        return shlex.split(command)
    except ValueError:  # a quotation that does not end
        return [command]


@functools.cache
def library() -> ctypes.CDLL:
    """The compiled kernels. RuntimeError with the compiler's words if they cannot be had."""
    cxx = compiler()
    if not cxx or os.name == "nt":  # what is there on Windows takes other flags
        raise RuntimeError("there is no C++ compiler" if not cxx else "the kernels are not built on Windows")
    facts = {"source": SOURCE.read_text(encoding="utf-8"), "compiler": cxx, "flags": [FLAGS, OPTIONAL_FLAGS]}
    cached = cache_file("neurons", ".so", **facts, target=_target(shlex.split(cxx)))
    kept = _intact_library(cached)
    kernels = ctypes.CDLL(str(kept)) if kept else _build(shlex.split(cxx), cached)
    kernels.parts.restype = ctypes.c_int64
    return kernels


def _target(cxx: list[str]) -> str:
    """What this compiler makes code for on this processor, and its version, as macros: homes and images of containers
    are shared by unlike machines, and code for one may not run on the other."""
    command = [*cxx, "-march=native", "-dM", "-E", "-x", "c++", os.devnull]
    return subprocess.run(command, capture_output=True, encoding="utf-8", stdin=subprocess.DEVNULL).stdout


def _intact_library(cached: Path) -> Path | None:
    """The whole library of this cached: the name ends in a hash of the content. Loading half a file can end the
    process, so damaged ones are removed."""
    for file in cached.parent.glob(f"{cached.stem}-*{cached.suffix}"):
        if file == _hashed_name(cached, file.read_bytes()):
            return file
        with suppress(OSError):
            file.unlink()
    return None


def _hashed_name(cached: Path, content: bytes) -> Path:
    return cached.with_stem(f"{cached.stem}-{hashlib.sha256(content).hexdigest()[:16]}")


def _build(cxx: list[str], cached: Path) -> ctypes.CDLL:
    """Compiles the kernels and keeps them; where the cache cannot be written, for this process alone."""
    with TemporaryDirectory() as folder:
        made = Path(folder) / "neurons.so"
        _compile(cxx, made)
        try:
            content = made.read_bytes()
            write(_hashed_name(cached, content), content)
            return ctypes.CDLL(str(_hashed_name(cached, content)))
        except OSError:
            return ctypes.CDLL(str(made))


def _compile(cxx: list[str], made: Path) -> None:
    for best in OPTIONAL_FLAGS:
        done = subprocess.run(
            [*cxx, *FLAGS, *best, str(SOURCE), "-o", str(made)], capture_output=True, encoding="utf-8"
        )
        if not done.returncode:
            return
    raise RuntimeError(f"{shlex.join(cxx)} fails: {(done.stderr.strip().splitlines() or ['no message'])[-1]}")


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
        SURROGATE_ORDER.index(neuron.surrogate),
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
    (a, b), (v,) = float32_arrays(width, a, b), float32_arrays(rows * width, v)
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
    grad = array_like(x, (steps, rows, width), grad)
    (a, b, mean, rstd), (v,) = float32_arrays(width, a, b, mean, rstd), float32_arrays(rows * width, v)
    gx, gv = torch.empty_like(x), None if v is None else torch.empty_like(v)
    sums = products = None
    if a is not None:
        sums, products = x.new_empty(2, _partial_sums(rows, width), width, dtype=torch.float32)
    arguments = (x, a, b, v, grad, mean, rstd, gx, gv, sums, products, rows, width, steps, frames, _constants(neuron))
    _call("backward", x, *arguments)
    return gx, sums, products, gv


def _partial_sums(rows: int, width: int) -> int:
    return library().parts(ctypes.c_int64(rows), ctypes.c_int64(width))


def spike_step(x: Tensor, v: Tensor, a: Tensor, b: Tensor, neuron: Neuron) -> tuple[Tensor, Tensor]:
    """A time step of neurons: currents a x + b of x (N, C) and membranes v (N, C) -> spikes and membranes, float32."""
    end = v.new_empty(v.shape, dtype=torch.float32)  # row by row, however v lies in memory
    return _spikes(x[None], a, b, neuron, 1, v, end)[0], end


def squared_deviations(x: Tensor, mean: Tensor) -> Tensor:
    """Sums of (x - mean)^2, x (T, M, C) -> (parts, C)."""
    x = x.detach().contiguous()
    rows, width = x.shape[0] * x.shape[1], x.shape[2]
    out = x.new_empty(_partial_sums(rows, width), width, dtype=torch.float32)
    _call("squared_deviations", x, x, *float32_arrays(width, mean), out, rows, width)
    return out


def batch_norm_backward(
    g: Tensor, x: Tensor, a: Tensor, mean: Tensor, rstd: Tensor, mean_g: Tensor, mean_gx: Tensor
) -> Tensor:
    """dL/dx of batch normalisation, in the place of g if that is contiguous and of x's dtype."""
    x, width = x.detach().contiguous(), x.shape[-1]
    g = array_like(x, x.shape, g)
    columns = float32_arrays(width, a, mean, rstd, mean_g, mean_gx)
    _call("batch_norm_backward", x, g, x, *columns, x.numel() // width, width)
    return g
