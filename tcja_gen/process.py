"""What a process sets up before it works: its place among others, its device, its memory, its kernels."""

import ctypes
import os
import platform
from contextlib import contextmanager
from dataclasses import dataclass

import torch
import torch.distributed as dist

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
    else:
        chosen = torch.device("cuda", local if chosen.index is None else chosen.index)
        torch.cuda.set_device(chosen)
    if int(os.environ.get("WORLD_SIZE", 1)) > 1 and not dist.is_initialized():
        dist.init_process_group("nccl" if chosen.type == "cuda" else "gloo")
    return here(chosen)


def here(device: torch.device) -> Process:
    """Place of this process in the group that it has joined, if any."""
    if dist.is_initialized():
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
    if not dist.is_initialized():
        return fact
    count = torch.tensor(int(fact), device="cuda" if dist.get_backend() == "nccl" else "cpu")
    dist.all_reduce(count)
    return int(count) == dist.get_world_size()


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
