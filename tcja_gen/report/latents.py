"""How much of its latent a model uses: the balance of the bits, and the tokens of spatial codes."""

from dataclasses import dataclass

import torch
from torch import Tensor

from ..nn import CodeLatent


@dataclass
class BitUse:
    """Of a latent of spikes, over some images."""

    shares: Tensor
    """Share of images (and places) in which a bit is 1, (T, L)."""

    @classmethod
    def of(cls, z: Tensor) -> "BitUse":
        """z: (N, T, L) or (N, T, L, h, w), 0 or 1."""
        return cls(z.float().flatten(3).mean(3).mean(0) if z.dim() > 3 else z.float().mean(0))

    @property
    def constant(self) -> int:
        """Number of bits that are the same in all images: they tell nothing."""
        return int(((self.shares == 0) | (self.shares == 1)).sum())

    @property
    def entropy(self) -> float:
        """Mean entropy of a bit by itself, in bits: 1 for one that is 0 as often as 1, 0 for a constant one."""
        p = self.shares.double().clamp(1e-12, 1 - 1e-12)
        return float(-(p * p.log2() + (1 - p) * (1 - p).log2()).mean())


@dataclass
class TokenUse:
    """Of spatial codes, over some images."""

    counts: Tensor
    """How often each token occurs that does, most frequent first."""
    possible: int
    """Number of tokens that there are."""

    @classmethod
    def of(cls, latent: CodeLatent, z: Tensor) -> "TokenUse":
        """z: (N, T, L, h, w)."""
        tokens = latent.tokens(z.transpose(0, 1)).flatten(0, 1)  # (N P, G)
        counts = torch.unique(tokens.cpu(), dim=0, return_counts=True)[1]
        return cls(counts.sort(descending=True).values, 2 ** (latent.time_steps * latent.channels))

    @property
    def perplexity(self) -> float:
        """Number of equally frequent tokens that would be as hard to predict."""
        p = self.counts.double() / self.counts.sum()
        return float((-(p * p.log()).sum()).exp())


def active_units(z: Tensor, again: Tensor) -> tuple[int, int]:
    """How many numbers of a real-valued latent tell images apart, and how many there are.

    Burda et al. (ICLR 2016) count those whose posterior mean has a variance above 0.01 between images. It is estimated
    by the covariance of two independent draws (N, T, L) from the posteriors of the same images.
    """
    a, b = (x.double().flatten(1) - x.double().flatten(1).mean(0) for x in (z, again))
    variance = (a * b).sum(0) / (len(a) - 1)
    return int((variance > 0.01).sum()), len(variance)
