"""The data of a training run: training and validation samples, and the settings that follow from them."""

from collections.abc import Mapping
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from ..data import Batches, EventSet, ImageSet, even, fit_splits, full_count, is_events, load, parse_kinds, place
from ..errors import UserError
from ..evaluation.generate import as_input
from ..nn import makes_frames
from ..process import Process, bf16_units, first_ahead, start
from .config import Config, fold_of

VALIDATION = 1024  # most validation images by which the checkpoints of a generator are scored

Splits = Mapping[str, ImageSet | None]  # splits that were passed in Python, see `data.splits_of`


@dataclass
class Samples:
    """The two splits that a training run needs."""

    train: ImageSet | EventSet
    validation: ImageSet | EventSet
    judged: Tensor
    """Indices of the validation samples by which checkpoints are scored."""
    facts: dict
    """Facts about the data, for records and checkpoints."""

    @classmethod
    def of(cls, config: Config, process: Process, given: Splits | None = None) -> "Samples":
        """The splits of `config.data`, or the `given` ones. UserError if they do not suit the task."""
        if given is None:
            with first_ahead(process):
                train = load_split(config, "train")
            validation = load_split(config, "validation")
        else:
            size, channels = config.model.image_size or None, config.model.image_channels or None
            train, validation = fit_splits(given, size, channels).values()
        total = len(validation)
        judged = even(total if config.task == "classify" else VALIDATION, total)
        facts = {"name": train.name, "source": config.data, "fingerprint": train.fingerprint, "images": len(train)}
        facts |= place(config.data, config.data_root) if given is None else {"given": True}
        if isinstance(train, EventSet):
            facts["by"] = config.events_by
            facts |= {"fold": list(fold)} if (fold := fold_of(config)) else {}
        if train.classes:
            facts["classes"] = list(train.classes)
        return cls(train, validation, judged, facts)

    def complete(self, config: Config) -> Config:
        """`config` with the sizes, channels and classes that follow from the data."""
        return replace(config, model=replace(config.model, **shapes(config, self.train, self.validation)))

    def batches(self, config: Config, process: Process) -> Batches:
        """The training samples in batches."""
        return Batches(
            self.train,
            config.batch,
            seed=config.seed,
            flip=config.flip,
            shift=config.shift,
            augment=parse_kinds(config.augment),
            mixup=config.mixup,
            classes=config.model.classes,
            rank=process.rank,
            world=process.world,
            device=process.device,
        )

    def validation_batch(self, chosen: Tensor, classes: int, device: torch.device) -> tuple[Tensor, Tensor | None]:
        """Validation samples by index as a model takes them, images (N, C, H, W) in [-1, 1] or event frames
        (T, N, C, H, W), and their targets (N, K), one-hot; None without classes."""
        data = self.validation
        x = data.samples[chosen].to(device).float()
        x = x.transpose(0, 1) if isinstance(data, EventSet) else x / 127.5 - 1
        if data.labels is None or not classes:
            return x, None
        return x, nn.functional.one_hot(data.labels[chosen], classes).float().to(device)

    def originals(self, n: int) -> Tensor:
        """Up to n validation samples as a generator takes them in use: images (n, C, H, W) in [0, 1], or event counts
        (n, T, 2, H, W)."""
        return as_input(self.validation.samples[even(n, len(self.validation))])


def prepare(config: Config, given: Splits | None = None) -> tuple[Config, Process, Samples]:
    """What a run needs before its first step: the config with the values for "auto" and 0, this process, the data."""
    process = start(config.device)
    if config.precision == "auto":
        config = replace(config, precision="bf16" if bf16_units(process.device) else "fp32")
    samples = Samples.of(config, process, given)
    return samples.complete(config), process, samples


def load_split(config: Config, split: str) -> ImageSet | EventSet:
    """A split of `config.data` with the size and channels of the model. UserError if it does not suit the task."""
    model = config.model
    _check_readout(config)
    if config.events_by != "number" and not is_events(config.data):
        raise UserError(f"{config.data}: images are not cut into frames; events_by has no meaning here")
    if config.folds and not is_events(config.data):
        raise UserError(f"{config.data}: images; folds are of event recordings, leave it out")
    width = getattr(model, "image_width", 0)
    if width not in (0, model.image_size) and not is_events(config.data):
        raise UserError(f"{config.data}: images, which are square here; model.image_width is for event recordings")
    size = (model.image_size, width) if width else model.image_size
    return load(
        config.data,
        split,
        size=size or None,
        channels=model.image_channels or None,
        time_steps=model.time_steps,
        by=config.events_by,
        root=config.data_root,
        download=config.download,
        fold=fold_of(config),
    )


def _check_readout(config: Config) -> None:
    """UserError if a generator's readout makes images of event recordings, or frames of images."""
    if config.task != "generate" or is_events(config.data) == makes_frames(config.model.readout):
        return
    made = f"images; readout {config.model.readout!r} makes event frames"
    if is_events(config.data):
        made = "event recordings; a generator of them has --model.readout frames (recipe n-mnist)"
    raise UserError(f"{config.data}: {made}")


def shapes(config: Config, data: ImageSet | EventSet, validation: ImageSet | EventSet) -> dict[str, int]:
    """Settings of the model that follow from the data, the training split: sizes, channels, the count of a full pixel;
    and classes, which may be in either split. UserError for data that do not fit."""
    *_, channels, height, width = data.samples.shape
    if config.task == "generate" and height != width:
        raise UserError(f"{config.data}: images must be square, these are {height} x {width}")
    sizes = {"image_size": height, "image_channels": channels, "classes": _classes(config, data, validation)}
    if config.task == "generate" and isinstance(data, EventSet):
        sizes["full_count"] = config.model.full_count or full_count(data)
    return sizes | ({"image_width": width} if height != width else {})


def _classes(config: Config, *splits: ImageSet | EventSet) -> int:
    """K, the number of classes of the model; 0 if it does not use classes."""
    asked = config.model.classes
    if not (config.task == "classify" or config.model.head or config.model.conditional):
        if asked:
            raise UserError("config: model.classes has no meaning without model.head or model.latent.conditional")
        return 0
    if any(split.labels is None for split in splits):
        raise UserError(f"{config.data}: no labels; classes come from named sets or from a folder for each class")
    present = max(max(len(split.classes or ()), int(split.labels.max()) + 1) for split in splits)
    if asked and present > asked:
        raise UserError(f"{config.data}: {present} classes in the data, model.classes is {asked}")
    return asked or present
