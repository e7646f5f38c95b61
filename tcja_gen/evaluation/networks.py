"""The networks whose features are measured: read from a file, fetched, or trained on the data and cached."""

from functools import cached_property
from pathlib import Path

from ..errors import UserError
from ..metrics import (
    AUTOENCODERS,
    INCEPTION,
    TORCHVISION,
    Autoencoder,
    AutoencoderFeatures,
    Classifier,
    ClassifierFeatures,
    DINOv2Features,
    Extractor,
    InceptionFeatures,
    Published,
    ReferenceFile,
    TorchvisionFeatures,
    autoencoder_side,
    cached_autoencoder,
    cached_classifier,
    find_dinov2,
    load_autoencoder,
    load_classifier,
    side,
)
from ..process import first_ahead, this_process
from .generate import DistributedExtractor
from .real_images import RealImages
from .request import Request


class FeatureNetworks:
    """The networks of a request; each is made ready when it is first asked for.

    file: a reference that may hold the weights of the autoencoder and the classifier
    """

    def __init__(self, request: Request, real: RealImages, file: ReferenceFile | None = None):
        self.request, self.real, self.file = request, real, file

    def extractor(self, network: str) -> Extractor:
        """A network of `metric_names.METRICS`; UserError or MissingFile, one line, if its weights cannot be had."""
        return DistributedExtractor(self._extractor(network), self.request.shows_progress)

    def _extractor(self, network: str) -> Extractor:
        device = self.request.device
        if network == "inception":
            file = self._published(INCEPTION, "inception")
            return InceptionFeatures(file, self.request.resize or "clean", device)
        if network == "torchvision":
            return TorchvisionFeatures(self._published(TORCHVISION, "torchvision"), device)
        if network == "dinov2":
            return DINOv2Features(
                find_dinov2(self.request.dinov2, f"{self.request.spell('dinov2')} names a file"), device
            )
        if network == "classifier":
            return ClassifierFeatures(self.classifier[0])
        return AutoencoderFeatures(self.autoencoder[0], "official" if network.endswith("official") else "eval")

    def _published(self, weights: Published, option: str, named: bool = False) -> Path:
        """The file of published weights; the first process fetches it for all. named: the option's value is their name,
        not a file."""
        asked = self.request
        advice = f"{asked.spell('download')} fetches them, {asked.spell(option)} names a file"
        with first_ahead(this_process(asked.device), asked.download):
            return weights.find(None if named else getattr(asked, option), asked.download, advice)

    @property
    def trains_autoencoder(self) -> bool:
        """Whether the autoencoder is trained on the training split, as none was named."""
        return str(self.request.autoencoder) not in AUTOENCODERS and not self._file("autoencoder")

    @cached_property
    def autoencoder(self) -> tuple[Autoencoder, Path]:
        """The autoencoder and its file: the one asked for, or the one trained on the training split."""
        if weights := AUTOENCODERS.get(str(self.request.autoencoder)):
            file = self._published(weights, "autoencoder", named=True)
            weights.check(file)
            return load_autoencoder(file), file
        if file := self._file("autoencoder"):
            return load_autoencoder(file), Path(file)
        train = self.real.training
        return cached_autoencoder(train.images, train.fingerprint, size=autoencoder_side(train.images), **self._how)

    @cached_property
    def classifier(self) -> tuple[Classifier, Path]:
        """The classifier and its file: the one asked for, or the one trained on the training split."""
        if file := self._file("classifier"):
            return load_classifier(file), Path(file)
        train = self.real.training
        if train.labels is None or len(train.labels.unique()) < 2:
            wanted = "wanted a named set with classes, a folder for each class, or a file of weights"
            told = f"{self.request.data}: no classes to train the scoring classifier on"
            raise UserError(f"{told}; {wanted} by {self.request.spell('classifier')}")
        return cached_classifier(train.images, train.labels, train.fingerprint, size=side(train.images), **self._how)

    def _file(self, network: str) -> str | Path | None:
        """The file that holds a network of our own: the one asked for, else the reference."""
        in_reference = self.file is not None and self.file.holds(network, "weights")
        return getattr(self.request, network) or (self.file.file if in_reference else None)

    @property
    def _how(self) -> dict:
        return dict(device=self.request.device, progress=self.request.shows_progress)
