"""What a process sets up before it works: its rank among others, its device, its memory, its kernels."""

import ctypes
import math
import os
import platform
import sys
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.distributed as dist

from .busy import sleep_when_busy
from .errors import UserError
from .nn.kernels.cpu import compiler, library


@dataclass(frozen=True)
class Process:
    """A process of a training or scoring job: number `rank` of `world` processes, working on `device`."""

    rank: int
    world: int
    device: torch.device

    @property
    def first(self) -> bool:
        """Whether this is the process that prints and writes files."""
        return self.rank == 0

    def share(self, value):
        """The value that the first process has. Every process must call this."""
        if self.world == 1:
            return value
        box = [value]
        dist.broadcast_object_list(box)
        return box[0]

    def any(self, flag: bool) -> bool:
        """Whether the flag is set in any process. Every process must call this."""
        if self.world == 1:
            return flag
        votes = torch.tensor(float(flag), device=self.device)
        dist.all_reduce(votes)
        return votes.item() > 0


def start(device: str = "auto") -> Process:
    """Joins the process group if `torchrun` started this process, and chooses the device ("auto": a GPU if there is
    one). UserError if there is no such device."""
    local = int(os.environ.get("LOCAL_RANK", 0))
    if device == "auto":
        device = f"cuda:{local}" if torch.cuda.is_available() else "cpu"
    chosen = known_device(device)
    if chosen.type == "cpu":
        reuse_freed_memory()
        share_cores()
        sleep_when_busy()
    else:
        chosen = torch.device("cuda", local if chosen.index is None else chosen.index)
        torch.cuda.set_device(chosen)
    if int(os.environ.get("WORLD_SIZE", 1)) > 1:
        _join(chosen)
    return this_process(chosen)


def known_device(device: torch.device | str) -> torch.device:
    """The device. UserError if there is none of this name on this machine."""
    try:
        chosen = torch.device(device)
    except (RuntimeError, TypeError):
        raise UserError(f"unknown device {device!r}; known: cpu, cuda, cuda:0, and in commands auto") from None
    if chosen.type not in ("cpu", "cuda"):
        raise UserError(f"device {str(device)!r}: this package runs on cpu and cuda")
    if chosen.type == "cuda" and not torch.cuda.is_available():
        raise UserError(f"device {str(device)!r}: there is no CUDA device on this machine")
    if chosen.type == "cuda" and (chosen.index or 0) >= (count := torch.cuda.device_count()):
        raise UserError(f"device {str(device)!r}: this machine has {count} CUDA devices")
    return chosen


def _join(device: torch.device) -> None:
    """Joins the process group that torchrun describes in environment variables."""
    if not dist.is_available():
        raise UserError("this build of torch has no torch.distributed: it works in a single process only")
    if not dist.is_initialized():
        dist.init_process_group("nccl" if device.type == "cuda" else "gloo")


def this_process(device: torch.device) -> Process:
    """This process with its rank in the group that it has joined; the only one if it has joined none."""
    if dist.is_available() and dist.is_initialized():
        return Process(dist.get_rank(), dist.get_world_size(), device)
    return Process(0, 1, device)


@contextmanager
def first_ahead(process: Process, needed: bool = True):
    """The body runs in the first process, then in the others: for downloads and caches, which the others then find.

    needed: if False, no process waits. It must be the same in every process.
    """
    if needed and process.world > 1 and not process.first:
        dist.barrier()
    try:
        yield
    finally:
        if needed and process.world > 1 and process.first:
            dist.barrier()


def in_all_processes(flag: bool) -> bool:
    """Whether the flag is set in every process. Every process must call this."""
    if not (dist.is_available() and dist.is_initialized()):
        return flag
    count = torch.tensor(int(flag), device="cuda" if dist.get_backend() == "nccl" else "cpu")
    dist.all_reduce(count)
    return int(count) == dist.get_world_size()


def share_cores() -> None:
    """Limits torch's threads to the cores of this process (`cores`). A lower number stays, and OMP_NUM_THREADS wins."""
    if "OMP_NUM_THREADS" not in os.environ:
        torch.set_num_threads(min(torch.get_num_threads(), cores()))


def cores(cgroup: Path = Path("/sys/fs/cgroup")) -> int:
    """Number of cores that this process may use, at least 1.

    It is the number of CPUs in its affinity, or the CPU quota of its container if that is lower. Processes that
    torchrun started on this machine divide it equally.
    """
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    if quota := _quota(cgroup):
        allowed = min(allowed, math.ceil(quota))
    return max(allowed // int(os.environ.get("LOCAL_WORLD_SIZE", 1)), 1)


def _quota(cgroup: Path) -> float | None:
    """Number of cores that a container may use (cgroup v2, then v1); None without a limit."""
    for files in (["cpu.max"], ["cpu/cpu.cfs_quota_us", "cpu/cpu.cfs_period_us"]):
        try:
            quota, period = " ".join((cgroup / file).read_text(encoding="utf-8") for file in files).split()
        except (OSError, ValueError):
            continue
        return float(quota) / float(period) if quota.isdecimal() else None  # "max", or -1
    return None


def peak_memory(device: torch.device) -> float | None:
    """Peak memory so far in MB, of the GPU or of this process. None if the system does not report it (Windows)."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 1e6
    try:
        import resource
    except ImportError:
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak * (1 if sys.platform == "darwin" else 1024) / 1e6  # bytes on macOS, KiB elsewhere


def reuse_freed_memory(whether: bool = True) -> None:
    """Whether glibc keeps freed memory for the next tensor, or returns that of large ones at once. Does nothing with
    another C library.

    glibc returns tensors above 32 MiB at once if it is not told otherwise, and the pages of the next one are faulted in
    one by one: a training step on a CPU takes up to twice as long. What is kept does not always fit what comes next. A
    network with tensors of gigabytes then takes up to twice the memory.
    """
    if platform.libc_ver()[0] != "glibc":
        return
    trim_threshold, top_pad, mmap_threshold, mmap_max = -1, -2, -3, -4
    libc = ctypes.CDLL(None)
    libc.mallopt(mmap_max, 0 if whether else 2**16)
    libc.mallopt(mmap_threshold, 32 * 2**20)
    libc.mallopt(trim_threshold, 2**31 - 1 if whether else 64 * 2**20)
    libc.mallopt(top_pad, 64 * 2**20 if whether else 2**17)


@contextmanager
def without_tf32():
    """Inside, a GPU's fp32 convolutions do not round their inputs to TF32, which is torch's default for them.

    TF32 flips so many spikes that a seed gives another image than on a CPU.
    """
    before = torch.backends.cudnn.allow_tf32
    torch.backends.cudnn.allow_tf32 = False
    try:
        yield
    finally:
        torch.backends.cudnn.allow_tf32 = before


def neuron_path(device: torch.device, setting: str = "auto") -> tuple[str, str]:
    """The kernels that neurons use on a device ("triton", "native" or "plain", see `nn.kernels`), and the reason.

    setting: the value of `compile` in a recipe, auto, on or off. UserError if it is on and there is no compiler.
    """
    if setting == "off":
        return "plain", "compile = off"
    missing = _missing_compiler(device)
    if missing and setting == "on":
        raise UserError(f"compile = 'on': {missing}")
    if missing:
        return "plain", missing
    if device.type == "cuda":
        return "triton", "a GPU, and Triton is installed"
    return "native", f"a CPU, and a C++ compiler is there ({compiler()})"


def _missing_compiler(device: torch.device) -> str:
    """Why kernels cannot be compiled for this device; "" if they can."""
    if device.type == "cuda":
        from torch.utils._triton import has_triton

        return "" if has_triton() else "there is no Triton for this device"
    try:
        library()
    except (RuntimeError, OSError) as error:
        return str(error)
    return ""


def environment(device: torch.device) -> dict[str, str]:
    """The hardware, threads and kernels that work on this device uses, by name: it shows why a run is slow."""
    path, why = neuron_path(device)
    return {
        "device": f"{device} ({torch.cuda.get_device_name(device)})" if device.type == "cuda" else _processor(),
        "threads": str(torch.get_num_threads()),
        "neurons": f"{path}: {why}",
        "weights": "skip silent spikes in fp32, dense in bf16" if path == "native" else "dense",
        "bf16": _bf16(device),
    }


def _processor() -> str:
    return f"cpu ({torch.cpu.get_capabilities().get('cpu_name') or platform.machine()})"


def bf16_units(device: torch.device) -> list[str]:
    """The hardware units of a device for bf16 products; empty if it only emulates them."""
    if device.type == "cuda":
        return ["tensor cores"] if torch.cuda.is_bf16_supported(including_emulation=False) else []
    capabilities = torch.cpu.get_capabilities()
    return [name for name in ("amx_bf16", "avx512_bf16", "bf16") if capabilities.get(name)]


def _bf16(device: torch.device) -> str:
    units = bf16_units(device)
    return f"yes ({', '.join(units)})" if units else "no: --precision bf16 works, and is many times slower than fp32"
