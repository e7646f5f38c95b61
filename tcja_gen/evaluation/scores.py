"""Scoring the images of a generator, a set of images or a folder of them against a data set.

    fad, fad-official                                Fréchet autoencoder distance of generated images
    fad-reconstruction, fad-official-reconstruction  the same of its reconstructions
    reconstruction                                   mean squared error of reconstructions in [0, 1]

The two modes are explained in `metrics.extractors`. One set of images feeds every metric. Scores by an
autoencoder of our own compare only with scores by the same one; FSVAE's published weights give the
literature's figures.

Under `torch.distributed` image i is made by process i mod world; every process then holds all images and
computes the same record, so none waits while another one works.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.distributed as dist
from torch import Tensor

from ..data import ImageSet, load_images
from ..metrics import (
    Autoencoder,
    AutoencoderFeatures,
    Statistics,
    cached_autoencoder,
    cached_statistics,
    fad,
    load_autoencoder,
    official_order,
)
from .generate import quantise, reconstruct, sample
from .protocol import circumstances

METRICS = ("fad", "fad-official", "fad-reconstruction", "fad-official-reconstruction", "reconstruction")
NUMBER = 5120  # images scored, unless another number is asked for


def score(
    model_or_images,
    data: str | Path,
    metrics: Sequence[str] = ("fad",),
    *,
    n: int = NUMBER,
    split: str = "test",
    reference: str | Path | None = None,
    autoencoder: str | Path | None = None,
    size: int | None = None,
    channels: int | None = None,
    root: str | Path = "data",
    download: bool = False,
    seed: int = 0,
    batch: int = 256,
    device: str | torch.device = "cpu",
    progress: bool = False,
) -> dict:
    """Record of some of `METRICS`; the arguments are those of `evaluate`."""
    model = model_or_images if hasattr(model_or_images, "sample") else None
    _check(metrics, model, n)
    progress = progress and not (dist.is_initialized() and dist.get_rank())
    notes: list[str] = []
    given = None if model else _given(model_or_images, n, seed, size, channels, notes)
    rounded = "rounded to uint8" if model or given.is_floating_point() else None
    given = None if model else quantise(given)  # refuses values out of range before any work
    size = size or (model.image_size if model else given.shape[-1])
    channels = channels or (model.image_channels if model else given.shape[1])
    where = dict(size=size, channels=channels, root=root, download=download)

    modes = dict.fromkeys(_mode(metric) for metric in metrics if metric != "reconstruction")
    rebuilt = [metric for metric in metrics if metric.endswith("reconstruction")]
    real = load_images(data, split, **where) if rebuilt or (modes and reference is None) else None
    scales = {}
    if modes:  # before the images are made: a mistake in a file should show at once
        statistics = None if reference is None else _statistics(reference, autoencoder, notes)
        network = _autoencoder(data, autoencoder, where, device, progress)[0]
        for mode in modes:
            extract = AutoencoderFeatures(network, mode)
            scales[mode] = _read(extract, statistics, reference) if reference else _built(extract, real)[0]
    generated = rebuilds = None
    if len(rebuilt) < len(metrics):
        generated = sample(model, range(seed, seed + n), batch, progress) if model else given
    if rebuilt:
        rebuilds = reconstruct(model, real.images[:n], seed, batch, progress)

    scores, protocol = {}, {}
    about = dict(data=real.name if real else str(data), split=split, size=size, channels=channels)
    about |= _facts(model) | circumstances()
    for metric in metrics:
        images = rebuilds if metric in rebuilt else generated
        if metric == "reconstruction":
            scores[metric], facts = _squared_error(images, real)
        else:
            scores[metric], facts = scales[_mode(metric)].score(quantise(images), notes)
            facts["quantised"] = rounded
        facts["seeds"] = [seed, seed + len(images) - 1] if model else None
        protocol[metric] = facts | about
    source = dict(model.provenance) if model else {"images": _name(model_or_images)}
    return dict(scores=scores, protocol=protocol, source=source, notes=list(dict.fromkeys(notes)))


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
    device: str | torch.device = "cpu",
    progress: bool = False,
) -> dict:
    """Build and cache what FAD needs for a data set; its files and hashes, and the floor.

    The floor is the FAD of n real training images, drawn at random, against the reference in either mode:
    what a perfect generator would score at this n, since two finite samples never agree.
    """
    where = dict(size=size, channels=channels, root=root, download=download)
    real, train = load_images(data, split, **where), load_images(data, "train", **where)
    network, file = _autoencoder(data, autoencoder, where, device, progress)
    record = dict(data=real.name, split=split, n_reference=len(real), fingerprint=real.fingerprint)
    record |= dict(autoencoder=str(file), autoencoder_hash=network.hash, statistics={}, floor={})
    notes: list[str] = []
    images = _given(train.images, n, 0, None, None, notes)
    for metric in ("fad", "fad-official"):
        scale, file = _built(AutoencoderFeatures(network, _mode(metric)), real)
        record["statistics"][metric] = str(file)
        if len(images) < 256 and metric == "fad-official":
            notes.append("no floor of fad-official: it needs 256 training images")
        else:
            value, facts = scale.score(images, notes)
            record["floor"][metric] = dict(score=value, n=facts["n"])
    return record | dict(notes=list(dict.fromkeys(notes)))


def _check(metrics: Sequence[str], model, n: int) -> None:
    if model is None and (rebuilt := [metric for metric in metrics if metric.endswith("reconstruction")]):
        raise ValueError(f"{', '.join(rebuilt)}: only a model reconstructs; images take fad or fad-official")
    if n < (fewest := 256 if any(_mode(metric) == "official" for metric in metrics) else 2):
        raise ValueError(f"n is {n}; {', '.join(metrics)} needs at least {fewest} images")


def _mode(metric: str) -> str:
    return "official" if metric.startswith("fad-official") else "eval"


def _name(images) -> str:
    return f"tensor {tuple(images.shape)}" if isinstance(images, Tensor) else str(images)


def _facts(model) -> dict:
    facts = {} if model is None else model.provenance | {"time_steps": model.time_steps}
    found = {name: facts.get(name) for name in ("time_steps", "weights", "step")}
    return found | {"classes": "seed mod classes" if getattr(model, "classes", 0) else None}


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


# yardsticks


@dataclass
class Scale:
    """FAD in one mode: the extractor, the statistics of the reference, and what identifies that reference."""

    extractor: AutoencoderFeatures
    statistics: Statistics
    identity: str

    def score(self, images: Tensor, notes: list[str]) -> tuple[float, dict]:
        """FAD of uint8 images, and the fields of its protocol that belong to the scale."""
        extractor = self.extractor
        n = len(official_order(images)) if extractor.mode == "official" else len(images)
        if n < len(images):
            notes.append(f"official mode takes whole batches of 256: {n} of {len(images)} images scored")
        if n <= extractor.width:
            notes.append(f"{n} images for {extractor.width} features: FAD is biased upwards, take more")
        facts = dict(extractor=extractor.name, extractor_hash=extractor.hash, mode=extractor.mode)
        facts |= dict(resize=extractor.resize, n=n, n_reference=self.statistics.n, reference=self.identity)
        return fad(images, self.statistics, extractor), facts


def _autoencoder(data, file, where: dict, device, progress: bool) -> tuple[Autoencoder, Path]:
    """The autoencoder in a file, or the cached one of the training split; and its file."""
    if file is not None:
        return load_autoencoder(file), Path(file)
    train = load_images(data, "train", **where)
    return cached_autoencoder(train.images, train.fingerprint, device=device, progress=progress)


def _built(extractor: AutoencoderFeatures, real: ImageSet) -> tuple[Scale, Path]:
    """The scale of a split's own statistics, and their file in the cache."""
    facts = dict(split=real.split, size=real.images.shape[-1], channels=real.images.shape[1])
    statistics, file = cached_statistics(real.images, extractor, real.fingerprint, **facts)
    return Scale(extractor, statistics, real.fingerprint), file


def _statistics(file: str | Path, autoencoder, notes: list[str]) -> Statistics:
    """A statistics file; one that does not say how it was made needs its autoencoder named."""
    statistics = Statistics.load(file)
    if "extractor" not in statistics.metadata:
        if autoencoder is None:
            raise ValueError(f"{file}: does not say which autoencoder made it; give that autoencoder's file too")
        notes.append(f"{file} does not say how it was made; taken for the mode and the autoencoder asked for")
    return statistics


def _read(extractor: AutoencoderFeatures, statistics: Statistics, file: str | Path) -> Scale:
    """The scale of a statistics file. One that says how it was made must agree with the extractor."""
    made = statistics.metadata.get("extractor")
    if made is not None and (made["mode"], made["hash"]) != (extractor.mode, extractor.hash):
        found = f"{made['mode']} mode by autoencoder {made['hash'][:12]}"
        raise ValueError(f"{file}: {found}; wanted {extractor.mode} mode by {extractor.hash[:12]}")
    numbers = hashlib.sha256(statistics.mu.tobytes() + statistics.sigma.tobytes()).hexdigest()
    return Scale(extractor, statistics, statistics.metadata.get("fingerprint", numbers))


def _squared_error(images: Tensor, real: ImageSet) -> tuple[float, dict]:
    """Mean squared error of float reconstructions in [0, 1], and the fields of its protocol."""
    originals = real.images[: len(images)].double() / 255
    facts = dict(n=len(images), reference=real.fingerprint, quantised="no")
    facts["range"] = "pixels in [0, 1]; FSVAE's figure, in [-1, 1], is 4 times this"
    return float((images.double() - originals).square().mean()), facts
