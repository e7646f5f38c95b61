"""Scoring the images of a generator, a set of images or a folder of them against a data set.

    fad, fad-official                                Fréchet autoencoder distance of generated images
    fad-reconstruction, fad-official-reconstruction  the same of its reconstructions
    reconstruction, psnr, ssim                       of reconstructions, pixels in [0, 1]
    fid, kid, is, precision, recall,                 on Inception's features of generated images
    density, coverage, memorisation
    fid-classifier, kid-classifier, ...              the same on those of a classifier of the data's own classes
    is-fsvae                                         IS as FSVAE's code has it, which is not the standard one

FAD's two modes are explained in `metrics.extractors`, the measures in `metrics.measures`. One set of images feeds every
metric, one pass every metric of a network. Scores by a network of our own compare only with scores by the same one;
FSVAE's published weights, and Inception's, give the literature's figures. Networks of our own look at 32 pixels a
side, and from images of 48 on at their own size (the autoencoder at the next power of 2, up to 128), by another name.

Under `torch.distributed` image i is made by process i mod world; every process then holds all images and
computes the same record, so none waits while another one works.
"""

from collections.abc import Sequence
from dataclasses import replace
from math import isfinite
from pathlib import Path
from statistics import mean, stdev

import torch
import torch.distributed as dist
from torch import Tensor

from ..data import ImageSet
from ..errors import UserError
from ..metrics import Part, ReferenceFile, identity, psnr, ssim, ssim_window, write_reference
from .generate import quantise
from .protocol import circumstances
from .subjects import Subject, drawn, given
from .yardsticks import (
    FAD,
    FEATURE_METRICS,
    MEASURES,
    NEED_FEATURES,
    SPLITS,
    WEIGHTS,
    Found,
    Options,
    Scale,
    Yardsticks,
)

PIXEL_METRICS = ("reconstruction", "psnr", "ssim")
METRICS = (*[name for name in FEATURE_METRICS if name.startswith("fad")], *PIXEL_METRICS)
METRICS += tuple(name for name in FEATURE_METRICS if not name.startswith("fad"))
NUMBER = 5120  # images scored, unless another number is asked for


def score(
    model_or_images,
    data: str | Path | None,
    metrics: Sequence[str] = ("fad",),
    *,
    optional: bool = False,
    n: int = NUMBER,
    repeats: int | None = None,
    split: str = "test",
    reference: str | Path | None = None,
    autoencoder: str | Path | None = None,
    classifier: str | Path | None = None,
    inception: str | Path | None = None,
    torchvision: str | Path | None = None,
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
    options, notes = Options(autoencoder, classifier, inception, torchvision, resize, is_splits), []
    model = model_or_images if hasattr(model_or_images, "sample") else None
    _check_repeats(repeats, model)
    if not optional:
        _check(metrics, model, n, options)  # before files are read, again when it is known how many images there are
    progress = progress and not (dist.is_initialized() and dist.get_rank())
    subject = Subject.of(model_or_images, n, seed, size, channels, batch, progress, notes)
    where = dict(size=size or subject.size, channels=channels or subject.channels, root=root, download=download)
    file = None if reference is None else _reference_file(reference, split, where)
    yardsticks = Yardsticks(data, split, where, options, device, progress, file)
    if optional:
        most = min(subject.n, yardsticks.n)
        metrics = _offered(_possible(metrics, model, most, options, notes), yardsticks, notes)
    _check(metrics, model, subject.n, options)
    _check_reference(metrics, yardsticks, options)
    scales = _scales(yardsticks, metrics, optional, notes)  # before the images: a mistake shows at once
    metrics = [metric for metric in metrics if metric in PIXEL_METRICS or FEATURE_METRICS[metric][0] in scales]
    sets = [replace(subject, seed=seed + i * n) for i in range(repeats or 1)]
    found = _finite(_joint([_measured(one, yardsticks, scales, metrics, notes) for one in sets]), notes)
    metrics = [metric for metric in metrics if metric in found]
    about = _about(yardsticks, metrics) | {"repeats": len(sets) if model else None} | circumstances()
    protocol = {}
    for metric in metrics:
        made = min(n, len(yardsticks.real)) if _rebuilt(metric) else subject.n
        protocol[metric] = subject.facts(made, len(sets)) | found[metric].facts | about
    return dict(
        scores={metric: found[metric].value for metric in metrics},
        floor=_floors(scales, found),
        spread={metric: found[metric].spread for metric in metrics if found[metric].spread is not None},
        repeats={metric: found[metric].sets for metric in metrics if found[metric].sets},
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
    torchvision: str | Path | None = None,
    resize: str | None = None,
    out: str | Path | None = None,
    device: str | torch.device = "cpu",
    progress: bool = False,
) -> dict:
    """Build and cache what scores need for a data set; its files and hashes, and the floor of every score.

    The floor is the score of n real training images, drawn at random, against the reference: what a perfect
    generator would score at this n, since two finite samples never agree. (Of memorisation it is 1: real images that
    were not trained on.) What cannot be built, Inception without its weights or a classifier without classes, is noted.

    out: an .npz for all of it but Inception's weights; `evaluate(..., reference=out)` then scores without the data
    """
    if out is not None and Path(out).suffix != ".npz":
        raise UserError(f"{out}: a reference is an .npz; give it that ending")
    where = dict(size=size, channels=channels, root=root, download=download)
    options = Options(autoencoder, classifier, inception, torchvision, resize)
    yardsticks = Yardsticks(data, split, where, options, device, progress)
    real, train = yardsticks.real, yardsticks.train
    notes: list[str] = []
    images = given(train.images, n, 0, None, None, notes)
    network, file = yardsticks.autoencoder
    record = dict(data=real.name, split=split, n_reference=len(real), fingerprint=real.fingerprint)
    record |= dict(autoencoder=str(file), autoencoder_hash=network.hash, statistics={}, floor={})
    built = [name for name in FEATURE_METRICS if not _rebuilt(name) and not name.startswith("memorisation")]
    scales = _scales(yardsticks, built, True, notes)
    if "classifier" in scales:
        network, file = yardsticks.classifier
        record |= dict(classifier=str(file), classifier_hash=network.hash)
    possible = _possible(built, None, min(len(images), len(real)), options, notes)
    floors: dict[str, float] = {}
    for network, scale in scales.items():
        names = {FEATURE_METRICS[name][1]: name for name in built if FEATURE_METRICS[name][0] == network}
        if "fid" in names:
            record["statistics"][names["fid"]] = str(scale.statistics_file[1])
        wanted = {measure: name for measure, name in names.items() if name in possible}
        record["floor"] |= _floor(scale, images, wanted, floors, notes)
    if out is not None:
        _write(out, yardsticks, scales, floors)
        record["file"] = str(out)
    return record | dict(notes=list(dict.fromkeys(notes)))


def _write(out: str | Path, yardsticks: Yardsticks, scales: dict[str, Scale], floors: dict[str, float]) -> None:
    """All that the scales compare with as one file, with the weights of our own networks; by the first process."""
    if dist.is_initialized() and dist.get_rank():
        return
    real, parts, weights = yardsticks.real, {}, {}
    for network, scale in scales.items():
        if network != "torchvision":  # IS compares with nothing
            features = None if network in FAD.values() else scale.features
            parts[network] = Part(identity(scale.extractor), scale.statistics, features)
        if network in ("autoencoder", "classifier"):
            weights[network] = getattr(yardsticks, network)[0].state_dict()
    facts = dict(data=real.name, split=real.split, n=len(real), fingerprint=real.fingerprint, floors=floors)
    facts |= dict(size=real.images.shape[-1], channels=real.images.shape[1])
    write_reference(out, facts, parts, weights)


def _floor(scale: Scale, images: Tensor, names: dict[str, str], floors: dict, notes: list[str]) -> dict[str, dict]:
    """Score, n and spread of real training images by the names of the metrics; kept in the cache, and in `floors`."""
    floor = {}
    for measure, found in _finite(scale.measure(images, list(names), notes) if names else {}, notes).items():
        scale.keep_floor(measure, found)
        floors[scale.floor_name(measure, found)] = found.value
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
    return 256 if network.endswith("official") or measure == "is-fsvae" else FEWEST[measure]


def _possible(metrics: Sequence[str], model, n: int, options: Options, notes: list[str]) -> list[str]:
    """The metrics that a model, or images, n of them and of real ones, take; a note names those that want more."""
    kept = [metric for metric in metrics if model or not _rebuilt(metric)]
    if not getattr(model, "prior_is_trained", True):
        notes.append("scores of samples are left out: the model's prior was never trained")
        kept = [metric for metric in kept if _rebuilt(metric)]
    short = {metric: _fewest(metric, options) for metric in kept if n < _fewest(metric, options)}
    notes += [f"{metric} is left out: it needs at least {fewest} images" for metric, fewest in short.items()]
    return [metric for metric in kept if metric not in short]


def _offered(metrics: Sequence[str], yardsticks: Yardsticks, notes: list[str]) -> list[str]:
    """The metrics that the reference has everything for; a note tells those that lack something, and what."""
    lacks = {metric: _lack(metric, yardsticks) for metric in metrics}
    for reason in dict.fromkeys(filter(None, lacks.values())):
        left = [metric for metric in metrics if lacks[metric] == reason]
        notes.append(f"{', '.join(left)} left out: {reason}")
    return [metric for metric in metrics if lacks[metric] is None]


def _lack(metric: str, yardsticks: Yardsticks) -> str | None:
    if _rebuilt(metric) and yardsticks.file:
        try:
            yardsticks.real  # noqa: B018
        except UserError as error:
            return str(error)
    return yardsticks.lacks(*FEATURE_METRICS[metric]) if metric in FEATURE_METRICS else None


def _check(metrics: Sequence[str], model, n: int, options: Options) -> None:
    """ValueError for metrics and options that do not go together."""
    if model is None and (rebuilt := [metric for metric in metrics if _rebuilt(metric)]):
        raise UserError(f"{', '.join(rebuilt)}: only a model reconstructs; images take fad or fad-official")
    if not getattr(model, "prior_is_trained", True) and not all(map(_rebuilt, metrics)):
        model.check_prior()
    if options.is_splits is not None and options.is_splits < 1:
        raise UserError(f"IS in {options.is_splits} splits: at least 1 is wanted")
    fewest = {metric: _fewest(metric, options) for metric in metrics} or {"a score": 2}
    if short := [metric for metric in fewest if n < fewest[metric]]:
        needed = max(fewest[metric] for metric in short)
        raise UserError(f"n is {n}; {', '.join(short)} needs at least {needed} images")
    if unused := options.unused(metrics):
        raise UserError(f"{', '.join(metrics)} takes no {' or '.join(unused)}: leave it out")


def _check_reference(metrics: Sequence[str], yardsticks: Yardsticks, options: Options) -> None:
    """ValueError where there are too few images to compare with, or to reconstruct."""
    fewest = {metric: _fewest(metric, options) for metric in metrics if _rebuilt(metric)}
    measures = {metric: FEATURE_METRICS[metric][1] for metric in metrics if metric in FEATURE_METRICS}
    fewest |= {metric: FEWEST[name] for metric, name in measures.items() if name in NEED_FEATURES}
    if short := [metric for metric in fewest if yardsticks.n < fewest[metric]]:
        needed = max(fewest[metric] for metric in short)
        raise UserError(f"{', '.join(short)} needs at least {needed} images to compare with, found {yardsticks.n}")


def _check_repeats(repeats: int | None, model) -> None:
    if repeats is None:
        return
    if model is None:
        raise UserError(f"repeats {repeats}: images are one set; only a model makes others by other seeds")
    if repeats < 2:
        raise UserError(f"repeats is {repeats}; a spread over sets of seeds wants at least 2")


def _reference_file(file: str | Path, split: str, where: dict) -> ReferenceFile:
    """A reference that goes with the images to score and with the split that was asked for."""
    read = ReferenceFile(file)
    if not read.published:
        made, wanted = ((x["size"], x["channels"]) for x in (read.facts, where))
        if made != wanted:
            told = f"made of images {made[0]} pixels a side with {made[1]} channels, those to score have"
            raise UserError(f"{file}: {told} {wanted[0]} and {wanted[1]}; tcja-gen reference --size --channels")
        if read.facts["split"] != split:
            raise UserError(f"{file}: of the {read.facts['split']} split; {split} was asked for")
    return read


def _about(yardsticks: Yardsticks, metrics: Sequence[str]) -> dict:
    """Fields of the protocol that tell what the images were compared with."""
    shape = {name: yardsticks.where[name] for name in ("size", "channels")}
    file = yardsticks.file
    if file and not file.published:
        return dict(data=file.facts["data"], split=yardsticks.split) | shape
    of_images = file is None or any(_rebuilt(metric) for metric in metrics)
    name = yardsticks.real.name if of_images else str(yardsticks.data or file)
    return dict(data=name, split=yardsticks.split) | shape


def _scales(yardsticks: Yardsticks, metrics: Sequence[str], optional: bool, notes: list[str]) -> dict[str, Scale]:
    """The scale of every network that the metrics want, ready to measure.

    optional: a network whose weights or labels are not there is left out with a note, unless its file was named.
    """
    scales = {}
    for network in dict.fromkeys(FEATURE_METRICS[metric][0] for metric in metrics if metric in FEATURE_METRICS):
        names = [metric for metric in metrics if FEATURE_METRICS.get(metric, "")[:1] == (network,)]
        measures = [FEATURE_METRICS[metric][1] for metric in names]
        try:
            scale = yardsticks.scale(network, measures, notes)
        except UserError as error:
            if not optional or network not in WEIGHTS or getattr(yardsticks.options, network) is not None:
                raise
            notes.append(f"{', '.join(names)} left out: {error}")
            continue
        scale.prepare(measures)
        scales[network] = scale
    return scales


def _joint(sets: list[dict[str, Found]]) -> dict[str, Found]:
    """One of each metric: of the only set, or the mean over several, its standard deviation (n - 1), and theirs."""
    if len(sets) == 1:
        return sets[0]
    values = {metric: [found[metric].value for found in sets] for metric in sets[0]}
    spreads = {metric: stdev(x) if all(map(isfinite, x)) else None for metric, x in values.items()}
    return {m: Found(mean(x), spreads[m], sets[0][m].facts, x) for m, x in values.items()}


def _finite(found: dict, notes: list[str]) -> dict:
    """What was found without scores that are not finite, which say nothing and cannot be written; notes name them."""
    lost = [name for name in found if not isfinite(found[name].value)]
    copies = "; the held-out images are copies of training images"
    for name in lost:
        why = copies if name.startswith("memorisation") else ""
        notes.append(f"{name} is left out: it is {found[name].value}, not a number{why}")
    return {name: one for name, one in found.items() if name not in lost}


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
    originals = drawn(real, len(images)).float() / 255
    facts = dict(n=len(images), reference=real.fingerprint, quantised="no")
    compute = {"reconstruction": _squared_error, "psnr": psnr, "ssim": ssim}
    more = {"reconstruction": "pixels in [0, 1]; FSVAE's figure, in [-1, 1], is 4 times this"}
    more |= {"psnr": "pixels in [0, 1]; mean over images", "ssim": f"pixels in [0, 1]; window {ssim_window(images)}"}
    wanted = [metric for metric in metrics if metric in PIXEL_METRICS]
    return {name: Found(compute[name](images, originals), None, facts | {"range": more[name]}) for name in wanted}


def _squared_error(images: Tensor, originals: Tensor) -> float:
    return float((images.double() - originals.double()).square().mean())
