"""The network of a masked prior of spatial codes, and the orders in which its rounds fill in the places of a grid."""

import torch
from torch import Tensor, nn

from ...errors import UserError
from ..coders import SpikingEncoder
from ..draws import Draws
from ..layers import Build, linear_block
from ..places import spikes_at
from ..sparse import Linear, SpikeWeights
from .protocol import check_class

PLANES = 16  # learnt channels of the prior's input, which tell the places apart
LARGEST_GROUP = 12  # most bits that are predicted at once, since the prior has 2^bits outputs for them


class MaskedPrior(nn.Module):
    """Spiking network that predicts tokens from those that are known, each as `groups` G of `group` bits.

    The input channels at a place are the token's bits as -1 and 1 (0 if unknown), a flag for unknown, the class
    (one-hot) of a conditional prior, and learnt planes. The input is static like an image. The last layer's spikes are
    averaged over time. If a token is one group, these rates are mapped linearly to its logits. Otherwise a layer of
    neurons, which fire or do not fire once, sees the rates, the bits of earlier groups and which group is asked for;
    its spikes are mapped linearly to the logits of that group.
    """

    def __init__(
        self,
        notation: str,
        group: int,
        groups: int,
        sides: tuple[int, int],
        time_steps: int,
        build: Build,
        classes: int,
    ):
        super().__init__()
        self.classes, self.group, self.groups = classes, group, groups
        self.planes = nn.Parameter(torch.randn(PLANES, *sides))
        inputs = group * groups + 1 + classes + PLANES
        self.trunk = SpikingEncoder(notation, inputs, time_steps, build.neuron, sides)
        if self.trunk.shape[1:] != tuple(sides):
            raise UserError(f"prior {notation!r} ends at {self.trunk.shape[1:]} places, the codes have {sides}")
        width = self.trunk.shape[0]
        if groups == 1:
            self.logits = Linear(width, 2**group)
        else:
            self.hidden = linear_block(width + group * groups + groups, width, self.trunk.build)
            self.logits = nn.ModuleList(Linear(width, 2**group) for _ in range(groups))
        # rates are means of spikes, of which much is 0, too; the inputs of trunk and hidden layer are dense, but the
        # kernels for spikes give every image the same numbers, whatever the others are
        first = next(layer for layer in self.trunk.modules() if isinstance(layer, SpikeWeights))
        for weights in (first, *self._outputs()):
            weights.takes_spikes = build.neuron is not None

    def _outputs(self) -> list[nn.Module]:
        return [self.logits] if self.groups == 1 else [*self.logits]

    @property
    def skips_zeros(self) -> bool:
        """Whether it runs on the kernels for spikes and without gradient: an image's logits are then the same, to the
        bit, whatever the other images and places are."""
        outputs = self._outputs()[0]
        return outputs.skips_zeros(outputs.weight) and not torch.is_grad_enabled()

    def rates(self, bits: Tensor, known: Tensor, y: Tensor | None = None, draws: Draws | None = None) -> Tensor:
        """Mean over time of the last layer's spikes, (N, P, C).

        bits: (N, bits, h, w). known: (N, P), the places whose bits the network may see. y: (N, K) one-hot, for a
        conditional prior; zeros: no class. draws: for dropout, in training only.
        """
        return self.trunk(self._planes(bits, known, y), draws).mean(0).flatten(2).transpose(1, 2)

    def rates_at(self, bits: Tensor, known: Tensor, places: Tensor, y: Tensor | None = None) -> Tensor:
        """`rates` of the places with these indices (P',) alone, (N, P', C)."""
        if self.skips_zeros:
            return spikes_at(self.trunk, self._planes(bits, known, y), places).mean(0).transpose(1, 2)
        return self.rates(bits, known, y)[:, places]

    def logits_of(self, g: int, rates: Tensor, bits: Tensor) -> Tensor:
        """Logits (..., 2^group) of group g, given rates (..., C) and the token's bits (..., G group), of which only
        those of earlier groups are looked at."""
        if self.groups == 1:
            return self.logits(rates.flatten(0, -2)).unflatten(0, rates.shape[:-1])
        signs = 2 * bits[..., : g * self.group] - 1
        rest = rates.new_zeros(*rates.shape[:-1], bits.shape[-1] + self.groups - signs.shape[-1])
        rest[..., g - self.groups] = 1  # one-hot: which group is asked for
        x = torch.cat([rates, signs.to(rates.dtype), rest], -1).flatten(0, -2)
        return self.logits[g](self.hidden(x[None])[0]).unflatten(0, rates.shape[:-1])

    def forward(self, bits: Tensor, known: Tensor, y: Tensor | None = None) -> Tensor:
        """Logits (N, P, G, 2^group) of all places, each group given the earlier ones. Arguments as of `rates`."""
        rates, tokens = self.rates(bits, known, y), bits.flatten(2).transpose(1, 2)
        return torch.stack([self.logits_of(g, rates, tokens) for g in range(self.groups)], 2)

    def _planes(self, bits: Tensor, known: Tensor, y: Tensor | None) -> Tensor:
        """The network's input (N, C, h, w)."""
        check_class(self.classes, y)
        n, _, *sides = bits.shape
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


def rows(height: int, width: int) -> Tensor:
    """Ranks (h, w) of the places line by line, as text is read."""
    return torch.arange(height * width).view(height, width)


def shuffled(height: int, width: int) -> Tensor:
    """Ranks (h, w) at random, always the same ones."""
    return torch.randperm(height * width, generator=torch.Generator().manual_seed(0)).view(height, width)


ORDERS = {"coarse-to-fine": coarse_to_fine, "rows": rows, "shuffled": shuffled}
