"""Training of the small networks that score, the autoencoder of FAD and the classifier: once for a data set, then kept.

Deterministic by a seed on one kind of machine (the last bits of a convolution, hence the hash, may differ on another);
the global random state is left alone.
"""

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from ..cache import entry

VERSION = 1  # of the way in which networks are made; another number makes every kept one anew


def seeded(make: Callable[[], nn.Module], seed: int, device) -> nn.Module:
    """A new network, its first weights drawn by the seed, in training mode."""
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
    """Minimise `loss(indices)`, of `batch` indices of 0 .. n - 1 drawn by the seed; in eval mode on the CPU.

    title: of a bar on stderr, None for none.
    """
    from tqdm import trange

    generator = torch.Generator().manual_seed(seed)
    for _ in trange(steps, desc=title, unit="step", leave=False, disable=None if title else True):
        chosen = torch.randint(n, (batch,), generator=generator)
        optimiser.zero_grad()
        loss(chosen).backward()
        optimiser.step()
        schedule.step()
    return network.eval().cpu()


def kept(kind: str, make: Callable[[], nn.Module], load: Callable, **facts) -> tuple:
    """The network of this kind that depends on exactly these facts, made or loaded; and its file in the cache.

    load: of a file. Processes that make it at the same time all end with the network of the first to finish.
    """
    cached = entry(kind, ".safetensors", VERSION, load, **facts)
    network = cached.get()
    if network is None:
        made = make()
        network = cached.keep(made, made.save)
    return network, cached.file
