"""Scores from images: extractors, statistics, measures of features, and a cache keyed by content.

Images are uint8 `(N, C, H, W)` tensors on the CPU. Nothing here knows a generator, its training or a data set.
"""

from .autoencoder import (
    AUTOENCODERS,
    LARGEST_SIDE,
    Autoencoder,
    autoencoder_side,
    cached_autoencoder,
    load_autoencoder,
    train_autoencoder,
)
from .classifier import Classifier, ClassifierFeatures, cached_classifier, load_classifier, train_classifier
from .dinov2 import DINOv2Features, find_dinov2
from .extractors import (
    AutoencoderFeatures,
    Extractor,
    cached_features,
    cached_statistics,
    fad,
    identity,
    official_order,
)
from .frechet import Statistics, frechet_distance
from .inception import INCEPTION, TORCHVISION, InceptionFeatures, TorchvisionFeatures, to_inception
from .measures import (
    Spread,
    density_coverage,
    inception_score,
    kid,
    kid_subsets,
    nearest,
    precision_recall,
    psnr,
    ssim,
    ssim_window,
)
from .pixels import side
from .references import Part, ReferenceFile, write_reference
from .weights import Published

__all__ = [
    "AUTOENCODERS",
    "INCEPTION",
    "LARGEST_SIDE",
    "TORCHVISION",
    "Autoencoder",
    "AutoencoderFeatures",
    "Classifier",
    "ClassifierFeatures",
    "DINOv2Features",
    "Extractor",
    "InceptionFeatures",
    "Part",
    "Published",
    "ReferenceFile",
    "Spread",
    "Statistics",
    "TorchvisionFeatures",
    "autoencoder_side",
    "cached_autoencoder",
    "cached_classifier",
    "cached_features",
    "cached_statistics",
    "density_coverage",
    "fad",
    "find_dinov2",
    "frechet_distance",
    "identity",
    "inception_score",
    "kid",
    "kid_subsets",
    "load_autoencoder",
    "load_classifier",
    "nearest",
    "official_order",
    "precision_recall",
    "psnr",
    "side",
    "ssim",
    "ssim_window",
    "to_inception",
    "train_autoencoder",
    "train_classifier",
    "write_reference",
]
