"""Commands that train."""

from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Annotated

from tyro.conf import Positional, arg

from ..config import Config, Model, load
from ..errors import MissingFile, UserError
from .common import data_exists, run_exists, start
from .images import Interpolate, Reconstruct, Sample
from .scores import Evaluate

DEMO = Config(
    steps=1000,
    batch=64,
    warmup=50,
    ema=0.99,
    log_every=100,
    sample_every=0,
    model=Model(encoder="32C3s2-TCJA-64C3s2-TCJA", latent=64, divergence="kl", divergence_weight=1e-3),
)


@dataclass
class Train:
    """Train a generator or a classifier, or go on with a run that was stopped.

    examples:
      tcja-gen train --steps 2000
      tcja-gen train experiments/mnist-tcja.toml --data-root data --out runs/mnist
      tcja-gen train --task classify --data digits --out runs/classifier
      tcja-gen train --resume runs/mnist
      torchrun --nproc-per-node 2 -m tcja_gen train experiments/mnist-tcja.toml
    """

    file: Annotated[Positional[str], arg(metavar="[CONFIG.toml]")] = ""
    """File of settings; flags change them."""
    resume: Annotated[str, arg(metavar="RUN")] = ""
    """Folder of a run to go on with, by its own settings."""
    settings: Annotated[Config, arg(name="")] = field(default_factory=Config)

    def base(self) -> Config:
        """The settings that flags change: of the file, or of the run to go on with."""
        if self.file and self.resume:
            raise UserError(f"--resume {self.resume} goes on by that run's own settings; leave out {self.file}")
        if Path(self.file or "-").is_dir():
            raise UserError(f"{self.file}: a folder, a .toml file is wanted; --resume {self.file} goes on with a run")
        if self.resume and not (Path(self.resume) / "config.toml").is_file():
            raise MissingFile(f"{self.resume}: no run to resume here (config.toml is missing)")
        path = Path(self.resume) / "config.toml" if self.resume else self.file
        return load(path) if path else Config()

    def run(self) -> None:
        run_exists(self.settings.init_from)
        data_exists("" if self.resume else self.settings.data)
        from .. import training

        if self.resume:
            run = training.resume(self.resume, **asdict(self.settings))
        else:
            run = training.train(self.settings)
        if start().first:
            print(run.folder)
        _stop_unless(run.finished)


class Unchecked(Config):
    """Settings of flags alone, which may not go together before a file's are there."""

    def __post_init__(self):
        pass


@dataclass
class FlagsOfTrain(Train):
    """What `Train` is told apart from the file, to learn of the file."""

    settings: Annotated[Unchecked, arg(name="")] = field(default_factory=Unchecked)


@dataclass
class Demo:
    """Train on the embedded digits, sample from the model and score it, in about two minutes.

    examples:
      tcja-gen demo
      tcja-gen demo --out pictures --steps 4000
    """

    out: str = "demo"
    """Folder for the run and its pictures; must not hold a run yet."""
    steps: int = DEMO.steps
    """Optimiser steps."""

    def run(self) -> None:
        from .. import training

        folder = Path(self.out)
        if (folder / "config.toml").exists():
            raise UserError(f"{folder}: there is a run in this folder already; --out names another, or delete it")
        run = training.train(replace(DEMO, out=self.out, steps=self.steps))
        _stop_unless(run.finished)
        Sample(str(run.folder), n=64, out=str(folder / "pictures"), grid=True, film=True).run()
        Reconstruct(str(run.folder), n=32, out=str(folder / "pictures")).run()
        Interpolate(str(run.folder), out=str(folder / "pictures")).run()
        Evaluate(str(run.folder), metrics="fad,fad-reconstruction,reconstruction", n=1024).run()


def _stop_unless(finished: bool) -> None:
    """A run that Ctrl-C stopped has saved and said so; what was to come after it is not done."""
    if not finished:
        raise SystemExit(130)
