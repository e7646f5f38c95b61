"""Whole models, and how they are kept on disk."""

from .classifier import NETWORKS, SpikingClassifier
from .pretrained import pretrained
from .store import KINDS, load, save
from .vae import SpikingVAE

__all__ = ["KINDS", "NETWORKS", "SpikingClassifier", "SpikingVAE", "load", "pretrained", "save"]
