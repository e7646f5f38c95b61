"""From a config to what is trained: the data as the model will see them, and the model."""

import inspect
from dataclasses import asdict

from torch import nn

from ..config import Config
from ..data import EventSet, ImageSet, is_events, load
from ..errors import UserError
from ..models import KINDS

KIND = {"generate": "generator", "classify": "classifier"}  # of model, by task


def load_split(config: Config, split: str) -> ImageSet | EventSet:
    """A split as the model will see it."""
    model = config.model
    if config.task == "generate" and is_events(config.data):
        raise UserError(f"{config.data}: event frames can be classified (task = 'classify'), not generated")
    if config.events_by != "number" and not is_events(config.data):
        raise UserError(f"{config.data}: images are not cut into frames; events_by has no meaning here")
    size = (model.image_size, model.image_width) if model.image_width else model.image_size
    return load(
        config.data,
        split,
        size=size or None,
        channels=model.image_channels or None,
        time_steps=model.time_steps,
        by=config.events_by,
        root=config.data_root,
        download=config.download,
    )


def shapes(config: Config, data: ImageSet | EventSet) -> dict:
    """What of the model follows from the data: sizes, channels, classes. ValueError where they do not go together."""
    *_, channels, height, width = data.samples.shape
    if config.task == "generate" and height != width:
        raise UserError(f"{config.data}: images must be square, these are {height} x {width}")
    labelled = config.task == "classify" or config.model.head or config.model.conditional
    if labelled and data.labels is None:
        raise UserError(f"{config.data}: no labels; classes come from named sets or from a folder for each class")
    classes = config.model.classes
    if labelled:
        found = max(len(data.classes or ()), int(data.labels.max()) + 1)
        if classes and found > classes:
            raise UserError(f"{config.data}: {found} classes in the data, model.classes is {classes}")
        classes = classes or found
    elif classes:
        raise UserError("config: model.classes means nothing without model.head or model.conditional")
    shapes = {"image_size": height, "image_channels": channels, "classes": classes}
    return shapes | ({"image_width": width} if height != width else {})


def settings(config: Config) -> dict:
    """Arguments of the model, as they are kept with its weights."""
    all_settings = asdict(config.model)
    if config.task == "classify":
        all_settings["head"] = config.model.head or f"{config.model.classes}L"
    own = inspect.signature(KINDS[KIND[config.task]]).parameters
    return {name: value for name, value in all_settings.items() if name in own}


def new_model(config: Config) -> nn.Module:
    """The model of a config whose sizes are known. ValueError if its head does not name the classes of the data."""
    model = KINDS[KIND[config.task]](**settings(config))
    if (head := model.head) is not None and head.classes != config.model.classes:
        raise UserError(
            f"model.head {config.model.head!r} names {head.classes} classes, the data have {config.model.classes}"
        )
    return model


def parameter_groups(model: nn.Module, config: Config) -> list[dict]:
    """What the optimiser trains; the latent's prior apart where it has a learning rate of its own."""
    trained = {name: p for name, p in model.named_parameters() if p.requires_grad}
    if config.prior_lr == 1:
        return [{"params": [*trained.values()]}]
    prior = [trained.pop(name) for name in [*trained] if name.startswith("latent.prior.")]
    return [{"params": [*trained.values()]}, {"params": prior, "lr": config.lr * config.prior_lr}]
