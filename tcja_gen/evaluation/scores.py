"""Scoring the images of a generator, a set of images or a folder of them against a data set.

    fad, fad-official                                Fréchet autoencoder distance of generated images
    fad-reconstruction, fad-official-reconstruction  the same of its reconstructions
    reconstruction, psnr, ssim                       of reconstructions, pixels in [0, 1]
    fid, kid, is, precision, recall,                 on Inception's features of generated images
    density, coverage, memorisation
    fid-classifier, kid-classifier, ...              the same on those of a classifier of the data's own classes

FAD's two modes are explained in `metrics.extractors`, the measures in `metrics.measures`. One set of images feeds every
metric, one pass every metric of a network. Scores by a network of our own compare only with scores by the same one;
FSVAE's published weights, and Inception's, give the literature's figures.

Under `torch.distributed` image i is made by process i mod world; every process then holds all images and
computes the same record, so none waits while another one works.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.distributed as dist
from torch import Tensor

from ..data import ImageSet, load_images
from ..metrics import psnr, ssim, ssim_window
from .generate import quantise, reconstruct, sample
from .protocol import circumstances
from .yardsticks import FEATURE_METRICS, MEASURES, NETWORKS, SPLITS, Found, Options, Scale, Yardsticks

PIXEL_METRICS = ("reconstruction", "psnr", "ssim")
METRICS = (*[name for name in FEATURE_METRICS if name.startswith("fad")], *PIXEL_METRICS)
METRICS += tuple(name for name in FEATURE_METRICS if not name.startswith("fad"))
NUMBER = 5120  # images scored, unless another number is asked for


def score(
    model_or_images,
    data: str | Path,
    metrics: Sequence[str] = ("fad",),
    *,
    optional: bool = False,
    n: int = NUMBER,
    split: str = "test",
    reference: str | Path | None = None,
    autoencoder: str | Path | None = None,
    classifier: str | Path | None = None,
    inception: str | Path | None = None,
    resize: str | None = None,
    is_splits: int | None = None,
    size: int | None = None,
    channels: int | None = None,
    root: str | Path = "data",
    download: bool = False,
    seed: int = 0,
    batch: int = 256,
    device: str | torch.device = "cpu",
    progress: bool = False,
) -> dict:
    """Record of some of `METRICS`; the arguments are those of `evaluate`.

    optional: leave out, with a note, the metrics whose weights, labels or number of images are not there
    """
    options, notes = Options(autoencoder, classifier, inception, resize, is_splits), []
    model = model_or_images if hasattr(model_or_images, "sample") else None
    if not optional:
        _check(metrics, model, n, options, reference)
    progress = progress and not (dist.is_initialized() and dist.get_rank())
    subject = Subject.of(model_or_images, n, seed, size, channels, batch, progress, notes)
    where = dict(size=size or subject.size, channels=channels or subject.channels, root=root, download=download)
    yardsticks = Yardsticks(data, split, where, options, device, progress)
    if optional:
        metrics = _possible(metrics, model, min(subject.n, len(yardsticks.real)), options, notes)
        _check(metrics, model, n, options, reference)
    scales = _scales(yardsticks, metrics, reference, optional, notes)  # before the images: a mistake shows at once
    metrics = [metric for metric in metrics if metric in PIXEL_METRICS or FEATURE_METRICS[metric][0] in scales]
    found = _measured(subject, yardsticks, scales, metrics, notes)
    of_images = reference is None or any(_rebuilt(metric) for metric in metrics)
    about = dict(data=yardsticks.real.name if of_images else str(data), split=split)
    about |= dict(size=where["size"], channels=where["channels"]) | circumstances()
    protocol = {}
    for metric in metrics:
        made = min(subject.n, len(yardsticks.real)) if _rebuilt(metric) else subject.n
        protocol[metric] = subject.facts(made) | found[metric].facts | about
    return dict(
        scores={metric: found[metric].value for metric in metrics},
        floor=_floors(scales, found),
        spread={metric: found[metric].spread for metric in metrics if found[metric].spread is not None},
        protocol=protocol,
        source=subject.source,
        notes=list(dict.fromkeys(notes)),
    )


def reference(
    data: str | Path,
    *,
    split: str = "test",
    n: int = NUMBER,
    size: int | None = None,
    channels: int | None = None,
    root: str | Path = "data",
    download: bool = False,
    autoencoder: str | Path | None = None,
    classifier: str | Path | None = None,
    inception: str | Path | None = None,
    resize: str | None = None,
    device: str | torch.device = "cpu",
    progress: bool = False,
) -> dict:
    """Build and cache what scores need for a data set; its files and hashes, and the floor of every score.

    The floor is the score of n real training images, drawn at random, against the reference: what a perfect
    generator would score at this n, since two finite samples never agree. (Of memorisation it is 1: real images that
    were not trained on.) What cannot be built, Inception without its weights or a classifier without classes, is noted.
    """
    where = dict(size=size, channels=channels, root=root, download=download)
    yardsticks = Yardsticks(data, split, where, Options(autoencoder, classifier, inception, resize), device, progress)
    real, train = yardsticks.real, yardsticks.train
    notes: list[str] = []
    images = _given(train.images, n, 0, None, None, notes)
    network, file = yardsticks.autoencoder
    record = dict(data=real.name, split=split, n_reference=len(real), fingerprint=real.fingerprint)
    record |= dict(autoencoder=str(file), autoencoder_hash=network.hash, statistics={}, floor={})
    built = [name for name in FEATURE_METRICS if not _rebuilt(name) and not name.startswith("memorisation")]
    scales = _scales(yardsticks, built, None, True, notes)
    if "classifier" in scales:
        network, file = yardsticks.classifier
        record |= dict(classifier=str(file), classifier_hash=network.hash)
    possible = _possible(built, None, min(len(images), len(real)), yardsticks.options, notes)
    for network, scale in scales.items():
        names = {FEATURE_METRICS[name][1]: name for name in built if FEATURE_METRICS[name][0] == network}
        record["statistics"][names["fid"]] = str(scale.statistics_file[1])
        wanted = {measure: name for measure, name in names.items() if name in possible}
        record["floor"] |= _floor(scale, images, wanted, notes)
    return record | dict(notes=list(dict.fromkeys(notes)))


def _floor(scale: Scale, images: Tensor, names: dict[str, str], notes: list[str]) -> dict[str, dict]:
    """Score, n and spread of real training images by the names of the metrics; kept for the scores to come."""
    floor = {}
    for measure, found in (scale.measure(images, list(names), notes) if names else {}).items():
        scale.keep_floor(measure, found)
        spread = {} if found.spread is None else {"spread": found.spread}
        floor[names[measure]] = dict(score=found.value, n=found.facts["n"]) | spread
    return floor


FEWEST = dict.fromkeys(MEASURES, 2) | {"precision": 4, "recall": 4, "density": 6, "coverage": 6}


def _rebuilt(metric: str) -> bool:
    return metric.endswith("reconstruction") or metric in PIXEL_METRICS


def _fewest(metric: str, options: Options) -> int:
    """Images that a metric needs at least."""
    network, measure = FEATURE_METRICS.get(metric, ("", "fid"))
    if measure == "is":
        return 2 * (options.is_splits or SPLITS)
    return 256 if network.endswith("official") else FEWEST[measure]


def _possible(metrics: Sequence[str], model, n: int, options: Options, notes: list[str]) -> list[str]:
    """The metrics that a model, or images, n of them and of real ones, take; a note names those that want more."""
    kept = [metric for metric in metrics if model or not _rebuilt(metric)]
    short = {metric: _fewest(metric, options) for metric in kept if n < _fewest(metric, options)}
    notes += [f"{metric} is left out: it needs at least {fewest} images" for metric, fewest in short.items()]
    return [metric for metric in kept if metric not in short]


def _check(metrics: Sequence[str], model, n: int, options: Options, reference) -> None:
    """ValueError for metrics, options and a reference that do not go together."""
    if model is None and (rebuilt := [metric for metric in metrics if _rebuilt(metric)]):
        raise ValueError(f"{', '.join(rebuilt)}: only a model reconstructs; images take fad or fad-official")
    if options.is_splits is not None and options.is_splits < 1:
        raise ValueError(f"IS in {options.is_splits} splits: at least 1 is wanted")
    fewest = {metric: _fewest(metric, options) for metric in metrics} or {"a score": 2}
    if short := [metric for metric in fewest if n < fewest[metric]]:
        raise ValueError(f"n is {n}; {', '.join(short)} needs at least {max(fewest.values())} images")
    if unused := options.unused(metrics):
        raise ValueError(f"{', '.join(metrics)} takes no {' or '.join(unused)}: leave it out")
    needs = [metric for metric in metrics if FEATURE_METRICS.get(metric, ("", "is"))[1] not in ("fid", "is")]
    if reference is not None and needs:
        raise ValueError(f"{', '.join(needs)}: compares with images, and {reference} has statistics; leave one out")


@dataclass
class Subject:
    """What is scored: a model, which makes images by seed, or images that are there."""

    model: object | None
    given: Tensor | None  # uint8 (N, C, H, W)
    rounded: str | None
    source: dict
    n: int
    seed: int
    batch: int
    progress: bool

    @classmethod
    def of(cls, thing, n: int, seed: int, size, channels, batch: int, progress: bool, notes: list[str]) -> "Subject":
        """ValueError for images of another kind or range, before any work."""
        if hasattr(thing, "sample"):
            return cls(thing, None, "rounded to uint8", dict(thing.provenance), n, seed, batch, progress)
        images = _given(thing, n, seed, size, channels, notes)
        rounded = "rounded to uint8" if images.is_floating_point() else None
        name = f"tensor {tuple(thing.shape)}" if isinstance(thing, Tensor) else str(thing)
        return cls(None, quantise(images), rounded, {"images": name}, len(images), seed, batch, progress)

    @property
    def size(self) -> int:
        return self.model.image_size if self.model else self.given.shape[-1]

    @property
    def channels(self) -> int:
        return self.model.image_channels if self.model else self.given.shape[1]

    def samples(self) -> Tensor:
        """uint8 `(n, C, H, W)`."""
        if self.model is None:
            return self.given
        return sample(self.model, range(self.seed, self.seed + self.n), self.batch, self.progress)

    def reconstructions(self, real: ImageSet) -> Tensor:
        """Float `(n, C, H, W)` in [0, 1] of the first n images of a set."""
        return reconstruct(self.model, real.images[: self.n], self.seed, self.batch, self.progress)

    def facts(self, made: int) -> dict:
        """Fields of the protocol that tell how so many images were made."""
        facts = {} if self.model is None else self.model.provenance | {"time_steps": self.model.time_steps}
        facts = {name: facts.get(name) for name in ("time_steps", "weights", "step")}
        facts["classes"] = "seed mod classes" if getattr(self.model, "classes", 0) else None
        facts["seeds"] = [self.seed, self.seed + made - 1] if self.model else None
        return {"quantised": self.rounded} | facts


def _given(images, n: int, seed: int, size: int | None, channels: int | None, notes: list[str]) -> Tensor:
    """At most n images of a tensor, folder or zip: a random choice, for folders are often sorted by class."""
    if not isinstance(images, Tensor):
        images = load_images(images, "all", size=size, channels=channels).images
    if images.dim() != 4 or not (images.dtype == torch.uint8 or images.is_floating_point()):
        raise ValueError(f"images are {images.dtype} {tuple(images.shape)}; wanted uint8 or float (N, C, H, W)")
    if len(images) < n:
        notes.append(f"{len(images)} images where {n} were asked for")
    order = torch.randperm(len(images), generator=torch.Generator().manual_seed(seed))[:n]
    return images[order.sort().values]


def _scales(
    yardsticks: Yardsticks, metrics: Sequence[str], reference, optional: bool, notes: list[str]
) -> dict[str, Scale]:
    """The scale of every network that the metrics want, ready to measure.

    optional: a network whose weights or labels are not there is left out with a note, unless its file was named.
    """
    scales, options = {}, yardsticks.options
    for network in dict.fromkeys(FEATURE_METRICS[metric][0] for metric in metrics if metric in FEATURE_METRICS):
        measures = [
            FEATURE_METRICS[metric][1] for metric in metrics if FEATURE_METRICS.get(metric, "")[:1] == (network,)
        ]
        try:
            if reference is None or measures == ["is"]:
                scale = yardsticks.scale(network)
            else:
                scale = yardsticks.scale_of(network, reference, notes)
        except (ValueError, FileNotFoundError) as error:
            if not optional or network not in NETWORKS or getattr(options, network) is not None:
                raise
            left = [metric for metric in metrics if FEATURE_METRICS.get(metric, "")[:1] == (network,)]
            notes.append(f"{', '.join(left)} left out: {error}")
            continue
        scale.prepare(measures)
        scales[network] = scale
    return scales


def _measured(
    subject: Subject, yardsticks: Yardsticks, scales: dict[str, Scale], metrics: Sequence[str], notes: list[str]
) -> dict[str, Found]:
    """What was found, by metric; images and reconstructions are made once, and only if a metric wants them."""
    rebuilt = [metric for metric in metrics if _rebuilt(metric)]
    generated = [metric for metric in metrics if not _rebuilt(metric)]
    found = {}
    if generated:
        found |= _features(subject.samples(), scales, generated, notes)
    if rebuilt:
        images = subject.reconstructions(yardsticks.real)
        found |= _pixels(images, yardsticks.real, rebuilt) | _features(quantise(images), scales, rebuilt, notes)
    return found


def _features(images: Tensor, scales: dict[str, Scale], metrics: Sequence[str], notes: list[str]) -> dict[str, Found]:
    """What the metrics that are measures of features say of uint8 images."""
    found = {}
    for network, scale in scales.items():
        names = {FEATURE_METRICS[m][1]: m for m in metrics if m in FEATURE_METRICS and FEATURE_METRICS[m][0] == network}
        if names:
            measured = scale.measure(images, list(names), notes)
            found |= {names[measure]: measured[measure] for measure in measured}
    return found


def _floors(scales: dict[str, Scale], found: dict[str, Found]) -> dict[str, float]:
    """What `reference` found real images to score by the same protocol, by metric, where it was asked.

    Reconstructions of the reference's own images have no such floor: perfect ones score 0.
    """
    floors = {}
    for metric in found:
        network, measure = FEATURE_METRICS.get(metric, (None, None))
        if network and not _rebuilt(metric):
            floors[metric] = scales[network].floor(measure, found[metric])
    return {metric: floor for metric, floor in floors.items() if floor is not None}


def _pixels(images: Tensor, real: ImageSet, metrics: Sequence[str]) -> dict[str, Found]:
    """What the metrics say that compare float reconstructions in [0, 1] with their originals."""
    originals = real.images[: len(images)].float() / 255
    facts = dict(n=len(images), reference=real.fingerprint, quantised="no")
    compute = {"reconstruction": _squared_error, "psnr": psnr, "ssim": ssim}
    more = {"reconstruction": "pixels in [0, 1]; FSVAE's figure, in [-1, 1], is 4 times this"}
    more |= {"psnr": "pixels in [0, 1]; mean over images", "ssim": f"pixels in [0, 1]; window {ssim_window(images)}"}
    wanted = [metric for metric in metrics if metric in PIXEL_METRICS]
    return {name: Found(compute[name](images, originals), None, facts | {"range": more[name]}) for name in wanted}


def _squared_error(images: Tensor, originals: Tensor) -> float:
    return float((images.double() - originals.double()).square().mean())
