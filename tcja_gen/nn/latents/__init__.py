"""Latents z (T, N, L): a posterior to train with, a prior to sample from.

A latent is a protocol (`Latent`), so that a new one is one file with one class, and one line of `LATENTS`:

    entry(features, build) -> layer                  from the encoder's output to h (T, N, ...)
    encode(h, draws) -> z                            drawn from the posterior of h
    infer(h, draws, progress, y) -> z, divergence    the same, and its distance from the prior, a scalar
    sample(draws, y) -> z                            drawn from the prior
    between(z0, z1, a, draws) -> z                   of the way from one image to another, at fractions a

z are spikes, the same for an image whatever stands beside it: a row of draws is an image's own. y (N, K) names the
class of every image, one-hot, where the prior is one of classes: p(z_t | z_<t, y). The posterior sees the image and
needs no class, so reconstruction never asks for one.

    bernoulli   FSVAE's autoregressive bits
    poisson     ESVAE's firing rates
    gaussian    an ANN's: real numbers, with ReLU in place of neurons
    codes       the encoder's own spikes on their grid, with a masked prior that is fitted to them
"""

import inspect

from ...errors import UserError
from ..neurons import Neuron
from .bernoulli import BernoulliLatent, ScheduledSampling
from .codes import CodeLatent
from .gaussian import GaussianLatent
from .poisson import PoissonLatent
from .protocol import Latent

LATENTS: dict[str, type[Latent]] = {
    "bernoulli": BernoulliLatent,
    "poisson": PoissonLatent,
    "gaussian": GaussianLatent,
    "codes": CodeLatent,
}


def make_latent(
    kind: str, latent: int, time_steps: int, *, neuron: Neuron | None, classes: int = 0, **settings
) -> Latent:
    """The latent of a kind, with those of the settings that it looks at.

    neuron: None in an ANN. classes: that the prior is told; 0: none. ValueError where they do not go with the kind.
    """
    if kind not in LATENTS:
        raise UserError(f"unknown kind of latent {kind!r}; known: {', '.join(LATENTS)}")
    if LATENTS[kind].spiking != (neuron is not None):
        wants = "spiking neurons" if LATENTS[kind].spiking else "neuron = 'relu'"
        raise UserError(f"latent_kind = {kind!r} goes with {wants}")
    own = inspect.signature(LATENTS[kind]).parameters
    if classes:
        if "classes" not in own:
            raise UserError(f"the prior of a {kind} latent knows no classes, so it cannot be conditional")
        settings["classes"] = classes
    settings["neuron"] = neuron
    return LATENTS[kind](latent, time_steps, **{name: value for name, value in settings.items() if name in own})


__all__ = [
    "LATENTS",
    "BernoulliLatent",
    "CodeLatent",
    "GaussianLatent",
    "Latent",
    "PoissonLatent",
    "ScheduledSampling",
    "make_latent",
]
