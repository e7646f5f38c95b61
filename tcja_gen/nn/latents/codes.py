"""Spatial spike codes with a masked prior that is fitted to them: a spiking VAE in two stages.

The encoder's own spikes are the latent, z (T, N, L, h, w), and nothing is drawn from the posterior. The T L bits at
one of the h w places are a token, one of 2^(T L): a code book that needs no looking up (lookup-free quantisation; Yu
et al., ICLR 2024) over a grid (VQ-VAE; van den Oord et al., NeurIPS 2017). Gradients pass the bits by the neurons'
surrogate.

The prior is a spiking network that sees which tokens are known and names all others at once (MaskGIT; Chang et al.,
CVPR 2022). Where those fill tokens in at random or by confidence, here the order is one and the same, from coarse to
fine: the ranks of Bayer's matrix, in which neighbours in time are far apart in space and hence nearly independent.

    p(z | y) = product over rounds of the product over its places i of p(z_i | z of the rounds before, y)

A round is one pass of the network; they grow like 1 - cos, from a place at first to many at last. The posterior has no
entropy, so the divergence is the prior's cross-entropy, in nats a token, a mean over how many are known (uniform) and
over the unknown. It moves the prior alone: codes do not bend to be easy to predict.

With `flips`, bits are flipped at random in training, a channel with noise: the decoder learns to bear wrong bits, codes
to lie so that a wrong bit does little harm, and the prior not to trust what it sees too much. What it is to name stays
as it is.
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
from ..coders import SpikingEncoder, computing
from ..draws import Draws
from ..layers import conv_block
from ..neurons import Neuron
from ..sparse import Linear
from .protocol import Context, Latent, LatentSettings, check_class

PLANES = 16  # of the prior's input that are learnt, and tell places apart
LIMIT = 12  # bits of a token: the prior's output has 2^bits channels


@dataclass(frozen=True)
class CodeSettings(LatentSettings):
    """Settings of `CodeLatent`; the T channels bits at a place are its token, at most 12."""

    channels: int = setting(3, least=1)
    """Channels L of the codes."""
    prior: str = "128C3-128R3[TCJA]-128R3[TCJA]-128R3[TCJA]-128R3[TCJA]"
    """Notation of the prior's network; its layers keep the size of the grid."""
    rounds: int = setting(16, least=1)
    """Passes of the prior that a sample takes."""
    temperature: float = setting(1.0, above=0)
    """Divides the prior's logits when it samples; below 1: likelier tokens, less variety."""
    flips: float = setting(0.0, least=0, below=0.5)
    """Share of the bits that are flipped in training, where decoder and prior see them."""
    conditional: bool = False
    """Tell the prior the class of the image."""


@register_latent("codes", CodeSettings)
class CodeLatent(Latent):
    """Latent of spike codes on the encoder's grid of `sides` (h, w). See the module's text."""

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
        """The codes themselves; in training, with some bits flipped, which gradients do not know of."""
        if not (self.training and self.flips):
            return h
        flipped = draws.uniform(self.time_steps, self.channels, *self.sides).transpose(0, 1) < self.flips
        return h + ((1 - 2 * h) * flipped).detach()

    def infer(self, h: Tensor, draws: Draws, progress: float = 1.0, y: Tensor | None = None) -> tuple[Tensor, Tensor]:
        z = self.encode(h, draws)
        tokens = self.tokens(h.detach())  # (N, P)
        unknown = self.rank >= (draws.uniform(1) * len(self.rank)).long()  # 1 .. P of them
        logits = self.prior(self.bits(self.tokens(z.detach())), ~unknown, y, draws=draws).float()
        nats = F.cross_entropy(logits.flatten(0, 1), tokens.flatten(), reduction="none").view_as(tokens)
        return z, ((nats * unknown).sum(1) / unknown.sum(1)).mean()

    def sample(self, draws: Draws, y: Tensor | None = None) -> Tensor:
        """z (T, N, L, h, w). One uniform number a place decides its token, whatever the rounds are."""
        u = draws.uniform(len(self.rank))
        tokens = torch.zeros_like(u, dtype=torch.long)
        for known, wanted in self._passes():
            p = self._logits(tokens, known, wanted, y).softmax(2)
            drawn = torch.searchsorted(p.cumsum(2), u[:, wanted, None])[..., 0].clamp(max=p.shape[2] - 1)
            tokens = tokens.index_copy(1, wanted, drawn)
        return self.bits(tokens).unflatten(1, (self.time_steps, self.channels)).transpose(0, 1)

    def nats(self, z: Tensor, y: Tensor | None = None) -> Tensor:
        """-log p(z | y), (N,), of codes z (T, N, L, h, w), as samples are drawn: by these rounds and temperature."""
        tokens = self.tokens(z)
        nats = torch.zeros(len(tokens), device=tokens.device)
        for known, wanted in self._passes():
            logits = self._logits(tokens, known, wanted, y)
            nats += F.cross_entropy(logits.transpose(1, 2), tokens[:, wanted], reduction="none").sum(1)
        return nats

    def tokens(self, z: Tensor) -> Tensor:
        """Tokens (N, P) of codes z (T, N, L, h, w)."""
        bits = z.transpose(0, 1).flatten(3).flatten(1, 2)  # (N, T L, P)
        return (bits.long() * self.powers[:, None]).sum(1)

    def bits(self, tokens: Tensor) -> Tensor:
        """Bits (N, T L, h, w), as floats, of tokens (N, P)."""
        return ((tokens[:, None] & self.powers[:, None]) > 0).float().unflatten(2, self.sides)

    def _passes(self) -> Iterator[tuple[Tensor, Tensor]]:
        """Of each round which places are known, (P,), and the numbers of those that are named."""
        first = 0
        for last in self._ends():
            yield self.rank < first, ((self.rank >= first) & (self.rank < last)).nonzero()[:, 0]
            first = last

    def _logits(self, tokens: Tensor, known: Tensor, places: Tensor, y: Tensor | None) -> Tensor:
        return self.prior(self.bits(tokens), known.expand_as(tokens), y, places).float() / self.temperature

    def _ends(self) -> list[int]:
        """How many places are known after each round: 1 - cos of the way, at least one more each time."""
        places = len(self.rank)
        known = [places * (1 - math.cos(math.pi / 2 * (i + 1) / self.rounds)) for i in range(self.rounds)]
        return [*(max(round(k), i + 1) for i, k in enumerate(known[:-1])), places]


class MaskedPrior(nn.Module):
    """Spiking network over tokens of `bits` bits, of which some are known: logits of the others.

    A place of its input holds the token's bits as -1 and 1 (0: unknown), whether it is unknown, the class (one-hot)
    where there is one, and learnt planes. The input is static, as an image is; spikes of the last layer are averaged
    over time before a linear map.
    """

    def __init__(self, notation: str, bits: int, sides: tuple[int, int], time_steps: int, neuron: Neuron, classes: int):
        super().__init__()
        self.classes = classes
        self.planes = nn.Parameter(torch.randn(PLANES, *sides))
        self.trunk = SpikingEncoder(notation, bits + 1 + classes + PLANES, time_steps, neuron, sides)
        if self.trunk.shape[1:] != tuple(sides):
            raise UserError(f"prior {notation!r} ends at {self.trunk.shape[1:]} places, the codes have {sides}")
        self.logits = Linear(self.trunk.shape[0], 2**bits)
        self.logits.takes_spikes = True  # their mean over time, of which much is 0, too

    def forward(
        self,
        bits: Tensor,
        known: Tensor,
        y: Tensor | None = None,
        places: Tensor | None = None,
        draws: Draws | None = None,
    ) -> Tensor:
        """Logits (N, P, 2^bits) of all places, or of some by number, from the bits (N, bits, h, w) of those that are
        `known`, (N, P). draws: of dropout in training."""
        check_class(self.classes, y)
        n, *sides = len(bits), *bits.shape[2:]
        seen = known.view(n, 1, *sides).to(bits.dtype)
        planes = [(2 * bits - 1) * seen, 1 - seen, self.planes.expand(n, -1, -1, -1)]
        if y is not None:
            planes.append(y.to(bits.dtype)[:, :, None, None].expand(-1, -1, *sides))
        x = torch.cat(planes, 1).contiguous(memory_format=torch.channels_last)
        if places is None:
            places = torch.arange(math.prod(sides), device=x.device)
        pixels = torch.zeros(math.prod(sides), dtype=torch.bool, device=x.device).index_fill(0, places, True)
        with computing(self.trunk.stages, pixels.view(*sides)):
            spikes = self.trunk(x, draws).flatten(3)[..., places]  # (T, N, C, P)
        rates = spikes.mean(0).transpose(1, 2)  # (N, P, C)
        return self.logits(rates.flatten(0, 1)).unflatten(0, rates.shape[:2])


def coarse_to_fine(height: int, width: int) -> Tensor:
    """Ranks (h, w) of the places of a grid: Bayer's matrix of the next power of 2, cut out and counted anew.

    >>> coarse_to_fine(2, 2).tolist()
    [[0, 2], [3, 1]]
    """
    m = torch.zeros(1, 1, dtype=torch.long)
    while len(m) < max(height, width):
        m = torch.cat([torch.cat([4 * m, 4 * m + 2], 1), torch.cat([4 * m + 3, 4 * m + 1], 1)])
    ranks = m[:height, :width]
    return ranks.flatten().argsort().argsort().view_as(ranks)
