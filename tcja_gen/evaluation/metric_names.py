"""The metrics by name: what each one measures, of what, and on the features of which network.

    fad, fad-official                                Fréchet autoencoder distance of samples
    fad-reconstruction, fad-official-reconstruction  the same of reconstructions
    reconstruction, psnr, ssim                       of reconstructions, on pixels in [0, 1]
    fid, kid, is, precision, recall,                 of samples, on Inception's features
    density, coverage, memorisation
    fid-classifier, kid-classifier, ...              the same on the features of a classifier of the data's own classes
    recognition-classifier                           share of samples of a class that this classifier takes for it
    kid-autoencoder, precision-autoencoder, ...      all but fid (which is fad) and is on the autoencoder's features,
                                                     for data without classes
    fd-dinov2, kid-dinov2, ...                       the same, but is, on DINOv2's features
    is-fsvae                                         IS as FSVAE's code computes it, which is not the standard one
    recognition, recognition-events                  of samples of a conditional generator, see `recognition`
    accuracy, accuracy-by-step                       of the classes that a model with a head predicts

Of a generator of event frames, all but recognition look at summed frames, see `summed_frames`.

The weights of the networks:

    autoencoder  FSVAE's, or trained on the data; used in two modes, see `metrics.extractors`
    inception    Inception-2015, see `metrics.inception`
    classifier   trained on the data's labels, see `metrics.classifier`
    torchvision  torchvision's Inception v3, see `metrics.inception`
    dinov2       DINOv2, see `metrics.dinov2`
"""

from dataclasses import dataclass
from typing import Literal

FEATURE_MEASURES = ("fid", "kid", "is", "precision", "recall", "density", "coverage", "memorisation")
PIXEL_MEASURES = ("reconstruction", "psnr", "ssim")
RECOGNITION = ("recognition", "recognition-events")
CLASS_MEASURES = ("accuracy", "accuracy-by-step")
WITHOUT_REFERENCE = {"is", "is-fsvae", "recognised"}  # look at the generated images alone
ON_REFERENCE_FEATURES = {
    "kid",
    "precision",
    "recall",
    "density",
    "coverage",
    "memorisation",
}  # statistics do not suffice
NEIGHBOURS = {"precision": 3, "recall": 3, "density": 5, "coverage": 5}
IS_SPLITS = 10
FSVAE_SPLIT, FSVAE_SPLITS = 256, 10  # images in a split of FSVAE's IS, and the largest number of splits
WITHOUT_FLOOR = {"memorisation", "recognised"}  # real training images say nothing about a perfect generator here
OFFICIAL_BATCH = 256
IMAGES = 5120  # scored unless another number is asked for


@dataclass(frozen=True)
class Metric:
    """A measure of samples, of reconstructions or of predicted classes; network: whose features it looks at, if any."""

    measure: str
    of: Literal["samples", "reconstructions", "classes"]
    network: str | None = None

    def fewest(self, is_splits: int | None = None) -> int:
        """Smallest number of images that can be scored."""
        if self.measure == "is":
            return 2 * (is_splits or IS_SPLITS)
        if self.measure == "is-fsvae":
            return FSVAE_SPLIT
        if self.network == "autoencoder-official":
            return OFFICIAL_BATCH
        return 1 if self.measure in RECOGNITION else NEIGHBOURS.get(self.measure, 1) + 1

    @property
    def fewest_real(self) -> int:
        """Smallest number of real images that samples can be compared with, or that can be reconstructed."""
        if self.of == "reconstructions" or self.measure in ON_REFERENCE_FEATURES:
            return self.fewest()
        return 2 if self.measure == "fid" else 0  # a covariance

    @property
    def options(self) -> set[str]:
        """The optional arguments of `evaluate` that change this metric."""
        if self.of == "classes":
            return set()
        if self.measure in RECOGNITION:
            return {"repeats", "recogniser"}
        taken = {"repeats", "reference", "size", "channels"}
        if self.network:
            taken.add(weights_of(self.network))
        if self.network == "inception":
            taken.add("resize")
        if self.measure == "is":
            taken.add("is_splits")
        return taken


def weights_of(network: str) -> str:
    """The name of the weights of a network: its own without the mode ("autoencoder-official": "autoencoder")."""
    return network.split("-")[0]


def _by_name() -> dict[str, Metric]:
    metrics = {}
    for of, ending in (("samples", ""), ("reconstructions", "-reconstruction")):
        metrics[f"fad{ending}"] = Metric("fid", of, "autoencoder")
        metrics[f"fad-official{ending}"] = Metric("fid", of, "autoencoder-official")
    metrics |= {name: Metric(name, "reconstructions") for name in PIXEL_MEASURES}
    for network, ending in (("inception", ""), ("classifier", "-classifier")):
        metrics |= {name + ending: Metric(name, "samples", network) for name in FEATURE_MEASURES}
    others = [name for name in FEATURE_MEASURES if name not in ("fid", "is")]
    metrics |= {f"{name}-autoencoder": Metric(name, "samples", "autoencoder") for name in others}
    metrics |= {f"{name}-dinov2".replace("fid", "fd"): Metric(name, "samples", "dinov2") for name in ("fid", *others)}
    metrics["recognition-classifier"] = Metric("recognised", "samples", "classifier")
    metrics["is-fsvae"] = Metric("is-fsvae", "samples", "torchvision")
    metrics |= {name: Metric(name, "samples") for name in RECOGNITION}
    return metrics | {name: Metric(name, "classes") for name in CLASS_MEASURES}


METRICS = _by_name()


def by_measure(names, network: str) -> dict[str, str]:
    """Those of the metrics that look at the features of a network: the names by their measures."""
    return {METRICS[name].measure: name for name in names if METRICS[name].network == network}
