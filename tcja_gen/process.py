"""What a process sets up before it works: its place among others, its device, its memory, its compiler."""

import ctypes
import os
import platform
import shutil
from contextlib import contextmanager
from dataclasses import dataclass

import torch
import torch.distributed as dist


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
        raise ValueError(f"unknown device {device!r}; auto, cpu, cuda or cuda:0 is wanted") from None
    if chosen.type == "cuda" and not torch.cuda.is_available():
        raise ValueError(f"device {device!r}: there is no CUDA device on this machine")
    if chosen.type == "cpu":
        keep_memory()
    else:
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
def first_ahead(process: Process):
    """The body runs on the first process, then on the others: for downloads and caches that are there afterwards."""
    if process.world > 1 and not process.first:
        dist.barrier()
    try:
        yield
    finally:
        if process.world > 1 and process.first:
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


def can_compile(device: torch.device) -> bool:
    """Whether `torch.compile` finds what it needs: Triton on a GPU, a C++ compiler on a CPU."""
    if device.type == "cuda":
        from torch.utils._triton import has_triton

        return has_triton()
    return any(shutil.which(name) for name in (os.environ.get("CXX") or "g++", "clang++"))
