"""Whole models, and their files on disk."""

from .classifier import SpikingClassifier
from .fit import FITS, Fit
from .settings import Classifier, Generator, build
from .store import load, save
from .vae import SpikingVAE

__all__ = [
    "FITS",
    "Classifier",
    "Fit",
    "Generator",
    "SpikingClassifier",
    "SpikingVAE",
    "build",
    "load",
    "save",
]
