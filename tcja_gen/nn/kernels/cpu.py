"""Kernels for CPUs. `cpu.cpp` and `sparse.cpp`, which share `neuron.h`, are compiled on first use and kept in the cache
(`tcja_gen.cache`). The functions here replace those of the same names in `neurons` and `fused`; `sparse.py` calls the
kernels for weights whose input is spikes."""

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
from .arguments import array_like, check_frames, float32_arrays, planes

SOURCES = [Path(__file__).with_name(name) for name in ("cpu.cpp", "sparse.cpp")]
HEADER = Path(__file__).with_name("neuron.h")
# IEEE 754 arithmetic without fused multiply-add, so that spikes are exactly those of the plain loop
FLAGS = ["-O3", "-std=c++17", "-shared", "-fPIC", "-ffp-contract=off", "-fno-math-errno", "-fno-trapping-math"]
# tried in this order, until the compiler accepts one
OPTIONAL_FLAGS = [["-march=native", "-fopenmp"], ["-fopenmp"], ["-march=native"], []]
WORD = 64  # channels of a word of bits
SURROGATE_ORDER = ["atan", "triangle", "box", "box-zero"]  # as in the enum of cpu.cpp
assert set(SURROGATE_ORDER) == set(SURROGATES)


class Constants(ctypes.Structure):
    """The struct `Neuron` of neuron.h."""

    _fields_ = [(name, ctypes.c_float) for name in ("tau", "leak", "v_threshold", "v_reset", "alpha")] + [
        (name, ctypes.c_int) for name in ("decay_input", "strict", "detach_reset", "surrogate")
    ]


def compiler() -> str | None:
    """Command line of the C++ compiler: $CXX, which may be several words (ccache g++), else g++ or clang++."""
    for command in (os.environ.get("CXX") or "g++", "clang++"):
        program, *words = _split_command(command) or [""]
        if found := shutil.which(program):
            return shlex.join([found, *words])
    return None


def _split_command(command: str) -> list[str]:
    try:
        return shlex.split(command)
    except ValueError:  # a quotation mark without its pair
        return [command]


@functools.cache
def library() -> ctypes.CDLL:
    """The compiled kernels. RuntimeError with the compiler's message if there are none."""
    cxx = compiler()
    if not cxx or os.name == "nt":  # Windows compilers take other flags
        raise RuntimeError("there is no C++ compiler" if not cxx else "the kernels are not built on Windows")
    sources = [source.read_text(encoding="utf-8") for source in (*SOURCES, HEADER)]
    facts = {"sources": sources, "compiler": cxx, "flags": [FLAGS, OPTIONAL_FLAGS]}
    cached = cache_file("neurons", ".so", **facts, target=_target(shlex.split(cxx)))
    kept = _intact_library(cached)
    kernels = ctypes.CDLL(str(kept)) if kept else _build(shlex.split(cxx), cached)
    for function in ("parts", "narrow", "wide", "gradient_parts"):
        getattr(kernels, function).restype = ctypes.c_int64
    return kernels


def _target(cxx: list[str]) -> str:
    """The compiler's macros for this processor, its version included. Different machines may share a cache, and code
    for one may not run on another."""
    command = [*cxx, "-march=native", "-dM", "-E", "-x", "c++", os.devnull]
    return subprocess.run(command, capture_output=True, encoding="utf-8", stdin=subprocess.DEVNULL).stdout


def _intact_library(cached: Path) -> Path | None:
    """The cached library, if the hash in its name is that of its content. Loading a damaged file can crash the process,
    so damaged ones are removed."""
    for file in cached.parent.glob(f"{cached.stem}-*{cached.suffix}"):
        if file == _hashed_name(cached, file.read_bytes()):
            return file
        with suppress(OSError):
            file.unlink()
    return None


def _hashed_name(cached: Path, content: bytes) -> Path:
    return cached.with_stem(f"{cached.stem}-{hashlib.sha256(content).hexdigest()[:16]}")


def _build(cxx: list[str], cached: Path) -> ctypes.CDLL:
    """Compiles the kernels into the cache, or for this process only where the cache cannot be written."""
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
            [*cxx, *FLAGS, *best, *map(str, SOURCES), "-o", str(made)], capture_output=True, encoding="utf-8"
        )
        if not done.returncode:
            return
    raise RuntimeError(f"{shlex.join(cxx)} fails: {(done.stderr.strip().splitlines() or ['no message'])[-1]}")


@functools.cache
def constants(neuron: Neuron) -> Constants:
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


def words(channels: int) -> int:
    """Words of the bits of so many channels."""
    return -(-channels // WORD)


def _call(function: str, x: Tensor, *arguments: Tensor | int | float | ctypes.Structure | None) -> None:
    """Calls a kernel. Tensors become addresses; the last arguments say whether x is bfloat16, and how many threads."""
    if x.dtype not in (torch.float32, torch.bfloat16):
        raise TypeError(f"neurons run in float32 or bfloat16, not {x.dtype}")
    given = [_argument(a) for a in arguments]
    half, threads = ctypes.c_int(x.dtype == torch.bfloat16), ctypes.c_int64(torch.get_num_threads())
    getattr(library(), function)(*given, half, threads)


def _argument(a: Tensor | int | float | ctypes.Structure | None):
    if a is None or isinstance(a, Tensor):
        return ctypes.c_void_p(None if a is None else a.data_ptr())
    if isinstance(a, float):
        return ctypes.c_float(a)
    return ctypes.c_int64(a) if isinstance(a, int) else ctypes.byref(a)


def spikes(x: Tensor, a: Tensor | None, b: Tensor | None, neuron: Neuron, steps: int, v: Tensor | None = None):
    """As `neurons.spikes`."""
    return _spikes(x, a, b, neuron, steps, v, None)


def gated_spikes(x: Tensor, a: Tensor, b: Tensor, f: Tensor, neuron: Neuron) -> Tensor:
    """As `neurons.gated_spikes`."""
    return _spikes(x, a, b, neuron, len(f), None, None, f)


def summed_spikes(x: Tensor, a: Tensor, b: Tensor, neuron: Neuron, w: Tensor) -> Tensor:
    """As `neurons.summed_spikes`; the spikes are never written."""
    return _spikes(x, a, b, neuron, len(w), None, None, w=w)


def spike_bits(
    x: Tensor, a: Tensor | None, b: Tensor | None, neuron: Neuron, steps: int, f: Tensor | None = None
) -> Tensor:
    """`neurons.spikes`, or with f `neurons.gated_spikes`, as bits (T, M, words)."""
    return _spikes(x, a, b, neuron, steps, None, None, f, as_bits=True)


def _spikes(
    x: Tensor, a, b, neuron: Neuron, steps: int, v, end: Tensor | None, f=None, w=None, as_bits: bool = False
) -> Tensor:
    x = x.detach().contiguous()
    frames, rows, width = x.shape
    check_frames(frames, steps)
    (a, b), (v,), (f, pixels) = float32_arrays(width, a, b), float32_arrays(rows * width, v), planes(rows, width, f)
    (w,) = float32_arrays(steps, w)
    bits = out = None
    if as_bits:
        bits = x.new_empty(steps, rows, words(width), dtype=torch.int64)
    else:
        out = x.new_empty(*([steps] if w is None else []), rows, width)
    _call("forward", x, x, a, b, f, v, w, out, bits, end, rows, width, pixels, steps, frames, constants(neuron))
    return bits if as_bits else out


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
    cost: float = 0.0,
) -> tuple[Tensor, Tensor | None, Tensor | None, Tensor | None]:
    """As `neurons.spikes_backward`; the sums have shape (parts, C)."""
    return _backward(x, a, b, grad, mean, rstd, neuron, steps, v, cost=cost)


def gated_spikes_backward(
    x: Tensor, a: Tensor, b: Tensor, f: Tensor, grad: Tensor, mean: Tensor, neuron: Neuron, cost: float = 0.0
) -> tuple[Tensor, Tensor, Tensor]:
    """As `neurons.gated_spikes_backward`."""
    return _backward(x, a, b, grad, mean, None, neuron, len(f), None, f, cost=cost)[:3]


def summed_spikes_backward(
    x: Tensor,
    a: Tensor,
    b: Tensor,
    grad: Tensor,
    mean: Tensor,
    rstd: Tensor,
    neuron: Neuron,
    w: Tensor,
    overwrite: bool = False,
) -> tuple[Tensor, Tensor, Tensor]:
    """As `neurons.summed_spikes_backward`; the sums have shape (parts, C). overwrite: whether dL/dI takes the place of
    x in memory."""
    return _backward(x, a, b, grad, mean, rstd, neuron, len(w), None, w=w, overwrite=overwrite)[:3]


def scaled_sum_backward(
    x: Tensor,
    a: Tensor,
    b: Tensor,
    grad: Tensor,
    mean: Tensor,
    rstd: Tensor,
    neuron: Neuron,
    u: Tensor,
    shift: Tensor,
    overwrite: bool = False,
) -> tuple[Tensor, Tensor, Tensor]:
    """As `summed_spikes_backward`, but the gradient of a spike is u grad + shift, for u and shift (T, N, C) of each of
    N images."""
    return _backward(x, a, b, grad, mean, rstd, neuron, len(u), None, scales=(u, shift), overwrite=overwrite)[:3]


def _backward(
    x: Tensor,
    a,
    b,
    grad: Tensor,
    mean,
    rstd,
    neuron: Neuron,
    steps: int,
    v,
    f=None,
    w=None,
    scales=(None, None),
    overwrite: bool = False,
    cost: float = 0.0,
):
    x = x.detach().contiguous()
    frames, rows, width = x.shape
    check_frames(frames, steps)
    (w,) = float32_arrays(steps, w)
    summed = w is not None or scales[0] is not None
    grad = array_like(x, (*([] if summed else [steps]), rows, width), grad)
    (a, b, mean, rstd), (v,) = float32_arrays(width, a, b, mean, rstd), float32_arrays(rows * width, v)
    (f, pixels), (u, per_scale), (shift, _) = (planes(rows, width, values) for values in (f, *scales))
    pixels = max(pixels, per_scale)
    gx, gv = x if overwrite else torch.empty_like(x), None if v is None else torch.empty_like(v)
    sums = products = None
    if f is not None:
        sums, products = f.new_zeros(2, *f.shape)
    elif a is not None:
        sums, products = x.new_empty(2, _part_count(rows, width, pixels), width, dtype=torch.float32)
    arguments = x, a, b, f, v, w, u, shift, grad, mean, rstd, gx, gv, sums, products, rows, width, pixels, steps, frames
    _call("backward", x, *arguments, float(cost), constants(neuron))
    return gx, sums, products, gv


def _part_count(rows: int, width: int, pixels: int = 1) -> int:
    return library().parts(*map(ctypes.c_int64, (rows, width, pixels)))


def spike_step(x: Tensor, v: Tensor, a: Tensor, b: Tensor, neuron: Neuron) -> tuple[Tensor, Tensor]:
    """As `fused.spike_step`."""
    end = v.new_empty(v.shape, dtype=torch.float32)  # contiguous, whatever the strides of v are
    return _spikes(x[None], a, b, neuron, 1, v, end)[0], end


def squared_deviations(x: Tensor, mean: Tensor) -> Tensor:
    """As `fused.squared_deviations`, x (T, M, C) -> (parts, C)."""
    x = x.detach().contiguous()
    rows, width = x.shape[0] * x.shape[1], x.shape[2]
    out = x.new_empty(_part_count(rows, width), width, dtype=torch.float32)
    _call("squared_deviations", x, x, *float32_arrays(width, mean), out, rows, width)
    return out


def batch_norm_backward(
    g: Tensor, x: Tensor, a: Tensor, mean: Tensor, rstd: Tensor, mean_g: Tensor, mean_gx: Tensor, shift=None
) -> Tensor:
    """As `fused.batch_norm_backward`. Overwrites g if it is contiguous and has x's dtype."""
    x, width = x.detach().contiguous(), x.shape[-1]
    g = array_like(x, x.shape, g)
    columns = float32_arrays(width, a, mean, rstd, mean_g, mean_gx)
    shift, pixels = planes(x.shape[-2], width, shift)
    _call("batch_norm_backward", x, g, x, *columns, shift, x.numel() // width, width, pixels)
    return g
