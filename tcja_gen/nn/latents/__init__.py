"""Latents z (T, N, L): a posterior to train with, a prior to sample from.

A latent is a class derived from `Latent` and a frozen dataclass with its settings, in one file, registered by name:

    entry                                            layer from the encoder's output to h (T, N, ...)
    encode(h, draws) -> z                            z drawn from the posterior, given h
    infer(h, draws, progress, y) -> z, divergence    the same, and the divergence from the prior, a scalar
    sample(draws, y) -> z                            z drawn from the prior
    between(z0, z1, a, draws) -> z                   z between those of two images, at fractions a

z are spikes. The z of an image never depends on the rest of the batch: each row of draws belongs to one image. y (N, K)
is the class of every image, one-hot, for a class-conditional prior p(z_t | z_<t, y). The posterior sees the image and
needs no class, so a reconstruction needs none either.

    bernoulli   FSVAE's autoregressive bits
    poisson     ESVAE's firing rates
    gaussian    real numbers, for an ANN with ReLU in place of neurons
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
    """The settings class of every latent, by the latent's name."""
    return {name: LATENTS[name].Settings for name in LATENTS}


def make_latent(settings: LatentSettings, context: Context) -> Latent:
    """The latent with these settings. UserError if they do not fit the context."""
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
