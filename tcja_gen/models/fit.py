"""What of a generator a stage of a training fits, and all that follows: what stays as it is, which losses there are,
and which weights the next stage takes over from the one before."""

from collections.abc import Iterator
from dataclasses import dataclass

from torch import nn

from ..errors import UserError

PRIOR = "latent.prior."  # how the names of its weights begin


@dataclass(frozen=True)
class Fit:
    """Which of the three parts of a generator are fitted: encoder (with all of the latent but its prior, and a head),
    decoder, prior."""

    name: str
    encoder: bool
    decoder: bool
    prior: bool

    @property
    def starts_from_a_run(self) -> bool:
        """Whether it needs a trained autoencoder to begin with."""
        return not self.encoder

    @property
    def reconstructs(self) -> bool:
        """Whether images are decoded and compared."""
        return self.encoder or self.decoder

    def takes_over(self, name: str) -> bool:
        """Whether the weight of this name is that of the run that a stage starts from: a prior alone begins anew."""
        return not (self.prior and name.startswith(PRIOR))

    def frozen(self, model: nn.Module) -> list[nn.Module]:
        """The parts of a `SpikingVAE` that are not fitted. UserError if its latent has no prior with weights, for
        then there are no stages."""
        prior = getattr(model.latent, "prior", None)
        if prior is None and self != ALL:
            raise UserError(f"fit = {self.name!r}: the prior of this latent has no weights, there are no stages")
        parts = [] if self.encoder else [*_coder(model)]
        parts += [] if self.decoder else [model.decoder]
        return parts + ([] if self.prior else [prior])


def _coder(model: nn.Module) -> Iterator[nn.Module]:
    """Encoder, head, and the layers of the latent but its prior."""
    yield model.encoder
    if model.head is not None:
        yield model.head
    yield from (layer for name, layer in model.latent.named_children() if name != "prior")


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
