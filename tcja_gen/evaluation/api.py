"""The two functions of the Python API that score: `evaluate`, and `reference`, which prepares what scores need."""

import os
from collections.abc import Sequence
from pathlib import Path

import torch

from ..models import load
from ..models.store import is_model
from .dispatch import score
from .preparation import prepare
from .protocol import Record
from .request import Request


def evaluate(
    model_or_images,
    data: str | Path | None,
    metrics: str | Sequence[str] = (),
    *,
    n: int | None = None,
    repeats: int | None = None,
    split: str = "test",
    reference: str | Path | None = None,
    autoencoder: str | Path | None = None,
    classifier: str | Path | None = None,
    inception: str | Path | None = None,
    torchvision: str | Path | None = None,
    dinov2: str | Path | None = None,
    recogniser: str | Path | None = None,
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
) -> Record:
    """Score a model or images against `data`.

    Returns a JSON-ready record: scores, protocols, source and notes. `protocol` describes it.

    model_or_images: a classifier; a generator, with `sample` and `reconstruct`; what `load` finds, such as a run's
        folder; images `(N, C, H, W)`, uint8 or float in [0, 1]; or the path of a folder or zip of images
    data: the name of a data set, or the path of a folder or zip. None if `reference` is a file that holds all that the
        metrics compare with
    metrics: names from `metric_names.METRICS`, as a list or as "fad,psnr". None given: fad for what makes images,
        accuracy for what predicts classes. "all": all that apply; a note names each that cannot be computed because
        weights, labels or images are missing
    n: number of images to score. Of a model: the samples of the seeds seed .. seed + n - 1, and the reconstructions of
        n images of the split. Of given images: a random choice of n if there are more. Default 5120. For accuracy:
        number of samples of the split, drawn by `seed`; default all
    split: the split to score against: train, validation, test, train+validation or all
    root: folder of the named data sets
    download: fetch the named data set and Inception's weights if they are missing
    seed: first seed
    device: where the autoencoder and the classifier are trained, and where Inception runs. A model stays where it is,
        one that is given by its name is loaded there
    batch: images that a model makes in one call; changes no score
    progress: show progress bars on stderr

    Options of metrics of images. They are refused where no metric uses them:

    repeats: score a model on so many sets of n seeds, one after another; gives the mean and the standard deviation
    reference: an .npz that `reference` wrote, or with published `mu` and `sigma`. None: computed from the split, cached
    autoencoder, classifier: file of weights, FSVAE's or ours. None: the ones in `reference`, or trained once, cached
    recogniser: run of a classifier for `recognition`
    inception, torchvision: file of weights. None: found by `metrics.Published.find`
    dinov2: file of weights. None: found by `metrics.find_dinov2`
    resize: how images are resized for Inception: clean (default), tf1 or torch; see `metrics.inception`
    is_splits: number of parts over which IS is averaged; default 10
    size, channels: shape of the real images. None: that of the model or of the images

    UserError (a ValueError) or MissingFile (a FileNotFoundError), one line, for a mistake in any of these.
    """
    request = Request(
        **dict(data=data, metrics=metrics, n=n, repeats=repeats, split=split, reference=reference),
        **dict(autoencoder=autoencoder, classifier=classifier, inception=inception, torchvision=torchvision),
        **dict(resize=resize, is_splits=is_splits, size=size, channels=channels, root=root, download=download),
        **dict(dinov2=dinov2, recogniser=recogniser, seed=seed, batch=batch, device=device, progress=progress),
    )
    if isinstance(model_or_images, str | os.PathLike) and is_model(model_or_images):
        model_or_images = load(model_or_images, device)
    return Record(score(model_or_images, request))


def reference(
    data: str | Path,
    *,
    split: str = "test",
    n: int | None = None,
    size: int | None = None,
    channels: int | None = None,
    root: str | Path = "data",
    download: bool = False,
    autoencoder: str | Path | None = None,
    classifier: str | Path | None = None,
    inception: str | Path | None = None,
    torchvision: str | Path | None = None,
    dinov2: str | Path | None = None,
    resize: str | None = None,
    out: str | Path | None = None,
    device: str | torch.device = "cpu",
    progress: bool = False,
) -> dict:
    """Compute and cache what scores need for a data set: networks, features, statistics and the floor of every score.

    Returns the files, their hashes and the floors. The floor is the score of n real training images, drawn at random,
    against the reference: a perfect generator would score the same at this n, since two finite samples never agree.
    (The floor of memorisation is 1: real images that were not trained on.) A note names what cannot be computed:
    Inception without its weights, a classifier without classes.

    n: training images for the floor; default 5120
    out: an .npz to write all of it to, except Inception's weights; `evaluate(..., reference=out)` then needs no data
    The other arguments are those of `evaluate`.
    """
    request = Request(
        **dict(data=data, metrics="all", split=split, n=n, size=size, channels=channels, root=root, download=download),
        **dict(autoencoder=autoencoder, classifier=classifier, inception=inception, torchvision=torchvision),
        **dict(dinov2=dinov2, resize=resize, device=device, progress=progress),
    )
    return prepare(request, out)
