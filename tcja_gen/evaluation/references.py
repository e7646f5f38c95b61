"""What features are compared with: those of the real images, computed and cached, or those in a reference file.

Statistics (mean and covariance) are kept where FID alone needs them, all features where another measure does.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from torch import Tensor

from ..data import ImageSet
from ..errors import UserError
from ..metrics import (
    LARGEST_SIDE,
    Extractor,
    ReferenceFile,
    Statistics,
    cached_features,
    cached_statistics,
    identity,
)
from .metric_names import IS_SPLITS, METRICS, ON_REFERENCE_FEATURES, WITHOUT_REFERENCE, by_measure, weights_of
from .networks import FeatureNetworks
from .real_images import RealImages
from .request import Request
from .summed_frames import SummedFrames

FEW = 5000  # training images; an autoencoder of fewer has features that one odd image can excite


@dataclass
class Reference:
    """The features of the real images by one network; computed when they are first asked for, and cached."""

    extractor: Extractor
    real: RealImages
    is_splits: int = IS_SPLITS

    @property
    def fingerprint(self) -> str:
        """What tells this reference from another one."""
        return self.real.reference.fingerprint

    @property
    def floors(self) -> dict[str, float]:
        """Floors that come with the reference, by `floors.floor_name`."""
        return {}

    @cached_property
    def statistics(self) -> Statistics:
        return self.statistics_file[0]

    @cached_property
    def statistics_file(self) -> tuple[Statistics, Path]:
        real, known = self.real.reference, self.__dict__.get("features")
        return cached_statistics(real.images, self.extractor, real.fingerprint, known, **_cache_facts(real))

    @cached_property
    def features(self) -> Tensor:
        """float32 `(N, D)`."""
        real = self.real.reference
        return cached_features(real.images, self.extractor, real.fingerprint, **_cache_facts(real))[0]

    @cached_property
    def accuracy(self) -> float | None:
        """Share of the real images whose class a classifier names; None for another network, or without classes."""
        labels = self.real.reference.labels if self.extractor.name.startswith("classifier") else None
        if labels is None or int(labels.max()) >= self.extractor.classes:
            return None
        return int((self.extractor.logits(self.features).argmax(1) == labels).sum()) / len(labels)

    @property
    def class_names(self) -> list[str]:
        """The names of a classifier's classes, or their numbers."""
        return [*(self.real.reference.classes or map(str, range(self.extractor.classes)))]

    @cached_property
    def training_features(self) -> Tensor:
        """float32 `(N, D)`, of the training split."""
        train = self.real.training
        return cached_features(train.images, self.extractor, train.fingerprint, **_cache_facts(train))[0]

    def prepare(self, measures: Iterable[str]) -> None:
        """Compute what the measures compare with. Features come first: the statistics then need no second pass."""
        if ON_REFERENCE_FEATURES.intersection(measures):
            self.features  # noqa: B018
        if "fid" in measures:
            self.statistics  # noqa: B018

    def facts(self, n: int | None) -> dict:
        """Fields of the protocol of a measure that compares with n real images."""
        return dict(n_reference=n, reference=self.fingerprint)


@dataclass
class FileReference(Reference):
    """The statistics and features that a file holds of one network."""

    file: ReferenceFile | None = None
    network: str = ""

    @property
    def fingerprint(self) -> str:
        return self.file.fingerprint

    @property
    def floors(self) -> dict[str, float]:
        return self.file.facts.get("floors", {})

    @property
    def accuracy(self) -> float | None:
        return self.file.facts.get("classifier_accuracy") if self.network == "classifier" else None

    @property
    def class_names(self) -> list[str]:
        return [*(self.file.facts.get("classes") or map(str, range(self.extractor.classes)))]

    @cached_property
    def statistics(self) -> Statistics:
        return self.file.statistics(self.network)

    @cached_property
    def features(self) -> Tensor:
        return self.file.features(self.network)


class References:
    """The references of all networks for one request, whose size and channels are known."""

    def __init__(self, request: Request, frames: SummedFrames | None = None):
        self.request, self.real = request, RealImages(request, frames)
        self.file = None if request.reference is None else _fitting_file(request)
        self.networks = FeatureNetworks(request, self.real, self.file)

    @property
    def n(self) -> float:
        """Number of real images; infinite where the file does not say."""
        return len(self.real.reference) if self.file is None else self.file.facts.get("n", math.inf)

    @property
    def other_images(self) -> str:
        """Why reconstructions cannot be scored by the file, in a line: they are of other images; "" if not."""
        known = self.file and self.file.facts.get("fingerprint")
        if known in (None, self.real.reference.fingerprint):
            return ""
        return (
            f"{self.file} is of other images than {self.request.data}, which are reconstructed: leave one of them out"
        )

    def ready(self, names: Sequence[str], notes: list[str]) -> dict[str, Reference]:
        """The reference of every network that the metrics need, by network, with everything computed.

        If all metrics are asked for, a network without weights or labels is left out with a note, unless its file was
        named.
        """
        references = {}
        for network in dict.fromkeys(METRICS[name].network for name in names if METRICS[name].network):
            wanted = by_measure(names, network)
            try:
                reference = self._reference(network, list(wanted), notes)
            except UserError as error:
                if not self._optional(network):
                    raise
                notes.append(f"{', '.join(wanted.values())} left out: {error}")
                continue
            reference.prepare(wanted)
            references[network] = reference
        return references

    def _optional(self, network: str) -> bool:
        own = weights_of(network)
        return self.request.everything and own != "autoencoder" and getattr(self.request, own) is None

    def _reference(self, network: str, measures: Sequence[str], notes: list[str]) -> Reference:
        if weights_of(network) == "autoencoder" and (self.request.size or 0) > LARGEST_SIDE:
            notes.append(f"FAD looks at {LARGEST_SIDE} pixels a side and is blind to detail beyond, take fid, too")
        splits = self.request.is_splits or IS_SPLITS
        if network.startswith("autoencoder") and self.networks.trains_autoencoder:
            if (seen := len(self.real.training)) < FEW:
                notes.append(f"the scoring autoencoder has seen {seen:,} images: single samples can move FAD by it")
        if missing := list(filter(None, (self.missing(network, measure) for measure in measures))):
            raise UserError(missing[0])
        if self.file is None:
            return Reference(self.networks.extractor(network), self.real, splits)
        extractor = self.networks.extractor(network)
        if not WITHOUT_REFERENCE.issuperset(measures):
            _check_extractor(self.file, network, extractor, notes)
        return FileReference(extractor, self.real, splits, self.file, network)

    def missing(self, network: str, measure: str) -> str | None:
        """What a measure of a network's features needs and the split or the file does not have, in a line; None if
        nothing."""
        file, own = self.file, weights_of(network)
        if measure == "memorisation" and not self.request.held_out:
            return (
                f"memorisation compares with images that were not trained on; the split {self.request.split} has others"
            )
        if file is None or measure in WITHOUT_REFERENCE:
            return None
        if measure == "memorisation":
            return f"{file} has no training images to compare with"
        if not file.holds(network):
            return f"{file} has nothing of the {network}"
        if measure in ON_REFERENCE_FEATURES and not file.holds(network, "features"):
            return f"{file} has no features of the {network} to compare with"
        if file.extractor(network) is None and own != "inception" and getattr(self.request, own) is None:
            return f"{file} does not say which {own} made it; give its weights, too: {self.request.spell(own)}"
        return None

    def facts(self, names: Sequence[str]) -> dict:
        """Fields of the protocol that tell which real images the metrics compare with."""
        asked, file = self.request, self.file
        where = dict(split=asked.split, size=asked.size, channels=asked.channels)
        where |= {"fold": list(self.real.fold)} if self.real.fold else {}
        if file and not file.published:
            return dict(data=file.facts["data"]) | where
        loaded = file is None or any(METRICS[name].of == "reconstructions" for name in names)
        return dict(data=self.real.reference.name if loaded else Path(str(asked.data or file)).name) | where


def _cache_facts(images: ImageSet) -> dict:
    return dict(split=images.split, size=images.images.shape[-1], channels=images.images.shape[1])


def _fitting_file(request: Request) -> ReferenceFile:
    """The reference file of a request; UserError if it is of images of another shape or of another split."""
    file = ReferenceFile(request.reference)
    if file.published:
        return file
    size, channels = file.facts["size"], file.facts["channels"]
    if (size, channels) != (request.size, request.channels):
        told = f"made of images {size} pixels a side with {channels} channels, those to score have"
        raise UserError(f"{file}: {told} {request.size} and {request.channels}; tcja-gen reference --size --channels")
    if file.facts["split"] != request.split:
        raise UserError(f"{file}: of the {file.facts['split']} split; {request.split} was asked for")
    return file


def _check_extractor(file: ReferenceFile, network: str, extractor: Extractor, notes: list[str]) -> None:
    """UserError if another extractor made the statistics in a file; a note if the file does not say which one did."""
    statistics = file.statistics(network)
    if statistics.mu.size != extractor.width:
        raise UserError(f"{file}: {statistics.mu.size} features, {extractor.name} has {extractor.width}")
    made_by = file.extractor(network)
    if made_by is None:
        notes.append(f"{file} does not say how it was made; taken for the mode and the {extractor.name} asked for")
        return
    found, wanted = ((x["mode"], x["hash"], x["resize"]) for x in (made_by, identity(extractor)))
    if found != wanted:
        told = [f"{mode} mode by {weights[:12]}, {resize}" for mode, weights, resize in (found, wanted)]
        raise UserError(f"{file}: {told[0]}; wanted {told[1]}")
