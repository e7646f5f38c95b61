"""Training the small networks that score, the autoencoder of FAD and the classifier: once for a data set, then cached.

Training is reproducible by its seed on one kind of machine; on another the last bits of a convolution, and so the hash,
may differ. The global random state is not changed.
"""

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from ..cache import entry
from ..progress import track

VERSION = 1  # of the code that trains networks; a new number discards all cached ones


def seeded(make: Callable[[], nn.Module], seed: int, device) -> nn.Module:
    """A new network in training mode, with initial weights drawn by the seed."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return make().to(device).train()


def fit(
    network: nn.Module,
    loss: Callable[[Tensor], Tensor],
    optimiser: Optimizer,
    schedule: LRScheduler,
    *,
    n: int,
    batch: int,
    steps: int,
    seed: int,
    title: str | None,
) -> nn.Module:
    """Minimise `loss(indices)`; each step draws `batch` indices of 0 .. n - 1 by the seed.

    Returns the network in evaluation mode on the CPU. title: of the progress on stderr; None shows none
    """
    generator = torch.Generator().manual_seed(seed)
    for _ in track(range(steps), title):
        chosen = torch.randint(n, (batch,), generator=generator)
        optimiser.zero_grad()
        loss(chosen).backward()
        optimiser.step()
        schedule.step()
    return network.eval().cpu()


def kept(kind: str, make: Callable[[], nn.Module], load: Callable, **facts) -> tuple:
    """The network of a kind for these facts, made now or loaded from the cache; and its file there.

    The facts are all that the network depends on. Of several processes that make it at the same time, all return the
    network of the first to finish.
    """
    cached = entry(kind, ".safetensors", VERSION, load, **facts)
    network = cached.get()
    if network is None:
        made = make()
        network = cached.try_store(made, made.save)
    return network, cached.file
