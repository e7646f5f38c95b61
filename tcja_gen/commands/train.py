"""Commands that train. The flags of `train` are the settings of a run (`training.config`), so this imports torch."""

from dataclasses import dataclass, field, make_dataclass
from pathlib import Path
from typing import Annotated

from tyro.conf import Positional, arg

from ..errors import UserError
from ..models import Generator
from ..nn.latents import BernoulliSettings
from ..ranges import Range
from ..training import config as configs
from ..training.config import Config
from ..training.recipes import load
from ..training.stages import saved_config
from ..words import Given, scan, switches_of
from .arguments import data_exists, run_exists, start
from .flags import changes_of, check_known, choices_given, flags_of
from .images import Interpolate, Reconstruct, Sample
from .scores import Evaluate

DEMO = Config(
    steps=1000,
    batch=64,
    warmup=50,
    ema=0.99,
    log_every=100,
    sample_every=0,
    model=Generator(
        encoder="32C3s2-TCJA-64C3s2-TCJA",
        latent=BernoulliSettings(channels=64, divergence="kl", divergence_weight=1e-3),
    ),
)


@dataclass
class Train:
    """Train a generator or a classifier, or resume a run that was stopped.

    A recipe is a TOML file, or the name of a recipe of the package (tcja-gen list). Flags change its settings. If the
    recipe has stages, they change all stages, or the one of --stage.

    Each kind of a part has its own settings. To see those of a kind, choose it before --help, by a recipe or by a flag:
    tcja-gen train --model.latent.kind codes --help. A term of the loss exists only if the recipe or a flag names it:
    --objective.perceptual.weight, --objective.adversarial.weight; --objective.no-perceptual leaves out the recipe's.

    examples:
      tcja-gen train --steps 2000
      tcja-gen train mnist --data-root data --out runs/mnist
      tcja-gen train my_recipe.toml --plugin my_blocks.py
      tcja-gen train --task classify --data digits --out runs/classifier
      tcja-gen train --resume runs/mnist
      tcja-gen train --resume runs/mnist --stage prior --steps 8000
      tcja-gen train mnist --data my_pictures.zip --init-from mnist --init all
      torchrun --nproc-per-node 2 -m tcja_gen train mnist-tcja
    """

    recipe: str
    resume: str
    stage: str
    config: Config
    changes: dict

    def run(self) -> None:
        run_exists("" if self.resume else self.config.init_from)  # whose weights a run may have, though it is gone
        data_exists("" if self.resume else self.config.data)
        from .. import training

        if self.resume:
            run = training.resume(self.resume, stage=self.stage, **self.changes)
        else:
            run = training.train(self.config, stage=self.stage)
        if start().first:
            print(run.folder)
        _exit_if_stopped(run)


OPTIONS = {
    "recipe": (Annotated[Positional[str], arg(metavar="[RECIPE]", help="A recipe's name or file.")], ""),
    "resume": (Annotated[str, arg(metavar="RUN", help="Folder of a run to resume, with its own settings.")], ""),
    "stage": (
        Annotated[str, arg(help="Train only this stage of the recipe; with --resume, train it again.")],
        "",
    ),
    "steps_scale": (Annotated[float, arg(help="Factor for the steps of every stage: 0.01 is a quick trial.")], 1.0),
}


HIDDEN = ("stages",)  # settings that are no flags


def parse(arguments: list[str], read) -> Train:
    """The `Train` command of a command line. read(flags): lets tyro read it as the dataclass `flags`. UserError for a
    mistake in the flags."""
    given = scan(arguments, switches_of(Config()) | switches_of(Config(task="classify")) | {"help", "version"})
    _check_renamed(given)
    base, recipe = _base(given)
    chosen = configs.unchecked(base, {key: value for key, value in given.flags.items() if key == "task"})
    kinds = choices_given(given, chosen)
    current = _one_stage(configs.unchecked(chosen, kinds, given.flags.get("stage") or ""), given.flags.get("stage"))
    options = [(name, kind, field(default=default)) for name, (kind, default) in OPTIONS.items()]
    settings = flags_of(current, HIDDEN)
    options.append(("settings", Annotated[settings, arg(name="")], field(default_factory=settings)))
    own = {name: value for name, value in given.flags.items() if name not in OPTIONS and name != "help"}
    check_known(own, current, HIDDEN)
    parsed = read(make_dataclass("Train", options))
    changes = changes_of(parsed.settings, Given((), own))
    if parsed.resume and parsed.steps_scale != 1:
        raise UserError("--steps-scale: a resumed run keeps its own number of steps; leave this out")
    Range(above=0).check("--steps-scale", parsed.steps_scale)
    config = configs.change(base, changes, parsed.stage)
    return Train(recipe, parsed.resume, parsed.stage, configs.scaled(config, parsed.steps_scale), changes)


EPOCHS = (
    "training is counted in steps of --batch images, by --steps; an epoch of n training images is n / batch steps, "
    "and the first line of a training says how many epochs its steps are"
)
FAMILIAR = {  # names of other programs
    "batch_size": "batch",
    "bs": "batch",
    "dataset": "data",
    "ema_decay": "ema",
    "iterations": "steps",
    "iters": "steps",
    "learning_rate": "lr",
    "max_steps": "steps",
    "output": "out",
    "output_dir": "out",
}


def _check_renamed(given: Given) -> None:
    for name in given.flags:
        if name.split("_")[-1] in ("epoch", "epochs"):
            raise UserError(f"no flag --{name}: {EPOCHS}".replace("_", "-"))
        if name in FAMILIAR:
            raise UserError(f"no flag --{name}; did you mean --{FAMILIAR[name]}?".replace("_", "-"))
        if name in configs.RENAMED:
            raise UserError(f"--{name} is called --{configs.RENAMED[name]} now".replace("_", "-"))


def _base(given: Given) -> tuple[Config, str]:
    """The settings that flags change, from the recipe or from the run to resume; and the recipe's name."""
    words, resume = given.words, given.flags.get("resume")
    recipe = words[0] if words else ""
    if recipe and resume:
        raise UserError(f"--resume {resume} uses that run's own settings; leave out {recipe}")
    if not resume:
        return (load(recipe) if recipe else Config()), recipe
    return saved_config(Path(resume), quiet=True), ""


def _one_stage(config: Config, stage: str | None) -> Config:
    """The settings whose values --help shows: those of the named stage, else of the first."""
    stages = configs.one_by_one(config)
    return stages.get(stage or "", next(iter(stages.values())))


@dataclass
class Demo:
    """Train on the embedded digits, sample from the model and score it, in about two minutes.

    examples:
      tcja-gen demo
      tcja-gen demo --out pictures --steps 4000
    """

    out: str = "demo"
    """Folder for the run and its pictures; it must not contain a run."""
    steps: int = DEMO.steps
    """Optimiser steps."""

    def run(self) -> None:
        from .. import training

        folder = Path(self.out)
        if (folder / "config.toml").exists():
            raise UserError(f"{folder}: there is a run in this folder already; delete it or choose another by --out")
        run = training.train(DEMO, out=self.out, steps=self.steps)
        _exit_if_stopped(run)
        Sample(str(run.folder), n=64, out=str(folder / "pictures"), grid=True, film=True).run()
        Reconstruct(str(run.folder), n=32, out=str(folder / "pictures")).run()
        Interpolate(str(run.folder), out=str(folder / "pictures")).run()
        Evaluate(str(run.folder), metrics="fad,fad-reconstruction,reconstruction", n=1024).run()


def _exit_if_stopped(run) -> None:
    """Ends the command with exit code 130 if Ctrl-C stopped the training, which has then saved a checkpoint."""
    if not run.finished:
        raise SystemExit(130)
