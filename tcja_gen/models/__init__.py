"""Whole models, and how they are kept on disk."""

from .classifier import NETWORKS, SpikingClassifier
from .store import KINDS, build, load, save
from .vae import SpikingVAE

__all__ = ["KINDS", "NETWORKS", "SpikingClassifier", "SpikingVAE", "build", "load", "save"]
