"""Yardsticks: a network that makes features, the reference that they are measured against, and what to measure.

A metric is a measure of the features of one network:

    network      weights                                                     names
    autoencoder  FSVAE's, or trained on the data, in two modes               fad, fad-official
    inception    Inception-2015 (`metrics.inception`)                        fid, kid, is, precision, ...
    classifier   trained on the data's labels (`metrics.classifier`)         fid-classifier, kid-classifier, ...
    torchvision  torchvision's Inception v3 (`metrics.inception`)            is-fsvae

One pass over the images feeds all measures of a network, dealt out to all processes. A reference is a split's images,
whose statistics are kept where FID alone wants them and whose features where another measure does; or a file of these.
"""

import json
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

from torch import Tensor

from ..cache import Entry, entry, key
from ..data import ImageSet, load_images
from ..errors import UserError
from ..files import write
from ..metrics import (
    INCEPTION,
    LARGEST_SIDE,
    TORCHVISION,
    AutoencoderFeatures,
    ClassifierFeatures,
    Extractor,
    InceptionFeatures,
    Published,
    ReferenceFile,
    Spread,
    Statistics,
    TorchvisionFeatures,
    autoencoder_side,
    cached_autoencoder,
    cached_classifier,
    cached_features,
    cached_statistics,
    density_coverage,
    identity,
    inception_score,
    kid,
    kid_subsets,
    load_autoencoder,
    load_classifier,
    memorisation,
    official_order,
    precision_recall,
    side,
)
from ..process import first_ahead, here
from .generate import Dealt

MEASURES = ("fid", "kid", "is", "precision", "recall", "density", "coverage", "memorisation")
FLOORS = 2  # version of the kept floors
SPLITS = 10  # of IS
FSVAE_SPLIT, FSVAE_SPLITS = 256, 10  # images a split of FSVAE's IS, and how many at most
FAD = {"fad": "autoencoder", "fad-official": "autoencoder-official"}
FAD |= {f"{name}-reconstruction": network for name, network in FAD.items()}
NETWORKS = {"inception": "", "classifier": "-classifier"}  # and how their metrics' names end
WEIGHTS = (*NETWORKS, "torchvision")  # that may not be to be had
FEATURE_METRICS = {name: (network, "fid") for name, network in FAD.items()} | {
    measure + ending: (network, measure) for network, ending in NETWORKS.items() for measure in MEASURES
}  # name: (network, measure)
FEATURE_METRICS["is-fsvae"] = ("torchvision", "is-fsvae")


@dataclass(frozen=True)
class Options:
    """What a user may choose about the networks; None is the default."""

    autoencoder: str | Path | None = None  # file of weights
    classifier: str | Path | None = None
    inception: str | Path | None = None
    torchvision: str | Path | None = None
    resize: str | None = None  # clean, tf1 or torch
    is_splits: int | None = None

    def unused(self, metrics: Sequence[str]) -> list[str]:
        """Names of the options that none of these metrics looks at."""
        pairs = [FEATURE_METRICS[metric] for metric in metrics if metric in FEATURE_METRICS]
        networks, measures = {_own(network) for network, _ in pairs}, {measure for _, measure in pairs}
        used = {name: name in networks for name in ("autoencoder", "classifier", "inception", "torchvision")}
        used |= {"resize": "inception" in networks, "is_splits": "is" in measures}
        return [name for name, taken in used.items() if getattr(self, name) is not None and not taken]


def _own(network: str) -> str:
    """What has the weights of a network: its name without the mode."""
    return network.split("-")[0]


class Yardsticks:
    """The networks and references of one data set and split; each is loaded or trained when it is first asked for.

    file: a reference that takes the place of the split's images; then the data may be None.
    """

    def __init__(
        self,
        data: str | Path | None,
        split: str,
        where: dict,
        options: Options,
        device="cpu",
        progress=False,
        file: ReferenceFile | None = None,
    ):
        self.data, self.split, self.where, self.options = data, split, where, options
        self.device, self.progress, self.file = device, progress, file

    @cached_property
    def real(self) -> ImageSet:
        return self._images(self.split)

    @cached_property
    def train(self) -> ImageSet:
        return self._images("train")

    @property
    def n(self) -> float:
        """Images of the reference, as far as it says."""
        return len(self.real) if self.file is None else self.file.facts.get("n", math.inf)

    def _images(self, split: str) -> ImageSet:
        if self.data is None or str(self.data) == "":
            held = f"{self.file}: has no images of the {split} split" if self.file else "nothing to compare with"
            raise UserError(f"{held}; name the data set, too")
        return load_images(self.data, split, **self.where)

    def scale(self, network: str, measures: Sequence[str], notes: list[str]) -> "Scale":
        """The scale of a network, whose reference is the split's own images, or the file if it fits the network."""
        splits = self.options.is_splits or SPLITS
        if _own(network) == "autoencoder" and (self.where["size"] or 0) > LARGEST_SIDE:
            notes.append(f"FAD looks at {LARGEST_SIDE} pixels a side and is blind to detail beyond, take fid, too")
        if self.file is None:
            return Scale(self.extractor(network), self, splits)
        if reasons := list(filter(None, (self.lacks(network, measure) for measure in measures))):
            raise UserError(reasons[0])
        extractor = self.extractor(network)
        if not ALONE.issuperset(measures):
            _check_made(self.file, network, extractor, notes)
        return FileScale(extractor, self, splits, network)

    def lacks(self, network: str, measure: str) -> str | None:
        """What the reference lacks for a measure of a network, in a line; None if nothing."""
        file, own = self.file, _own(network)
        if file is None or measure in ALONE:
            return None
        if measure == "memorisation":
            return f"{file} has no training images to compare with"
        if not file.holds(network):
            return f"{file} has nothing of the {network}"
        if measure in NEED_FEATURES and not file.holds(network, "features"):
            return f"{file} has no features of the {network} to compare with"
        if file.extractor(network) is None and own != "inception" and getattr(self.options, own) is None:
            return f"{file} does not say which {own} made it; give that {own}'s file too"
        return None

    def extractor(self, network: str) -> Extractor:
        """ValueError or FileNotFoundError, one line, if its weights are not to be had."""
        return Dealt(self._extractor(network), self.progress)

    def _extractor(self, network: str) -> Extractor:
        if network == "inception":
            file = self._found(INCEPTION, self.options.inception)
            return InceptionFeatures(file, self.options.resize or "clean", self.device)
        if network == "torchvision":
            return TorchvisionFeatures(self._found(TORCHVISION, self.options.torchvision), self.device)
        if network == "classifier":
            return ClassifierFeatures(self.classifier[0])
        return AutoencoderFeatures(self.autoencoder[0], "official" if network.endswith("official") else "eval")

    def _found(self, weights: Published, given: str | Path | None) -> Path:
        """The file of weights; the first process fetches it for all."""
        with first_ahead(here(self.device), self.where["download"]):
            return weights.find(given, self.where["download"])

    def _weights(self, network: str) -> str | Path | None:
        """File with the weights of a network of our own: named, or the reference."""
        named = getattr(self.options, network)
        return named or (self.file.file if self.file and self.file.holds(network, "weights") else None)

    @cached_property
    def autoencoder(self) -> tuple:
        """The autoencoder in a file, or the cached one of the training split; and its file."""
        if file := self._weights("autoencoder"):
            return load_autoencoder(file), Path(file)
        how = dict(size=autoencoder_side(self.train.images), device=self.device, progress=self.progress)
        return cached_autoencoder(self.train.images, self.train.fingerprint, **how)

    @cached_property
    def classifier(self) -> tuple:
        """The classifier in a file, or the cached one of the training split; and its file."""
        if file := self._weights("classifier"):
            return load_classifier(file), Path(file)
        if self.train.labels is None or len(self.train.labels.unique()) < 2:
            wanted = "wanted a named set with classes, a folder for each class, or --classifier FILE"
            raise UserError(f"{self.data}: no classes to train the scoring classifier on; {wanted}")
        how = dict(size=side(self.train.images), device=self.device, progress=self.progress)
        return cached_classifier(self.train.images, self.train.labels, self.train.fingerprint, **how)


def _check_made(file: ReferenceFile, network: str, extractor: Extractor, notes: list[str]) -> None:
    """ValueError if statistics were made by another extractor than this; a note if they do not say by which."""
    statistics = file.statistics(network)
    if statistics.mu.size != extractor.width:
        raise UserError(f"{file}: {statistics.mu.size} features, {extractor.name} has {extractor.width}")
    made = file.extractor(network)
    if made is None:
        notes.append(f"{file} does not say how it was made; taken for the mode and the {extractor.name} asked for")
        return
    found, wanted = ((x["mode"], x["hash"], x["resize"]) for x in (made, identity(extractor)))
    if found != wanted:
        told = [f"{mode} mode by {by[:12]}, {resize}" for mode, by, resize in (found, wanted)]
        raise UserError(f"{file}: {told[0]}; wanted {told[1]}")


class Found(NamedTuple):
    """A score, its spread where it is a mean over parts, the fields of its protocol, and the parts if they are sets."""

    value: float
    spread: float | None
    facts: dict
    sets: list[float] | None = None


@dataclass
class Scale:
    """An extractor, and the split's images that its features are compared with."""

    extractor: Extractor
    source: Yardsticks
    splits: int = SPLITS

    def measure(self, images: Tensor, measures: Sequence[str], notes: list[str]) -> dict[str, Found]:
        """What was found, by measure, of uint8 images, which pass the network once."""
        extractor, images = self.extractor, self._taken(images, notes)
        if "fid" in measures and len(images) <= extractor.width:
            short = "FAD" if "autoencoder" in extractor.name else "FID"
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

    def _taken(self, images: Tensor, notes: list[str]) -> Tensor:
        """The images that the network is shown: all, or whole batches where the score is defined by batches."""
        name, most = ROUNDS.get(self.extractor.mode, (None, None))
        if name is None:
            return images
        taken = official_order(images)[:most]
        if len(taken) < len(images):
            notes.append(f"{name} takes whole batches of 256: {len(taken)} of {len(images)} images scored")
        return taken

    def prepare(self, measures: Sequence[str]) -> None:
        """Build what the measures compare with, so that statistics follow from features that are kept anyway."""
        if NEED_FEATURES & set(measures):
            self.features  # noqa: B018
        if "fid" in measures:
            self.statistics  # noqa: B018

    @property
    def identity(self) -> str:
        return self.source.real.fingerprint

    @cached_property
    def statistics(self) -> Statistics:
        return self.statistics_file[0]

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
        return self._floor(measure, found).get()

    def keep_floor(self, measure: str, found: Found) -> None:
        """Keep what real training images score as the floor of scores by the same protocol."""
        text = json.dumps({"score": found.value}, allow_nan=False)
        self._floor(measure, found).keep(found.value, lambda file: write(file, text))

    def _floor(self, measure: str, found: Found) -> Entry[float]:
        return entry("floor", ".json", FLOORS, _score_in, **self._floor_facts(measure, found))

    def floor_name(self, measure: str, found: Found) -> str:
        """Of a floor in a reference file."""
        return f"floor-{key(**self._floor_facts(measure, found))}"

    def _floor_facts(self, measure: str, found: Found) -> dict:
        return dict(measure=measure, against=self.identity, facts=found.facts)

    def against(self, n: int | None) -> dict:
        return dict(n_reference=n, reference=self.identity)


@dataclass
class FileScale(Scale):
    """An extractor, and the statistics and features in a file that its own are compared with."""

    network: str = ""

    @property
    def identity(self) -> str:
        return self.source.file.fingerprint

    @cached_property
    def statistics(self) -> Statistics:
        return self.source.file.statistics(self.network)

    @cached_property
    def features(self) -> Tensor:
        return self.source.file.features(self.network)

    def floor(self, measure: str, found: Found) -> float | None:
        """The floor in the file, or else one of this machine."""
        floors = self.source.file.facts.get("floors", {})
        return floors.get(self.floor_name(measure, found), super().floor(measure, found))


def _score_in(file: Path) -> float:
    return float(json.loads(file.read_text(encoding="utf-8"))["score"])


def _shape(images: ImageSet) -> dict:
    return dict(split=images.split, size=images.images.shape[-1], channels=images.images.shape[1])


def _found(value: float | Spread, facts: dict) -> Found:
    return Found(*value, facts) if isinstance(value, Spread) else Found(value, None, facts)


# measures: values of the group's names, and the fields of the protocol that are theirs


def _fid(scale: Scale, features: Tensor) -> tuple[tuple, dict]:
    value = Statistics.of(features).distance(scale.statistics)
    return (value,), scale.against(scale.statistics.n)


def _kid(scale: Scale, features: Tensor) -> tuple[tuple, dict]:
    subsets, size = kid_subsets(len(features), len(scale.features))
    about = {"kid_subsets": subsets, "kid_subset_size": size, "kid_seed": 0}
    return (kid(features, scale.features, subsets, size, seed=0),), scale.against(len(scale.features)) | about


def _is(scale: Scale, features: Tensor) -> tuple[tuple, dict]:
    value = inception_score(scale.extractor.logits(features), scale.splits)
    return (value,), {"is_splits": scale.splits, "n_reference": None, "reference": None}


def _is_fsvae(scale: Scale, features: Tensor) -> tuple[tuple, dict]:
    splits = len(features) // FSVAE_SPLIT
    value = inception_score(scale.extractor.logits(features), splits)
    about = {"is_splits": splits, "n_reference": None, "reference": None}
    return (value,), about | {"standard": "no: FSVAE's, not to be compared with any other IS"}


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
    ("is-fsvae",): _is_fsvae,
    ("precision", "recall"): _precision_recall,
    ("density", "coverage"): _density_coverage,
    ("memorisation",): _memorisation,
}
NEED_FEATURES = {"kid", "precision", "recall", "density", "coverage", "memorisation"}
ALONE = {"is", "is-fsvae"}  # compare with nothing
ROUNDS = {"official": ("official mode", None), TorchvisionFeatures.mode: ("is-fsvae", FSVAE_SPLIT * FSVAE_SPLITS)}
