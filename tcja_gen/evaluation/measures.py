"""From images to numbers: every measure, with the fields of its protocol.

Images pass a network once, whatever the number of measures. The measures themselves are in `metrics.measures`.
"""

from collections.abc import Callable, Sequence
from functools import partial

from torch import Tensor

from ..data import ImageSet
from ..errors import UserError
from ..metrics import (
    Extractor,
    Statistics,
    TorchvisionFeatures,
    density_coverage,
    inception_score,
    kid,
    kid_subsets,
    nearest,
    official_order,
    precision_recall,
    psnr,
    ssim,
    ssim_window,
)
from .asked_classes import recognition
from .metric_names import FSVAE_SPLIT, FSVAE_SPLITS, METRICS, NEIGHBOURS, by_measure
from .references import Reference
from .results import Result
from .subjects import originals

NEAREST = 10  # samples that a record names with their nearest training images

# Extractors that are fed whole batches of 256 alone, by mode: the name of the score, and the largest number of images.
WHOLE_BATCHES = {
    "official": ("official mode", None),
    TorchvisionFeatures.mode: ("is-fsvae", FSVAE_SPLIT * FSVAE_SPLITS),
}


def measure_features(
    images: Tensor,
    names: Sequence[str],
    references: dict[str, Reference],
    notes: list[str],
    labels: Tensor | None = None,
) -> dict[str, Result]:
    """Results, by metric, of those metrics that look at features of uint8 images `(N, C, H, W)`. labels `(N,)`: the
    classes that the images were made for, which `recognised` needs."""
    results = {}
    for network, reference in references.items():
        if wanted := by_measure(names, network):
            measured = measure(images, list(wanted), reference, notes, labels)
            results |= {wanted[name]: result for name, result in measured.items()}
    return results


def measure(
    images: Tensor, measures: Sequence[str], reference: Reference, notes: list[str], labels: Tensor | None = None
) -> dict[str, Result]:
    """Results, by measure, of uint8 images `(N, C, H, W)` against the reference of one network."""
    extractor = reference.extractor
    images = _whole_batches(images, extractor, notes)
    if "fid" in measures and len(images) <= extractor.width:
        name = "FAD" if "autoencoder" in extractor.name else "FID"
        notes.append(f"{len(images)} images for {extractor.width} features: {name} is biased upwards, take more")
    reference.prepare(measures)
    features = extractor(images)  # (N, D)
    facts = dict(extractor=extractor.name, extractor_hash=extractor.hash, mode=extractor.mode)
    facts |= dict(resize=extractor.resize, n=len(images))
    results = {}
    for together, compute in (COMPUTE | {("recognised",): partial(_recognised, labels)}).items():
        if wanted := [name for name in together if name in measures]:
            values, own_facts, *details = compute(features, reference)
            for name in wanted:
                results[name] = Result.of(values[together.index(name)], facts | own_facts, *details)
    return results


def _whole_batches(images: Tensor, extractor: Extractor, notes: list[str]) -> Tensor:
    """All images, or whole batches of 256 where the score is defined by batches."""
    if extractor.mode not in WHOLE_BATCHES:
        return images
    name, most = WHOLE_BATCHES[extractor.mode]
    batches = official_order(images)[:most]
    if len(batches) < len(images):
        notes.append(f"{name} takes whole batches of 256: {len(batches)} of {len(images)} images scored")
    return batches


# Each takes features (N, D) of images, and returns its values, the fields of the protocol that it alone has and, some,
# details for the record.


def _fid(features: Tensor, reference: Reference) -> tuple[tuple, dict]:
    distance = Statistics.of(features).distance(reference.statistics)
    return (distance,), reference.facts(reference.statistics.n)


def _kid(features: Tensor, reference: Reference) -> tuple[tuple, dict]:
    subsets, size = kid_subsets(len(features), len(reference.features))
    facts = {"kid_subsets": subsets, "kid_subset_size": size, "kid_seed": 0}
    value = kid(features, reference.features, subsets, size, seed=0)
    return (value,), reference.facts(len(reference.features)) | facts


def _is(features: Tensor, reference: Reference) -> tuple[tuple, dict]:
    value = inception_score(reference.extractor.logits(features), reference.is_splits)
    return (value,), {"is_splits": reference.is_splits, "n_reference": None, "reference": None}


def _is_fsvae(features: Tensor, reference: Reference) -> tuple[tuple, dict]:
    splits = len(features) // FSVAE_SPLIT
    value = inception_score(reference.extractor.logits(features), splits)
    facts = {"is_splits": splits, "n_reference": None, "reference": None}
    return (value,), facts | {"standard": "no: FSVAE's, not to be compared with any other IS"}


def _precision_recall(features: Tensor, reference: Reference) -> tuple[tuple, dict]:
    k = NEIGHBOURS["precision"]
    values = precision_recall(features, reference.features, k)
    return values, reference.facts(len(reference.features)) | {"neighbours": k}


def _density_coverage(features: Tensor, reference: Reference) -> tuple[tuple, dict]:
    k = NEIGHBOURS["density"]
    values = density_coverage(features, reference.features, k)
    return values, reference.facts(len(reference.features)) | {"neighbours": k}


def _memorisation(features: Tensor, reference: Reference) -> tuple[tuple, dict, dict]:
    """Mean distance of images to their nearest training image, divided by that of held-out real images; and the images
    that are nearest.

    1: as far away as unseen real images; near 0: copies of training images; above 1: away from the data.
    """
    training = reference.training_features
    facts = {"n_training": len(training), "training": reference.real.training.fingerprint}
    distance, closest = nearest(features, training)
    unseen = nearest(reference.features, training)[0].mean()
    rows = [
        {"image": int(i), "training": int(closest[i]), "distance": float(distance[i] / unseen)}
        for i in distance.argsort(stable=True)[:NEAREST]
    ]
    value = float(distance.mean() / unseen)
    return (value,), reference.facts(len(reference.features)) | facts, {"nearest": rows}


def _recognised(labels: Tensor, features: Tensor, reference: Reference) -> tuple[tuple, dict, dict]:
    known, classes = reference.extractor.classes, len(reference.class_names)
    if known != classes:
        raise UserError(f"recognition: the classifier names {known} classes, the data have {classes}")
    named = reference.extractor.logits(features).argmax(1)
    facts = {"n_reference": None, "reference": None}
    value = int((named == labels).sum()) / len(labels)
    return (value,), facts, {"recognition": recognition(labels, named, reference.class_names)}


COMPUTE: dict[tuple[str, ...], Callable[[Tensor, Reference], tuple]] = {
    ("fid",): _fid,
    ("kid",): _kid,
    ("is",): _is,
    ("is-fsvae",): _is_fsvae,
    ("precision", "recall"): _precision_recall,
    ("density", "coverage"): _density_coverage,
    ("memorisation",): _memorisation,
}  # by the measures that one function computes together


def measure_pixels(images: Tensor, real: ImageSet, names: Sequence[str]) -> dict[str, Result]:
    """Results, by metric, of those metrics that compare float reconstructions in [0, 1] with their originals."""
    compared = originals(real, len(images)).float() / 255
    facts = dict(n=len(images), reference=real.fingerprint, quantised="no")
    ranges = {
        "reconstruction": "pixels in [0, 1]; FSVAE's figure, in [-1, 1], is 4 times this",
        "psnr": "pixels in [0, 1]; mean over images",
        "ssim": f"pixels in [0, 1]; window {ssim_window(images)}",
    }
    compute = {"reconstruction": _squared_error, "psnr": psnr, "ssim": ssim}
    wanted = [name for name in names if METRICS[name].measure in compute]
    return {name: Result.of(compute[name](images, compared), facts | {"range": ranges[name]}) for name in wanted}


def _squared_error(images: Tensor, compared: Tensor) -> float:
    return float((images.double() - compared.double()).square().mean())
