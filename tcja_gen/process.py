"""What a process sets up before it works: its place among others, its device, its memory, its kernels."""

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
    """Place of this process: `rank` of `world`, working on `device`."""

    rank: int
    world: int
    device: torch.device

    @property
    def first(self) -> bool:
        return self.rank == 0

    def share(self, value):
        """The first process's value, in all of them."""
        if self.world == 1:
            return value
        box = [value]
        dist.broadcast_object_list(box)
        return box[0]

    def any(self, flag: bool) -> bool:
        """Whether the flag is set in any process."""
        if self.world == 1:
            return flag
        votes = torch.tensor(float(flag), device=self.device)
        dist.all_reduce(votes)
        return votes.item() > 0


def start(device: str = "auto") -> Process:
    """Joins the process group if `torchrun` started this process, and chooses the device ("auto": GPU if any)."""
    local = int(os.environ.get("LOCAL_RANK", 0))
    if device == "auto":
        device = f"cuda:{local}" if torch.cuda.is_available() else "cpu"
    try:
        chosen = torch.device(device)
    except RuntimeError:
        raise UserError(f"unknown device {device!r}; auto, cpu, cuda or cuda:0 is wanted") from None
    if chosen.type == "cuda" and not torch.cuda.is_available():
        raise UserError(f"device {device!r}: there is no CUDA device on this machine")
    if chosen.type == "cpu":
        keep_memory()
        share_cores()
        sleep_when_busy()
    else:
        chosen = torch.device("cuda", local if chosen.index is None else chosen.index)
        torch.cuda.set_device(chosen)
    if int(os.environ.get("WORLD_SIZE", 1)) > 1:
        _join(chosen)
    return here(chosen)


def _join(device: torch.device) -> None:
    """The process group that torchrun speaks of."""
    if not dist.is_available():
        raise UserError("this build of torch has no torch.distributed: it works in one process alone")
    if not dist.is_initialized():
        dist.init_process_group("nccl" if device.type == "cuda" else "gloo")


def here(device: torch.device) -> Process:
    """Place of this process in the group that it has joined, if any."""
    if dist.is_available() and dist.is_initialized():
        return Process(dist.get_rank(), dist.get_world_size(), device)
    return Process(0, 1, device)


@contextmanager
def first_ahead(process: Process, needed: bool = True):
    """The body runs on the first process, then on the others: for downloads and caches that are there afterwards.

    needed: the same in every process; if it is not, none waits
    """
    if needed and process.world > 1 and not process.first:
        dist.barrier()
    try:
        yield
    finally:
        if needed and process.world > 1 and process.first:
            dist.barrier()


def everywhere(fact: bool) -> bool:
    """Whether it is so in every process; all must ask."""
    if not (dist.is_available() and dist.is_initialized()):
        return fact
    count = torch.tensor(int(fact), device="cuda" if dist.get_backend() == "nccl" else "cpu")
    dist.all_reduce(count)
    return int(count) == dist.get_world_size()


def share_cores() -> None:
    """As many threads as there are cores for this process, unless OMP_NUM_THREADS or a caller asked for fewer."""
    if "OMP_NUM_THREADS" not in os.environ:
        torch.set_num_threads(min(torch.get_num_threads(), cores()))


def cores(cgroup: Path = Path("/sys/fs/cgroup")) -> int:
    """Cores that this process may use: those of its affinity, or fewer where its container has a quota; of these its
    share, where torchrun started several processes on this machine."""
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    if quota := _quota(cgroup):
        allowed = min(allowed, math.ceil(quota))
    return max(allowed // int(os.environ.get("LOCAL_WORLD_SIZE", 1)), 1)


def _quota(cgroup: Path) -> float | None:
    """Cores that a container may use in all (cgroup v2, then v1), None without a limit."""
    for files in (["cpu.max"], ["cpu/cpu.cfs_quota_us", "cpu/cpu.cfs_period_us"]):
        try:
            quota, period = " ".join((cgroup / file).read_text(encoding="utf-8") for file in files).split()
        except (OSError, ValueError):
            continue
        return float(quota) / float(period) if quota.isdecimal() else None  # "max", or -1
    return None


def peak_memory(device: torch.device) -> float | None:
    """Largest memory so far in MB: of the device, or of the process; None where the system does not tell (Windows)."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 1e6
    try:
        import resource
    except ImportError:
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak * (1 if sys.platform == "darwin" else 1024) / 1e6  # bytes on macOS, KiB elsewhere


def keep_memory() -> None:
    """Lets glibc keep freed memory for the next tensor.

    By default every tensor above 32 MiB is mapped anew and its pages are faulted in one by one; a training step on a
    CPU then takes up to twice as long. Does nothing where the C library is another.
    """
    if platform.libc_ver()[0] != "glibc":
        return
    trim_threshold, top_pad, mmap_max = -1, -2, -4
    libc = ctypes.CDLL(None)
    libc.mallopt(mmap_max, 0)
    libc.mallopt(trim_threshold, 2**31 - 1)
    libc.mallopt(top_pad, 64 * 2**20)


@contextmanager
def whole_fp32():
    """Inside, a GPU's convolutions of fp32 numbers use all of their bits, as its products do: TF32, which they take
    otherwise, flips enough spikes to make another image of a seed than a CPU does."""
    before = torch.backends.cudnn.allow_tf32
    torch.backends.cudnn.allow_tf32 = False
    try:
        yield
    finally:
        torch.backends.cudnn.allow_tf32 = before


def neuron_path(device: torch.device, wanted: str = "auto") -> tuple[str, str]:
    """What the neurons of a device run on ("triton", "native" or "plain", see `nn.kernels`), and why.

    wanted: the setting `compile`, auto, on or off. ValueError if it is on, and there is nothing to compile with.
    """
    if wanted == "off":
        return "plain", "compile = off"
    missing = _missing(device)
    if missing and wanted == "on":
        raise UserError(f"compile = 'on': {missing}")
    if missing:
        return "plain", missing
    if device.type == "cuda":
        return "triton", "a GPU, and Triton is installed"
    return "native", f"a CPU, and a C++ compiler is there ({compiler()})"


def _missing(device: torch.device) -> str:
    """Why this device has no kernels, or nothing."""
    if device.type == "cuda":
        from torch.utils._triton import has_triton

        return "" if has_triton() else "there is no Triton for this device"
    try:
        library()
    except (RuntimeError, OSError) as error:
        return str(error)
    return ""


def environment(device: torch.device) -> dict[str, str]:
    """What work on this device runs on, by name: for people, who wonder why it is slow."""
    path, why = neuron_path(device)
    return {
        "device": f"{device} ({torch.cuda.get_device_name(device)})" if device.type == "cuda" else _processor(),
        "threads": str(torch.get_num_threads()),
        "neurons": f"{path}: {why}",
        "bf16": _bf16(device),
    }


def _processor() -> str:
    return f"cpu ({torch.cpu.get_capabilities().get('cpu_name') or platform.machine()})"


def bf16_units(device: torch.device) -> list[str]:
    """What a device computes bf16 products with; empty if it has nothing but emulation."""
    if device.type == "cuda":
        return ["tensor cores"] if torch.cuda.is_bf16_supported(including_emulation=False) else []
    able = torch.cpu.get_capabilities()
    return [name for name in ("amx_bf16", "avx512_bf16", "bf16") if able.get(name)]


def _bf16(device: torch.device) -> str:
    units = bf16_units(device)
    return f"yes ({', '.join(units)})" if units else "no: --precision bf16 works, and is many times slower than fp32"
