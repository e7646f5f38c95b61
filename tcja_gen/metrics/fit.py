"""Training the small networks that score, the autoencoder of FAD and the classifier: once for a data set, then cached.

Training is reproducible by its seed on one kind of machine; on another the last bits of a convolution, and so the hash,
may differ. The global random state is not changed. Training that takes minutes keeps its state beside its place in the
cache; if it is interrupted, the next one goes on from there, to the same weights.
"""

import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from ..cache import entry
from ..files import replacing
from ..progress import track

EVERY = 60  # seconds between states that are kept
VERSION = 1  # of the code that trains networks; a new number discards all cached ones


def seeded(make: Callable[[], nn.Module], seed: int, device) -> nn.Module:
    """A new network in training mode, with initial weights drawn by the seed."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return make().to(device).train()


def fit(
    network: nn.Module,
    loss: Callable[[Tensor, torch.Generator], Tensor],
    optimiser: Optimizer,
    schedule: LRScheduler,
    *,
    n: int,
    batch: int,
    steps: int,
    seed: int,
    title: str | None,
    state: Path | None = None,
) -> nn.Module:
    """Minimise `loss(indices, generator)`; each step draws `batch` indices of 0 .. n - 1 by the seed.

    The generator is for what else a step draws. Returns the network in evaluation mode on the CPU.
    title: of the progress on stderr; None shows none
    state: file of the state of a training that is not finished; None: it is not kept
    """
    generator = torch.Generator().manual_seed(seed)
    parts = {"network": network, "optimiser": optimiser, "schedule": schedule}
    first, due = _resumed(state, parts, generator), time.monotonic() + EVERY
    for step in track(range(first, steps), title):
        if state and time.monotonic() > due:
            _keep(state, parts, generator, step)
            due = time.monotonic() + EVERY
        chosen = torch.randint(n, (batch,), generator=generator)
        optimiser.zero_grad()
        loss(chosen, generator).backward()
        optimiser.step()
        schedule.step()
    if state:
        with suppress(OSError):
            state.unlink(missing_ok=True)
    return network.eval().cpu()


def _keep(state: Path, parts: dict, generator: torch.Generator, step: int) -> None:
    """Write the state before a step. Where nothing can be written, training goes on without it."""
    facts = {name: part.state_dict() for name, part in parts.items()}
    with suppress(OSError), replacing(state) as temporary:
        torch.save(facts | {"step": step, "generator": generator.get_state()}, temporary)


def _resumed(state: Path | None, parts: dict, generator: torch.Generator) -> int:
    """The step to go on with: 0 if there is no state, or one that cannot be read."""
    if state is None or not state.is_file():
        return 0
    try:
        kept = torch.load(state, map_location="cpu", weights_only=True)
    except Exception:  # a damaged file can raise any exception
        return 0
    for name, part in parts.items():
        part.load_state_dict(kept[name])
    generator.set_state(kept["generator"])
    return kept["step"]


def kept(kind: str, make: Callable[[Path], nn.Module], load: Callable, **facts) -> tuple:
    """The network of a kind for these facts, made now or loaded from the cache; and its file there.

    The facts are all that the network depends on. Of several processes that make it at the same time, all return the
    network of the first to finish. make: gets the file for the state of its training
    """
    cached = entry(kind, ".safetensors", VERSION, load, **facts)
    network = cached.get()
    if network is None:
        made = make(cached.file.with_suffix(".unfinished"))
        network = cached.try_store(made, made.save)
    return network, cached.file
