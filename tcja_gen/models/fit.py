"""Which parts of a generator a training stage fits, and what follows from that: the frozen parts, the losses, and the
weights that a stage takes over from the stage before."""

from collections.abc import Iterator
from dataclasses import dataclass

from torch import nn

from ..errors import UserError

PRIOR = "latent.prior."  # prefix of the names of the prior's weights


@dataclass(frozen=True)
class Fit:
    """Which of the three parts of a generator are fitted: encoder, decoder, prior. The encoder includes a head, and all
    of the latent except its prior."""

    name: str
    encoder: bool
    decoder: bool
    prior: bool

    @property
    def starts_from_a_run(self) -> bool:
        """Whether it starts from a trained autoencoder."""
        return not self.encoder

    @property
    def reconstructs(self) -> bool:
        """Whether images are decoded and compared."""
        return self.encoder or self.decoder

    def takes_over(self, name: str) -> bool:
        """Whether a stage starts with the weight of this name from the run before it. Only a prior that is fitted
        starts with new weights."""
        return not (self.prior and name.startswith(PRIOR))

    def frozen(self, model: nn.Module) -> list[nn.Module]:
        """The parts of a `SpikingVAE` that are not fitted. UserError if its latent has no prior with weights, since it
        can then only be trained as a whole."""
        prior = getattr(model.latent, "prior", None)
        if prior is None and self != ALL:
            raise UserError(f"fit = {self.name!r}: the prior of this latent has no weights, there are no stages")
        parts = [] if self.encoder else [*_coder(model)]
        parts += [] if self.decoder else [model.decoder]
        return parts + ([] if self.prior else [prior])


def _coder(model: nn.Module) -> Iterator[nn.Module]:
    """Encoder, head, and all of the latent except its prior: its layers, and weights of its own."""
    yield model.encoder
    if model.head is not None:
        yield model.head
    yield from (layer for name, layer in model.latent.named_children() if name != "prior")
    yield nn.ParameterList(model.latent.parameters(recurse=False))


ALL = Fit("all", encoder=True, decoder=True, prior=True)
FITS = {
    fit.name: fit
    for fit in (
        ALL,
        Fit("autoencoder", encoder=True, decoder=True, prior=False),
        Fit("decoder", encoder=False, decoder=True, prior=False),
        Fit("prior", encoder=False, decoder=False, prior=True),
    )
}
