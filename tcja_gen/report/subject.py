"""What a report is about: a run, a checkpoint, a file of weights or a pretrained model, with its data and its images.

Whatever takes time is computed once, when it is first asked for.
"""

from functools import cached_property
from pathlib import Path

import torch
from torch import Tensor

from ..data import EventSet, ImageSet, even
from ..errors import UserError
from ..evaluation import energy
from ..evaluation.classification import load_for, own_data
from ..evaluation.generate import as_input
from ..models import load, store
from ..shipped import weights
from ..training import recipes, runs
from ..training.config import Config

SHOWN = 64  # samples, at most, over which gates and firing rates are averaged


class Subject:
    """name: of a run, checkpoint, file or pretrained model. data_root: folder of named data sets; "": the run's own."""

    def __init__(self, name: str | Path, data_root: str | Path = ""):
        self.name, self.model = str(name), load(name)
        self.root = data_root or self.model.provenance.get("data", {}).get("root", "data")
        self.file = store.find(name)
        self.run = _run(Path(name), self.file)

    @property
    def kind(self) -> str:
        """ "generator" or "classifier"."""
        return self.model.kind

    @property
    def samples_are_made(self) -> bool:
        """Whether the model makes images: it is a generator, and its prior is trained."""
        return self.kind == "generator" and self.model.prior_is_trained

    @property
    def makes_events(self) -> bool:
        """Whether its samples are event frames."""
        return self.kind == "generator" and self.model.full_count > 0

    @cached_property
    def stages(self) -> dict[str, Path]:
        """Folders of the run's stages that have been trained, by name; of a run without stages itself, as ""."""
        if not self.run:
            return {}
        trained = [stage for stage in store.stages(self.run) if store.steps(stage)]
        return {stage.name.split("-", 2)[2]: stage for stage in trained} or {"": self.run}

    @cached_property
    def config(self) -> Config | None:
        """The settings of the run; None for weights alone, which do not keep those of their training."""
        if not self.run or not (self.run / "config.toml").is_file():
            return None
        return recipes.load(self.run / "config.toml")

    @property
    def settings(self) -> dict:
        """The settings of the model, which its file keeps."""
        return store.settings_of(self.file)

    @cached_property
    def environment(self) -> dict:
        """Content of environment.json of the run; {} if it has none."""
        return runs.environment_of(self.run) if self.run else {}

    @property
    def card(self) -> str:
        """The text that ships with a pretrained model; "" for others."""
        path = weights().get(self.name)
        pretrained = path and not self.run
        return path.with_suffix(".md").read_text(encoding="utf-8") if pretrained else ""

    # data and images

    def split(self, name: str) -> ImageSet | EventSet:
        """A split of the data that the model was trained on. UserError or OSError if they are not at hand."""
        if name not in self._splits:
            data = own_data(self.model, self.root)
            self._splits[name] = load_for(self.model, data, name, self.root)
        return self._splits[name]

    @cached_property
    def _splits(self) -> dict:
        return {}

    def validation(self, n: int) -> Tensor:
        """Up to n validation samples as the model takes them: images (n, C, H, W) in [0, 1], or event frames."""
        data = self.split("validation")
        return as_input(data.samples[even(n, len(data))])

    @cached_property
    def shown(self) -> tuple[Tensor, str]:
        """Validation samples, or random ones; and which they are. See `shown_samples`."""
        try:
            return self.validation(SHOWN), f"validation samples of {self.split('validation').name}"
        except (UserError, OSError):
            return random_samples(self.model), "random samples, since the data are not at hand"

    @cached_property
    def sampled(self) -> tuple[Tensor, list[energy.Row] | UserError]:
        """Samples of the seeds 0 to 63, and the operations that they took, by layer (or why those are not known)."""
        images: list[Tensor] = []
        try:
            rows = energy.operations(self.model, lambda: images.append(self.model.sample(range(SHOWN))), SHOWN)
        except UserError as error:
            images, rows = [self.model.sample(range(SHOWN))], error
        return images[0].cpu(), rows

    def use(self, samples: Tensor) -> Tensor:
        """Reconstructs, or classifies."""
        return (self.model.reconstruct if self.kind == "generator" else self.model.classify)(samples)


def shown_samples(model) -> tuple[Tensor, str]:
    """Up to 64 validation samples of the model's own data, or random ones if they are not at hand; which they are."""
    root = model.provenance.get("data", {}).get("root", "data")
    try:
        data = load_for(model, own_data(model, root), "validation", root)
    except (UserError, OSError):
        return random_samples(model), "random samples"
    return as_input(data.samples[even(SHOWN, len(data))]), f"validation samples of {data.name}"


def random_samples(model) -> Tensor:
    frames = (model.time_steps,) if model.image_channels == 2 else ()
    sides = (model.image_size, model.image_width)
    x = torch.rand(SHOWN, *frames, model.image_channels, *sides, generator=torch.Generator().manual_seed(0))
    return (x < 0.1).float() if frames else x


def _run(given: Path, file: Path) -> Path | None:
    """The run folder of a model's file; of a run with stages, if that was given, the whole run. None if it has none."""
    if (given / "config.toml").is_file() and file.is_relative_to(given):
        return given
    return store.run_of(file)
