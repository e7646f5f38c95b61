"""Scores from images: extractors, statistics, the Fréchet distance, and a cache keyed by content.

Images are uint8 `(N, C, H, W)` tensors on the CPU; the room knows no model, no training and no data set.
"""

from .autoencoder import Autoencoder, cached_autoencoder, load_autoencoder, train_autoencoder
from .cache import cache_file, replacing
from .extractors import AutoencoderFeatures, Extractor, cached_statistics, fad, official_order
from .frechet import Statistics, frechet_distance

__all__ = [
    "Autoencoder",
    "AutoencoderFeatures",
    "Extractor",
    "Statistics",
    "cache_file",
    "cached_autoencoder",
    "cached_statistics",
    "fad",
    "frechet_distance",
    "load_autoencoder",
    "official_order",
    "replacing",
    "train_autoencoder",
]
