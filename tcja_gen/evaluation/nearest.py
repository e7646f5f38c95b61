"""A picture of the samples that are nearest to training images, with those training images below them.

A record with a score of memorisation names ten samples in its part "nearest", the nearest first:

    image     number of the sample: that of its seed, counted from the first one; or of the image in the folder
    training  number of the training image
    distance  of their features, divided by the mean distance of held-out real images to their nearest training image

The picture shows real images. Think of their licence, and of the people in them, before you pass it on.
"""

from dataclasses import replace

import torch
from torch import Tensor

from .generate import quantise
from .metric_names import IMAGES
from .pictures import rows
from .real_images import RealImages
from .request import Request
from .subjects import Subject


def nearest_picture(record: dict, model_or_images, request: Request) -> Tensor:
    """uint8 `(3, H, W)`: a row of samples, and a row of their nearest training images, for a record of this request."""
    found = record["nearest"]
    subject = Subject.of(model_or_images, replace(request, n=request.n or IMAGES), [])
    shape = dict(size=request.size or subject.size, channels=request.channels or subject.channels)
    training = RealImages(replace(request, **shape), subject.frames).training_images([row["training"] for row in found])
    return rows([("sample", _shown(subject, [row["image"] for row in found])), ("nearest", training / 255)])


@torch.no_grad()
def _shown(subject: Subject, chosen: list[int]) -> Tensor:
    """The images of a subject by their numbers, floats in [0, 1]."""
    if subject.model is None:
        places = chosen if subject.numbers is None else torch.searchsorted(subject.numbers, torch.tensor(chosen))
        return subject.images[places] / 255
    made = subject.model.sample([subject.seed + i for i in chosen])  # by this process alone
    return quantise(subject.frames.images(made) if subject.frames else made) / 255
