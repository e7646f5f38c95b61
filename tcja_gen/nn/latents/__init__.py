"""Latents z (T, N, L): a posterior to train with, a prior to sample from.

A latent is a class (`Latent`) and a frozen dataclass of its settings, in one file, registered by name:

    entry                                            layer from the encoder's output to h (T, N, ...)
    encode(h, draws) -> z                            drawn from the posterior, given h
    infer(h, draws, progress, y) -> z, divergence    the same, and its divergence from the prior, a scalar
    sample(draws, y) -> z                            drawn from the prior
    between(z0, z1, a, draws) -> z                   on the way from one image to another, at fractions a

z are spikes. An image's z never depends on the rest of the batch: each row of draws belongs to one image. y (N, K) is
the class of every image, one-hot, for a prior of classes, p(z_t | z_<t, y). The posterior sees the image and needs no
class, so reconstruction never asks for one.

    bernoulli   FSVAE's autoregressive bits
    poisson     ESVAE's firing rates
    gaussian    an ANN's: real numbers, with ReLU in place of neurons
    codes       the encoder's own spikes on their grid, with a masked prior that is fitted to them
"""

from ...errors import UserError
from ...registry import LATENTS
from .bernoulli import BernoulliLatent, BernoulliSettings, ScheduledSampling
from .codes import CodeLatent, CodeSettings
from .gaussian import GaussianLatent, GaussianSettings
from .poisson import PoissonLatent, PoissonSettings
from .protocol import Context, Latent, LatentSettings


def latent_settings() -> dict[str, type[LatentSettings]]:
    """The classes of settings by the name of their latent."""
    return {name: LATENTS[name].Settings for name in LATENTS}


def make_latent(settings: LatentSettings, context: Context) -> Latent:
    """The latent that these settings are for. UserError where they do not go with the context."""
    kind = next(LATENTS[name] for name in LATENTS if LATENTS[name].Settings is type(settings))
    if not issubclass(kind, Latent):
        raise UserError(f"latent {LATENTS.name_of(kind)!r}: {kind.__name__} is not derived from nn.Latent")
    return kind(settings, context)


__all__ = [
    "BernoulliLatent",
    "BernoulliSettings",
    "CodeLatent",
    "CodeSettings",
    "Context",
    "GaussianLatent",
    "GaussianSettings",
    "Latent",
    "LatentSettings",
    "PoissonLatent",
    "PoissonSettings",
    "ScheduledSampling",
    "latent_settings",
    "make_latent",
]
