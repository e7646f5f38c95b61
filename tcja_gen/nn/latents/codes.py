"""Spatial spike codes with a masked prior that is fitted to them: a spiking VAE that is trained in stages.

The latent is the encoder's own spikes, z (T, N, L, h, w); nothing is drawn from the posterior. The T L bits at one of
the h w places form a token, one of 2^(T L). This is lookup-free quantisation (Yu et al., ICLR 2024) on a grid of tokens
as in VQ-VAE (van den Oord et al., NeurIPS 2017). Gradients pass the bits through the neurons' surrogate.

The prior is a spiking network that sees the known tokens and predicts all others at once (MaskGIT; Chang et al., CVPR
2022). MaskGIT fills tokens in by confidence. Here the order is fixed, from coarse to fine, by the ranks of Bayer's
matrix. Tokens of the same round are then far apart in space and hence nearly independent.

    p(z | y) = product over rounds of the product over the round's places i of p(z_i | z of earlier rounds, y)

A round is one pass of the network. The number of known places grows like 1 - cos: the first round fills in few places,
the last one many. The posterior has no entropy, so the divergence is the prior's cross-entropy in nats per token. It is
averaged over the unknown places, and the number of known places is drawn uniformly. It trains the prior only: it does
not push the codes to be easy to predict.

With `flips`, bits are flipped at random in training, as by a noisy channel. The decoder learns to tolerate wrong bits,
the encoder learns codes in which a wrong bit does little harm, and the prior learns not to trust its input too much.
The prior's targets are not flipped.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ...errors import UserError
from ...ranges import Range, setting
from ...registry import register_latent
from ..coders import SpikingEncoder
from ..draws import Draws
from ..layers import conv_block
from ..neurons import Neuron
from ..places import spikes_at
from ..sparse import Linear
from .protocol import Context, Latent, LatentSettings, check_class

PLANES = 16  # learnt channels of the prior's input, which tell the places apart
LIMIT = 12  # most bits of a token, since the prior has 2^bits outputs


@dataclass(frozen=True)
class CodeSettings(LatentSettings):
    """Settings of `CodeLatent`. T times channels is the number of bits of a token, at most 12."""

    channels: int = setting(3, least=1)
    """L, the number of channels of the codes."""
    prior: str = "128C3-128R3[TCJA]-128R3[TCJA]-128R3[TCJA]-128R3[TCJA]"
    """Notation of the prior's network; its layers keep the size of the grid."""
    rounds: int = setting(16, least=1)
    """Passes of the prior for a sample."""
    temperature: float = setting(1.0, above=0)
    """Divides the prior's logits in sampling. Below 1: likelier tokens, less variety."""
    flips: float = setting(0.0, least=0, below=0.5)
    """Share of the bits that are flipped in training, in the inputs of decoder and prior."""
    conditional: bool = False
    """Condition the prior on the class of the image."""


@register_latent("codes", CodeSettings)
class CodeLatent(Latent):
    """Latent of spike codes on the encoder's grid, whose size is `sides` (h, w). The module's text describes it."""

    spatial = True

    def __init__(self, settings: CodeSettings, context: Context):
        super().__init__(settings, context)
        bits = self.channels * self.time_steps
        if bits > LIMIT:
            raise UserError(
                f"{self.channels} channels and T = {self.time_steps} make tokens of {bits} bits; at most {LIMIT}"
            )
        features, *sides = context.shape
        self.sides, self.flips = tuple(sides), settings.flips
        self.sample_by(settings.rounds, settings.temperature)
        self.prior = MaskedPrior(settings.prior, bits, self.sides, self.time_steps, context.build.neuron, self.classes)
        self.entry = conv_block(features, self.channels, 1, 1, context.build)  # its spikes are the codes
        self.register_buffer("rank", coarse_to_fine(*sides).flatten(), persistent=False)
        self.register_buffer("powers", 2 ** torch.arange(bits), persistent=False)

    @property
    def sampling(self) -> dict[str, float]:
        return {"rounds": self.rounds, "temperature": self.temperature}

    def sample_by(self, rounds: int | None = None, temperature: float | None = None) -> None:
        rounds = self.rounds if rounds is None else rounds
        temperature = self.temperature if temperature is None else temperature
        places = math.prod(self.sides)
        if not 1 <= rounds <= places:
            sides = " x ".join(map(str, self.sides))
            raise UserError(f"{rounds} rounds for {places} places of the codes ({sides}); 1 to {places}")
        Range(above=0).check("the prior's temperature", temperature)
        self.rounds, self.temperature = rounds, temperature

    def encode(self, h: Tensor, draws: Draws) -> Tensor:
        """The codes z (T, N, L, h, w) themselves. In training some bits are flipped; gradients ignore that."""
        if not (self.training and self.flips):
            return h
        flipped = draws.uniform(self.time_steps, self.channels, *self.sides).transpose(0, 1) < self.flips
        return h + ((1 - 2 * h) * flipped).detach()

    def infer(self, h: Tensor, draws: Draws, progress: float = 1.0, y: Tensor | None = None) -> tuple[Tensor, Tensor]:
        z = self.encode(h, draws)
        tokens = self.tokens(h.detach())  # (N, P)
        unknown = self.rank >= (draws.uniform(1) * len(self.rank)).long()  # (N, P), 1 .. P unknown places per image
        rates = self.prior.rates(self.bits(self.tokens(z.detach())), ~unknown, y, draws)
        share = unknown / unknown.sum(1, keepdim=True) / len(unknown)  # of a place in the mean
        where = unknown if unknown.is_cpu else ...  # a GPU's graph has fixed shapes
        logits = self.prior.logits(rates[where].flatten(0, -2)).float()
        nats = F.cross_entropy(logits, tokens[where].flatten(), reduction="none")
        return z, (nats * share[where].flatten()).sum()

    def sample(self, draws: Draws, y: Tensor | None = None) -> Tensor:
        """z (T, N, L, h, w). One uniform number per place decides its token, for any number of rounds."""
        u = draws.uniform(len(self.rank))
        tokens = torch.zeros_like(u, dtype=torch.long)
        for known, places in self._passes():
            p = self._logits(tokens, known, places, y).softmax(2)
            drawn = torch.searchsorted(p.cumsum(2), u[:, places, None])[..., 0].clamp(max=p.shape[2] - 1)
            tokens = tokens.index_copy(1, places, drawn)
        return self.bits(tokens).unflatten(1, (self.time_steps, self.channels)).transpose(0, 1)

    def nats(self, z: Tensor, y: Tensor | None = None) -> Tensor:
        """-log p(z | y) in nats, (N,), of codes z (T, N, L, h, w), with the current rounds and temperature."""
        tokens = self.tokens(z)
        nats = torch.zeros(len(tokens), device=tokens.device)
        for known, places in self._passes():
            logits = self._logits(tokens, known, places, y)
            nats += F.cross_entropy(logits.transpose(1, 2), tokens[:, places], reduction="none").sum(1)
        return nats

    def tokens(self, z: Tensor) -> Tensor:
        """Tokens (N, P) of codes z (T, N, L, h, w)."""
        bits = z.transpose(0, 1).flatten(3).flatten(1, 2)  # (N, T L, P)
        return (bits.long() * self.powers[:, None]).sum(1)

    def bits(self, tokens: Tensor) -> Tensor:
        """Bits (N, T L, h, w), float, of tokens (N, P)."""
        return ((tokens[:, None] & self.powers[:, None]) > 0).float().unflatten(2, self.sides)

    def _passes(self) -> Iterator[tuple[Tensor, Tensor]]:
        """For each round, which places are known, (P,), and the indices of the places that it fills in."""
        first = 0
        for last in self._ends():
            yield self.rank < first, ((self.rank >= first) & (self.rank < last)).nonzero()[:, 0]
            first = last

    def _logits(self, tokens: Tensor, known: Tensor, places: Tensor, y: Tensor | None) -> Tensor:
        """Logits (N, P', 2^bits) of the indices `places`."""
        if not self.prior.skips_zeros:
            return self.prior(self.bits(tokens), known.expand_as(tokens), y, places).float() / self.temperature
        seen = tokens * known if y is None else torch.cat([tokens * known, y.long()], 1)
        rows, which = torch.unique(seen, dim=0, return_inverse=True)  # no two images of the same class and known tokens
        tokens, y = rows[:, : len(known)], None if y is None else rows[:, len(known) :].float()
        return self.prior(self.bits(tokens), known.expand_as(tokens), y, places)[which] / self.temperature

    def _ends(self) -> list[int]:
        """Number of known places after each round i of R: P (1 - cos(pi/2 i/R)), but at least i, and all at the end."""
        places = len(self.rank)
        known = [places * (1 - math.cos(math.pi / 2 * (i + 1) / self.rounds)) for i in range(self.rounds)]
        return [*(max(round(k), i + 1) for i, k in enumerate(known[:-1])), places]


class MaskedPrior(nn.Module):
    """Spiking network that predicts tokens of `bits` bits from those that are known.

    The input channels at a place are the token's bits as -1 and 1 (0 if unknown), a flag for unknown, the class
    (one-hot) of a conditional prior, and learnt planes. The input is static like an image. The last layer's spikes are
    averaged over time and mapped linearly to logits.
    """

    def __init__(self, notation: str, bits: int, sides: tuple[int, int], time_steps: int, neuron: Neuron, classes: int):
        super().__init__()
        self.classes = classes
        self.planes = nn.Parameter(torch.randn(PLANES, *sides))
        self.trunk = SpikingEncoder(notation, bits + 1 + classes + PLANES, time_steps, neuron, sides)
        if self.trunk.shape[1:] != tuple(sides):
            raise UserError(f"prior {notation!r} ends at {self.trunk.shape[1:]} places, the codes have {sides}")
        self.logits = Linear(self.trunk.shape[0], 2**bits)
        # its input is a mean of spikes, of which much is 0, too; that of the first layer is dense, but the kernels for
        # spikes give every image the same numbers, whatever the others are
        self.logits.takes_spikes = self.trunk.stages[0].weights.takes_spikes = neuron is not None

    @property
    def skips_zeros(self) -> bool:
        """Whether it runs on the kernels for spikes and without gradient: an image's logits are then the same, to the
        bit, whatever the other images and places are."""
        return self.logits.skips_zeros(self.logits.weight) and not torch.is_grad_enabled()

    def rates(self, bits: Tensor, known: Tensor, y: Tensor | None = None, draws: Draws | None = None) -> Tensor:
        """Mean over time of the last layer's spikes, (N, P, C). Arguments as of `forward`."""
        return self.trunk(self._planes(bits, known, y), draws).mean(0).flatten(2).transpose(1, 2)

    def forward(
        self,
        bits: Tensor,
        known: Tensor,
        y: Tensor | None = None,
        places: Tensor | None = None,
        draws: Draws | None = None,
    ) -> Tensor:
        """Logits (N, P, 2^bits) of all places, or of those with the indices `places`.

        bits: (N, bits, h, w). known: (N, P), the places whose bits the network may see. y: (N, K) one-hot, for a
        conditional prior. draws: for dropout, in training only.
        """
        if places is not None and self.skips_zeros:
            spikes = spikes_at(self.trunk, self._planes(bits, known, y), places)
            rates = spikes.mean(0).transpose(1, 2)
        else:
            rates = self.rates(bits, known, y, draws)
            rates = rates if places is None else rates[:, places]
        return self.logits(rates.flatten(0, 1)).unflatten(0, rates.shape[:2])

    def _planes(self, bits: Tensor, known: Tensor, y: Tensor | None) -> Tensor:
        """The network's input (N, C, h, w)."""
        check_class(self.classes, y)
        n, *sides = len(bits), *bits.shape[2:]
        visible = known.view(n, 1, *sides).to(bits.dtype)
        planes = [(2 * bits - 1) * visible, 1 - visible, self.planes.expand(n, -1, -1, -1)]
        if y is not None:
            planes.append(y.to(bits.dtype)[:, :, None, None].expand(-1, -1, *sides))
        return torch.cat(planes, 1).contiguous(memory_format=torch.channels_last)


def coarse_to_fine(height: int, width: int) -> Tensor:
    """Ranks (h, w) of the places of a grid, from 0: Bayer's matrix of the next power of 2, cropped and numbered again.

    >>> coarse_to_fine(2, 2).tolist()
    [[0, 2], [3, 1]]
    """
    m = torch.zeros(1, 1, dtype=torch.long)
    while len(m) < max(height, width):
        m = torch.cat([torch.cat([4 * m, 4 * m + 2], 1), torch.cat([4 * m + 3, 4 * m + 1], 1)])
    ranks = m[:height, :width]
    return ranks.flatten().argsort().argsort().view_as(ranks)
