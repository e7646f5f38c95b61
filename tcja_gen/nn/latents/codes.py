"""Spatial spike codes with a masked prior that is fitted to them: a spiking VAE that is trained in stages.

The latent is the encoder's own spikes, z (T, N, L, h, w); nothing is drawn from the posterior. The T L bits at one of
the h w places form a token, one of 2^(T L). This is lookup-free quantisation (Yu et al., ICLR 2024) on a grid of tokens
as in VQ-VAE (van den Oord et al., NeurIPS 2017). Gradients pass the bits through the neurons' surrogate.

The prior is a spiking network that sees the known tokens and predicts all others at once (MaskGIT; Chang et al., CVPR
2022). MaskGIT fills tokens in by confidence. Here the order is fixed, from coarse to fine, by the ranks of Bayer's
matrix. Tokens of the same round are then far apart in space and hence nearly independent.

    p(z | y) = product over rounds of the product over the round's places i of p(z_i | z of earlier rounds, y)
    p(z_i | ...) = product over g of p(bits of group g of z_i | its earlier groups, ...)

A token of up to 12 bits is one group: a softmax over 2^bits. A longer one is predicted in groups, by default the L bits
of a time step, in the order of time, each given those before (as MaskBit splits its tokens; Weber et al., TMLR 2024).

A round is one pass of the network. The number of known places grows like 1 - cos: the first round fills in few places,
the last one many. The posterior has no entropy, so the divergence is the prior's cross-entropy in nats per token. It is
averaged over the unknown places, and the number of known places is drawn uniformly. It trains the prior only: it does
not push the codes to be easy to predict. With `random_masks`, some images know places at random, and not the first ones
of the order; a prior that was trained so can fill in the places in another order. It can also draw tokens again: in
each of the `sweeps`, the places of one round after the other are masked and drawn, given all others (block Gibbs
sampling), so that early tokens come to fit late ones.

With `flips`, bits are flipped at random in training, as by a noisy channel. The decoder learns to tolerate wrong bits,
the encoder learns codes in which a wrong bit does little harm, and the prior learns not to trust its input too much.
The prior's targets are not flipped. `noise` flips more bits of the prior's input alone, at a rate that is drawn for
each image (self-correction of Infinity; Han et al., CVPR 2025).

A conditional prior that meets images without their class, too (`class_dropout`), can be guided (Ho and Salimans, 2022):
with weight w, the last rounds draw from logits that are extrapolated from those without a class,

    logits = (1 + w) logits(y) - w logits(no class)

"""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor

from ...errors import UserError
from ...ranges import setting
from ...registry import register_latent
from ..draws import Draws
from ..kernels.sparse import steady
from ..layers import conv_block
from .masked_prior import LARGEST_GROUP, ORDERS, MaskedPrior
from .protocol import Context, Latent, LatentSettings

# settings that may change afterwards
SAMPLING = ("rounds", "order", "sweeps", "temperature", "guidance", "guided_rounds")


@dataclass(frozen=True)
class CodeSettings(LatentSettings):
    """Settings of `CodeLatent`. T times channels is the number of bits of a token."""

    channels: int = setting(3, least=1)
    """L, the number of channels of the codes."""
    group: int = setting(0, least=0, most=LARGEST_GROUP)
    """Bits of a token that the prior predicts at once. 0: all of them up to 12, else those of a time step."""
    prior: str = "128C3-128R3[TCJA]-128R3[TCJA]-128R3[TCJA]-128R3[TCJA]"
    """Notation of the prior's network; its layers keep the size of the grid."""
    rounds: int = setting(16, least=1)
    """Passes of the prior for a sample."""
    order: str = "coarse-to-fine"
    """In which order the rounds fill in the places: coarse-to-fine, rows or shuffled."""
    sweeps: int = setting(0, least=0)
    """How often all tokens of a sample are drawn again afterwards, for a prior trained with `random_masks`."""
    temperature: float = setting(1.0, above=0)
    """Divides the prior's logits in sampling. Below 1: likelier tokens, less variety."""
    flips: float = setting(0.0, least=0, below=0.5)
    """Share of the bits that are flipped in training, in the inputs of decoder and prior."""
    noise: float = setting(0.0, least=0, most=0.5)
    """Largest share of bits that are flipped besides in the prior's input; an image's share is uniform from 0."""
    random_masks: float = setting(0.0, least=0, most=1)
    """Share of the training images whose known places are random, not the first ones of the order."""
    conditional: bool = False
    """Condition the prior on the class of the image."""
    class_dropout: float = setting(0.0, least=0, below=1)
    """Share of the training images of a conditional prior whose class is not told, so that samples can be guided."""
    guidance: float = setting(0.0, least=0)
    """Weight w of the guidance by classes in sampling; 0: none."""
    guided_rounds: float = setting(0.5, above=0, most=1)
    """Share of the rounds, the last ones, that are guided."""


@register_latent("codes", CodeSettings)
class CodeLatent(Latent):
    """Latent of spike codes on the encoder's grid, whose size is `sides` (h, w). The module's text describes it.

    Tokens are (N, P, G): P = h w places, and G groups of `group` bits at a place.
    """

    spatial = True

    def __init__(self, settings: CodeSettings, context: Context):
        super().__init__(settings, context)
        features, *sides = context.shape
        self.sides, self.flips = tuple(sides), settings.flips
        self._set_groups(settings, self.channels * self.time_steps)
        for name in SAMPLING:
            setattr(self, name, getattr(settings, name))
        self.register_buffer("powers", 2 ** torch.arange(self.group), persistent=False)
        self.register_buffer("rank", None, persistent=False)  # of every place in the order, (P,)
        self.sample_by()
        self.prior = MaskedPrior(
            settings.prior, self.group, self.groups, self.sides, self.time_steps, context.build, self.classes
        )
        self.entry = conv_block(features, self.channels, 1, 1, context.build)  # its spikes are the codes

    def _set_groups(self, settings: CodeSettings, bits: int) -> None:
        """Sets `group`, the bits of a group, and `groups`, their number G."""
        if not self.classes and (settings.class_dropout or settings.guidance):
            raise UserError("latent: class_dropout and guidance have no meaning without conditional")
        self.group = settings.group or (bits if bits <= LARGEST_GROUP else self.channels)
        self.groups, left = divmod(bits, self.group)
        if left or self.group > LARGEST_GROUP:
            raise UserError(
                f"{self.channels} channels and T = {self.time_steps} make tokens of {bits} bits, predicted in groups "
                f"of {self.group}; model.latent.group must divide {bits} and be at most {LARGEST_GROUP}"
            )

    @property
    def sampling(self) -> dict[str, float | str]:
        values = {"rounds": self.rounds, "temperature": self.temperature}
        if self.settings.random_masks:
            values |= {"order": self.order, "sweeps": self.sweeps}
        if self.settings.class_dropout:
            values |= {"guidance": self.guidance, "guided_rounds": self.guided_rounds}
        return values

    def sample_by(self, **changes: float | str | None) -> None:
        if unknown := [*changes.keys() - SAMPLING]:
            raise UserError(f"{unknown[0]!r} is no setting of sampling; known: {', '.join(SAMPLING)}")
        chosen = {name: getattr(self, name) if changes.get(name) is None else changes[name] for name in SAMPLING}
        replace(self.settings, **chosen)  # checks the ranges
        self._check_sampling(**chosen)
        for name, value in chosen.items():
            setattr(self, name, value)
        self.rank = ORDERS[self.order](*self.sides).flatten().to(self.powers.device)

    def _check_sampling(self, rounds: int, order: str, sweeps: int, guidance: float, **_) -> None:
        places, sides = math.prod(self.sides), " x ".join(map(str, self.sides))
        if not 1 <= rounds <= places:
            raise UserError(f"{rounds} rounds for {places} places of the codes ({sides}); 1 to {places}")
        if not isinstance(order, str) or order not in ORDERS:
            raise UserError(f"unknown order {order!r} of the places; known: {', '.join(ORDERS)}")
        if order != self.settings.order and not self.settings.random_masks:
            raise UserError(f"order {order!r}: trained with {self.settings.order!r} alone; random_masks allows any")
        if sweeps and not self.settings.random_masks:
            raise UserError(f"sweeps {sweeps}: the prior never knew later places; random_masks is for that")
        if guidance and not self.settings.class_dropout:
            raise UserError(f"guidance {guidance:g}: the prior met no images without class; class_dropout is for that")

    def encode(self, h: Tensor, draws: Draws) -> Tensor:
        """The codes z (T, N, L, h, w) themselves. In training some bits are flipped; gradients ignore that."""
        if not (self.training and self.flips):
            return h
        return _flipped(h, self._bitwise(draws) < self.flips)

    def infer(self, h: Tensor, draws: Draws, progress: float = 1.0, y: Tensor | None = None) -> tuple[Tensor, Tensor]:
        z = self.encode(h, draws)
        targets = self.tokens(h.detach())  # (N, P, G)
        unknown = self._unknown(draws)  # (N, P)
        rates = self.prior.rates(self._noisy_bits(z.detach(), draws), ~unknown, self._told(y, draws), draws)
        share = unknown / unknown.sum(1, keepdim=True) / len(unknown)  # of a place in the mean
        # a GPU's graph has fixed shapes, and the statistics of hidden layers are of equally many places in each process
        where = unknown if unknown.is_cpu and self.groups == 1 else ...
        rates, targets, share = rates[where].flatten(0, -2), targets[where].flatten(0, -2), share[where].flatten()
        logits = [self.prior.logits_of(g, rates, self._bits(targets)).float() for g in range(self.groups)]
        nats = sum(F.cross_entropy(logits[g], targets[:, g], reduction="none") for g in range(self.groups))
        return z, (nats * share).sum()

    def _unknown(self, draws: Draws) -> Tensor:
        """Which places the prior must predict in training, (N, P) of bool: 1 .. P of each image."""
        rank, masks = self.rank, draws.stream("masks")
        known = (draws.uniform(1) * len(rank)).long()
        if self.settings.random_masks:
            shuffled = masks.uniform(len(rank)).argsort(1).argsort(1)
            rank = torch.where(masks.uniform(1) < self.settings.random_masks, shuffled, rank)
        return rank >= known

    def _noisy_bits(self, z: Tensor, draws: Draws) -> Tensor:
        """The bits (N, T L, h, w) that the prior sees in training."""
        if self.training and self.settings.noise:
            noise = draws.stream("noise")
            most = self.settings.noise * noise.uniform(1, 1, 1, 1).transpose(0, 1)
            z = _flipped(z, self._bitwise(noise) < most)
        return z.transpose(0, 1).flatten(1, 2)

    def _bitwise(self, draws: Draws) -> Tensor:
        """A uniform number for every bit, (T, N, L, h, w)."""
        return draws.uniform(self.time_steps, self.channels, *self.sides).transpose(0, 1)

    def _told(self, y: Tensor | None, draws: Draws) -> Tensor | None:
        """The classes that the prior is told in training: zeros for an image without class."""
        if y is None or not (self.training and self.settings.class_dropout):
            return y
        return y * (draws.stream("class").uniform(1) >= self.settings.class_dropout)

    @steady()
    def sample(self, draws: Draws, y: Tensor | None = None) -> Tensor:
        """z (T, N, L, h, w). One uniform number per place and group decides its bits, for any number of rounds; in a
        sweep it is another one."""
        u = self._numbers(draws)
        tokens = torch.zeros_like(u, dtype=torch.long)
        self._draw(tokens, u, self._rounds(tokens, y))
        for _ in range(self.sweeps):
            self._draw(tokens, self._numbers(draws.stream("sweeps")), self._sweep(tokens, y))
        return self.codes(tokens)

    def _numbers(self, draws: Draws) -> Tensor:
        """A uniform number for every place and group, (N, P, G)."""
        places = len(self.rank)
        return draws.uniform(places * self.groups).unflatten(1, (places, self.groups))

    def _draw(self, tokens: Tensor, u: Tensor, passes: Iterator[tuple[Tensor, Callable[[int], Tensor]]]) -> None:
        """Writes into `tokens` what the uniform numbers u choose by the logits of `_rounds`, or of `_sweep`."""
        for chosen, logits in passes:
            for g in range(self.groups):
                p = logits(g).softmax(2)
                drawn = torch.searchsorted(p.cumsum(2), u[:, chosen, g, None])[..., 0].clamp(max=p.shape[2] - 1)
                tokens[:, chosen, g] = drawn

    def logits(self, z: Tensor, known: Tensor, y: Tensor | None = None) -> Tensor:
        """Logits (N, P, G, 2^group) of all tokens, of each group given the token's earlier ones in z, from one pass of
        the prior, which sees the codes z (T, N, L, h, w) of the known places (N, P) alone."""
        return self.prior(z.transpose(0, 1).flatten(1, 2), known, y)

    def nats(self, z: Tensor, y: Tensor | None = None) -> Tensor:
        """-log p(z | y) in nats, (N,), of codes z (T, N, L, h, w), as samples are drawn now. UserError with sweeps, for
        which p is not known."""
        if self.sweeps:
            raise UserError(f"samples of {self.sweeps} sweeps have no known likelihood; those of none have")
        tokens = self.tokens(z)
        nats = torch.zeros(len(tokens), device=tokens.device)
        for chosen, logits in self._rounds(tokens, y):
            for g in range(self.groups):
                nats += F.cross_entropy(logits(g).transpose(1, 2), tokens[:, chosen, g], reduction="none").sum(1)
        return nats

    def tokens(self, z: Tensor) -> Tensor:
        """Tokens (N, P, G) of codes z (T, N, L, h, w): the number that the bits of each group make."""
        bits = z.transpose(0, 1).flatten(3).flatten(1, 2).transpose(1, 2)  # (N, P, T L)
        return (bits.unflatten(2, (self.groups, self.group)).long() * self.powers).sum(3)

    def codes(self, tokens: Tensor) -> Tensor:
        """Codes z (T, N, L, h, w), float, of tokens (N, P, G)."""
        return self._planes(tokens).unflatten(1, (self.time_steps, self.channels)).transpose(0, 1)

    def _planes(self, tokens: Tensor) -> Tensor:
        """Bits (N, T L, h, w), float, of tokens (N, P, G)."""
        return self._bits(tokens).transpose(1, 2).unflatten(2, self.sides)

    def _bits(self, tokens: Tensor) -> Tensor:
        """Bits (..., T L), float, of tokens (..., G)."""
        return ((tokens[..., None] & self.powers) > 0).float().flatten(-2)

    def _rounds(self, tokens: Tensor, y: Tensor | None) -> Iterator[tuple[Tensor, Callable[[int], Tensor]]]:
        """For each round, the indices (P',) of the places that it fills in, and a function that gives the logits
        (N, P', 2^group) of group g there. It looks at `tokens` (N, P, G) of earlier rounds and groups alone, which may
        be written meanwhile."""
        known = torch.zeros_like(self.rank, dtype=torch.bool)
        for number, chosen in enumerate(self.places_of_rounds()):
            guided = self.guidance > 0 and number >= self.first_guided_round
            yield chosen, self._logits(tokens, known, chosen, y, self.guidance if guided else 0.0)
            known = known.index_fill(0, chosen, True)

    def _sweep(self, tokens: Tensor, y: Tensor | None) -> Iterator[tuple[Tensor, Callable[[int], Tensor]]]:
        """As `_rounds`, but of every round the places are masked again, and all others known."""
        for chosen in self.places_of_rounds():
            known = torch.ones_like(self.rank, dtype=torch.bool).index_fill(0, chosen, False)
            yield chosen, self._logits(tokens, known, chosen, y, self.guidance)

    def places_of_rounds(self) -> list[Tensor]:
        """Indices (P',) of the places that each round fills in."""
        steps = pairwise([0, *self._ends()])
        return [((self.rank >= first) & (self.rank < last)).nonzero()[:, 0] for first, last in steps]

    @property
    def first_guided_round(self) -> int:
        return min(round(self.rounds * (1 - self.guided_rounds)), self.rounds - 1)

    def _logits(self, tokens: Tensor, known: Tensor, places: Tensor, y: Tensor | None, guidance: float):
        """The function of `_rounds`."""
        rates = self._rates(tokens, known, places, y)
        free = self._rates(tokens, known, places, torch.zeros_like(y)) if guidance else None

        def logits(g: int) -> Tensor:
            rows, which = self._distinct(tokens, y)
            bits = self._bits(tokens[rows][:, places])
            values = self.prior.logits_of(g, rates[rows], bits).float()
            if guidance:
                values = values + guidance * (values - self.prior.logits_of(g, free[rows], bits).float())
            return values[which] / self.temperature

        return logits

    def _rates(self, tokens: Tensor, known: Tensor, places: Tensor, y: Tensor | None) -> Tensor:
        """Rates (N, P', C) of the prior's last layer at the places."""
        rows, which = self._distinct(tokens * known[:, None], y)
        y = None if y is None else y[rows]
        return self.prior.rates_at(self._planes(tokens[rows]), known.expand(len(rows), -1), places, y)[which]

    def _distinct(self, tokens: Tensor, y: Tensor | None) -> tuple[Tensor, Tensor]:
        """Images of which no two have the same tokens and class, and for every image which of them it equals: copies
        are computed once. All images, where a result may depend on the others of its batch."""
        every = torch.arange(len(tokens), device=tokens.device)
        if not self.prior.skips_zeros:
            return every, every
        facts = tokens.flatten(1) if y is None else torch.cat([tokens.flatten(1), y.long()], 1)
        _, which = torch.unique(facts, dim=0, return_inverse=True)
        rows = every.new_empty(int(which.max()) + 1).scatter_(0, which.flip(0), every.flip(0))  # the first of each
        return rows, which

    def _ends(self) -> list[int]:
        """Number of known places after each round i of R: P (1 - cos(pi/2 i/R)), but at least i, and all at the end."""
        places = len(self.rank)
        known = [places * (1 - math.cos(math.pi / 2 * (i + 1) / self.rounds)) for i in range(self.rounds)]
        return [*(max(round(k), i + 1) for i, k in enumerate(known[:-1])), places]


def _flipped(z: Tensor, flips: Tensor) -> Tensor:
    """z with some bits flipped; gradients pass as if they were not."""
    return z + ((1 - 2 * z) * flips).detach()
