"""Whole models, and how they are kept on disk."""

from .store import load, save
from .vae import SpikingVAE

__all__ = ["SpikingVAE", "load", "save"]
