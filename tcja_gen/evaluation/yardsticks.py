"""Yardsticks: a network that makes features, the reference that they are measured against, and what to measure.

A metric is a measure of the features of one network:

    network      weights                                                     names
    autoencoder  FSVAE's, or trained on the data, in two modes               fad, fad-official
    inception    Inception-2015 (`metrics.inception`)                        fid, kid, is, precision, ...
    classifier   trained on the data's labels (`metrics.classifier`)         fid-classifier, kid-classifier, ...

One pass over the images feeds all measures of a network. A reference's statistics are kept where FID alone wants them,
its features where another measure does.
"""

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

from torch import Tensor

from ..cache import cache_file, replacing
from ..data import ImageSet, load_images
from ..metrics import (
    AutoencoderFeatures,
    ClassifierFeatures,
    Extractor,
    InceptionFeatures,
    Spread,
    Statistics,
    cached_autoencoder,
    cached_classifier,
    cached_features,
    cached_statistics,
    density_coverage,
    find_inception,
    inception_score,
    kid,
    load_autoencoder,
    load_classifier,
    memorisation,
    official_order,
    precision_recall,
)

MEASURES = ("fid", "kid", "is", "precision", "recall", "density", "coverage", "memorisation")
SPLITS = 10  # of IS
FAD = {"fad": "autoencoder", "fad-official": "autoencoder-official"}
FAD |= {f"{name}-reconstruction": network for name, network in FAD.items()}
NETWORKS = {"inception": "", "classifier": "-classifier"}  # and how their metrics' names end
FEATURE_METRICS = {name: (network, "fid") for name, network in FAD.items()} | {
    measure + ending: (network, measure) for network, ending in NETWORKS.items() for measure in MEASURES
}  # name: (network, measure)


@dataclass(frozen=True)
class Options:
    """What a user may choose about the networks; None is the default."""

    autoencoder: str | Path | None = None  # file of weights
    classifier: str | Path | None = None
    inception: str | Path | None = None
    resize: str | None = None  # clean, tf1 or torch
    is_splits: int | None = None

    def unused(self, metrics: Sequence[str]) -> list[str]:
        """Names of the options that none of these metrics looks at."""
        pairs = [FEATURE_METRICS[metric] for metric in metrics if metric in FEATURE_METRICS]
        networks, measures = {network.split("-")[0] for network, _ in pairs}, {measure for _, measure in pairs}
        used = {"autoencoder": "autoencoder" in networks, "classifier": "classifier" in networks}
        used |= {"inception": "inception" in networks, "resize": "inception" in networks, "is_splits": "is" in measures}
        return [name for name, taken in used.items() if getattr(self, name) is not None and not taken]


class Yardsticks:
    """The networks and references of one data set and split; each is loaded or trained when it is first asked for."""

    def __init__(self, data: str | Path, split: str, where: dict, options: Options, device="cpu", progress=False):
        self.data, self.split, self.where, self.options = data, split, where, options
        self.device, self.progress = device, progress

    @cached_property
    def real(self) -> ImageSet:
        return load_images(self.data, self.split, **self.where)

    @cached_property
    def train(self) -> ImageSet:
        return load_images(self.data, "train", **self.where)

    def scale(self, network: str) -> "Scale":
        """The scale against the split's own images."""
        return Scale(self.extractor(network), self.real.fingerprint, self, splits=self.options.is_splits or SPLITS)

    def scale_of(self, network: str, file: str | Path, notes: list[str]) -> "Scale":
        """The scale of a statistics file. One that says how it was made must agree with the extractor."""
        statistics, own = Statistics.load(file), network.split("-")[0]
        if "extractor" not in statistics.metadata and own != "inception" and getattr(self.options, own) is None:
            raise ValueError(f"{file}: does not say which {own} made it; give that {own}'s file too")
        extractor = self.extractor(network)
        identity = statistics.metadata.get("fingerprint") or _digest(statistics)
        _check_made(file, statistics, extractor, notes)
        return Scale(extractor, identity, None, statistics, splits=self.options.is_splits or SPLITS)

    def extractor(self, network: str) -> Extractor:
        """ValueError or FileNotFoundError, one line, if its weights are not to be had."""
        if network == "inception":
            file, resize = find_inception(self.options.inception), self.options.resize or "clean"
            return InceptionFeatures(file, resize, self.device, self.progress)
        if network == "classifier":
            return ClassifierFeatures(self.classifier[0])
        return AutoencoderFeatures(self.autoencoder[0], "official" if network.endswith("official") else "eval")

    @cached_property
    def autoencoder(self) -> tuple:
        """The autoencoder in a file, or the cached one of the training split; and its file."""
        if self.options.autoencoder is not None:
            return load_autoencoder(self.options.autoencoder), Path(self.options.autoencoder)
        how = dict(device=self.device, progress=self.progress)
        return cached_autoencoder(self.train.images, self.train.fingerprint, **how)

    @cached_property
    def classifier(self) -> tuple:
        """The classifier in a file, or the cached one of the training split; and its file."""
        if self.options.classifier is not None:
            return load_classifier(self.options.classifier), Path(self.options.classifier)
        if self.train.labels is None or len(self.train.labels.unique()) < 2:
            wanted = "wanted a named set with classes, a folder for each class, or --classifier FILE"
            raise ValueError(f"{self.data}: no classes to train the scoring classifier on; {wanted}")
        how = dict(device=self.device, progress=self.progress)
        return cached_classifier(self.train.images, self.train.labels, self.train.fingerprint, **how)


def _check_made(file: str | Path, statistics: Statistics, extractor: Extractor, notes: list[str]) -> None:
    """ValueError if statistics were made by another extractor than this; a note if they do not say by which."""
    if statistics.mu.size != extractor.width:
        raise ValueError(f"{file}: {statistics.mu.size} features, {extractor.name} has {extractor.width}")
    made = statistics.metadata.get("extractor")
    if made is None:
        notes.append(f"{file} does not say how it was made; taken for the mode and the {extractor.name} asked for")
        return
    found, wanted = ((x["mode"], x["hash"], x["resize"]) for x in (made, _identity(extractor)))
    if found != wanted:
        told = [f"{mode} mode by {by[:12]}, {resize}" for mode, by, resize in (found, wanted)]
        raise ValueError(f"{file}: {told[0]}; wanted {told[1]}")


def _identity(extractor: Extractor) -> dict:
    return {name: getattr(extractor, name) for name in ("name", "hash", "mode", "resize")}


def _digest(statistics: Statistics) -> str:
    return hashlib.sha256(statistics.mu.tobytes() + statistics.sigma.tobytes()).hexdigest()


class Found(NamedTuple):
    """A score, its spread where it is a mean over parts, and the fields of its protocol."""

    value: float
    spread: float | None
    facts: dict


@dataclass
class Scale:
    """An extractor, what identifies the reference, and the reference: a split's images, or statistics alone."""

    extractor: Extractor
    identity: str
    source: Yardsticks | None
    given: Statistics | None = None
    splits: int = SPLITS

    def measure(self, images: Tensor, measures: Sequence[str], notes: list[str]) -> dict[str, Found]:
        """What was found, by measure, of uint8 images, which pass the network once."""
        extractor = self.extractor
        if extractor.mode == "official":
            images, before = official_order(images), len(images)
            if len(images) < before:
                notes.append(f"official mode takes whole batches of 256: {len(images)} of {before} images scored")
        if "fid" in measures and len(images) <= extractor.width:
            short = "FAD" if extractor.name.endswith("autoencoder") else "FID"
            notes.append(f"{len(images)} images for {extractor.width} features: {short} is biased upwards, take more")
        self.prepare(measures)
        features = extractor(images)
        facts = dict(extractor=extractor.name, extractor_hash=extractor.hash, mode=extractor.mode)
        facts |= dict(resize=extractor.resize, n=len(images))
        found = {}
        for names, compute in GROUPS.items():
            if wanted := [name for name in names if name in measures]:
                values, more = compute(self, features)
                for name in wanted:
                    found[name] = _found(values[names.index(name)], facts | more)
        return found

    def prepare(self, measures: Sequence[str]) -> None:
        """Build what the measures compare with, so that statistics follow from features that are kept anyway."""
        if NEED_FEATURES & set(measures):
            self.features  # noqa: B018
        if "fid" in measures:
            self.statistics  # noqa: B018

    @cached_property
    def statistics(self) -> Statistics:
        return self.given or self.statistics_file[0]

    @cached_property
    def statistics_file(self) -> tuple[Statistics, Path]:
        real, known = self.source.real, self.__dict__.get("features")
        return cached_statistics(real.images, self.extractor, real.fingerprint, known, **_shape(real))

    @cached_property
    def features(self) -> Tensor:
        real = self.source.real
        return cached_features(real.images, self.extractor, real.fingerprint, **_shape(real))[0]

    @cached_property
    def training_features(self) -> Tensor:
        train = self.source.train
        return cached_features(train.images, self.extractor, train.fingerprint, **_shape(train))[0]

    def floor(self, measure: str, found: Found) -> float | None:
        """The floor that `reference` has left for a protocol and n; None if it has not been asked."""
        file = self._floor_file(measure, found)
        return json.loads(file.read_text()) if file.is_file() else None

    def keep_floor(self, measure: str, found: Found) -> None:
        """Keep what real training images score as the floor of scores by the same protocol."""
        with replacing(self._floor_file(measure, found)) as temporary:
            temporary.write_text(json.dumps(found.value))

    def _floor_file(self, measure: str, found: Found) -> Path:
        return cache_file("floor", ".json", measure=measure, against=self.identity, facts=found.facts)

    def against(self, n: int | None) -> dict:
        return dict(n_reference=n, reference=self.identity)


def _shape(images: ImageSet) -> dict:
    return dict(split=images.split, size=images.images.shape[-1], channels=images.images.shape[1])


def _found(value: float | Spread, facts: dict) -> Found:
    return Found(*value, facts) if isinstance(value, Spread) else Found(value, None, facts)


# measures: values of the group's names, and the fields of the protocol that are theirs


def _fid(scale: Scale, features: Tensor) -> tuple[tuple, dict]:
    value = Statistics.of(features).distance(scale.statistics)
    return (value,), scale.against(scale.statistics.n)


def _kid(scale: Scale, features: Tensor) -> tuple[tuple, dict]:
    chosen = dict(subsets=100, size=min(1000, len(features), len(scale.features)), seed=0)
    about = {"kid_subsets": chosen["subsets"], "kid_subset_size": chosen["size"], "kid_seed": 0}
    return (kid(features, scale.features, **chosen),), scale.against(len(scale.features)) | about


def _is(scale: Scale, features: Tensor) -> tuple[tuple, dict]:
    value = inception_score(scale.extractor.logits(features), scale.splits)
    return (value,), {"is_splits": scale.splits, "n_reference": None, "reference": None}


def _precision_recall(scale: Scale, features: Tensor) -> tuple[tuple, dict]:
    return precision_recall(features, scale.features, k=3), scale.against(len(scale.features)) | {"neighbours": 3}


def _density_coverage(scale: Scale, features: Tensor) -> tuple[tuple, dict]:
    return density_coverage(features, scale.features, k=5), scale.against(len(scale.features)) | {"neighbours": 5}


def _memorisation(scale: Scale, features: Tensor) -> tuple[tuple, dict]:
    train = scale.training_features
    about = {"n_training": len(train), "training": scale.source.train.fingerprint}
    return (memorisation(features, scale.features, train),), scale.against(len(scale.features)) | about


GROUPS: dict[tuple[str, ...], Callable[[Scale, Tensor], tuple[tuple, dict]]] = {
    ("fid",): _fid,
    ("kid",): _kid,
    ("is",): _is,
    ("precision", "recall"): _precision_recall,
    ("density", "coverage"): _density_coverage,
    ("memorisation",): _memorisation,
}
NEED_FEATURES = {"kid", "precision", "recall", "density", "coverage", "memorisation"}
