"""Commands that check data and describe runs, and the one that lists the names."""

import itertools
import sys
import textwrap
from dataclasses import dataclass
from pathlib import Path

from tyro.conf import FlagCreatePairsOff

from ..errors import UserError
from ..shipped import recipes, weights
from .arguments import Data, Run, data_exists, run_exists, start


@dataclass
class Check:
    """Name every bad file of a data set of images or event recordings, and the reason. Exit code 1 if there is one.

    examples:
      tcja-gen check my_pictures/
      tcja-gen check mnist --data-root data
    """

    data: Data
    """Data set, folder or zip."""
    data_root: str = "data"
    """Folder of the named data sets."""
    size: int = 0
    """Required size in pixels a side; 0: any, but the same for all."""
    channels: int = 0
    """Required channels, 1 or 3; 0: any, but the same for all."""

    def run(self) -> None:
        data_exists(self.data)
        from ..data import check_data

        problems = check_data(self.data, root=self.data_root, size=self.size or None, channels=self.channels or None)
        for problem in problems:
            print(f"{problem.file}: {problem.reason}")
        print(
            f"{self.data}: {len(problems) or 'no'} problem{'' if len(problems) == 1 else 's'}",
            file=sys.stderr,
        )
        if problems:
            raise SystemExit(1)


@dataclass
class List:
    """List all recipes, pretrained models, data sets and parts, including those of plugins.

    examples:
      tcja-gen list
      tcja-gen list --plugin my_blocks.py
    """

    def run(self) -> None:
        from .. import data  # noqa: F401  registers the data sets
        from ..registry import ATTENTION, DATASETS, LATENTS, NEURONS, READOUTS, plugins

        _section("recipes", "tcja-gen train NAME", {name: _first_comment(path) for name, path in recipes().items()})
        cards = {name: path.with_suffix(".md") for name, path in weights().items()}
        _section("pretrained models", "tcja-gen sample NAME", {name: _first_text(path) for name, path in cards.items()})
        _section("data sets", "--data NAME", DATASETS)
        _section("attention", "a word of the notation", ATTENTION)
        _section("latents", "--model.latent.kind NAME", LATENTS)
        _section("neurons", "--model.neuron NAME", [*NEURONS, "relu", "spikingjelly:CLASS"])
        _section("readouts", "--model.readout NAME", READOUTS)
        if plugins():
            _section("plugins", "--plugin FILE", plugins())


def _section(title: str, use: str, names) -> None:
    """Prints a title and names: one on each line if they come with texts (a dict), else all on one line."""
    print(f"{title} ({use})")
    if isinstance(names, dict):
        width = max(map(len, names), default=0) + 2
        for name, text in names.items():
            print(f"  {name:<{width}}{textwrap.shorten(text, 100, placeholder=' ...')}")
    else:
        print("  " + " ".join(names))
    print()


def _first_comment(recipe: Path) -> str:
    """The first sentence of a recipe's comment."""
    lines = recipe.read_text(encoding="utf-8").splitlines()
    text = " ".join(line.lstrip("# ") for line in itertools.takewhile(lambda line: line.startswith("#"), lines))
    return text.partition(". ")[0].rstrip(".")


def _first_text(card: Path) -> str:
    """The first sentence below the title of a model's card."""
    if not card.exists():
        return ""
    text = next((line for line in card.read_text(encoding="utf-8").splitlines()[1:] if line.strip()), "")
    return text.partition(". ")[0].rstrip(".")


@dataclass
class Show:
    """Describe a run: settings, size, losses, firing rates, scores. Draws its curves and the values of its gates.

    examples:
      tcja-gen show runs/00000-digits
      tcja-gen show runs/mnist --out pictures
      tcja-gen show runs/mnist --energy
      tcja-gen show mnist
      tcja-gen show --environment
    """

    folder: Run = ""
    """Run folder, checkpoint, .safetensors file, or name of a pretrained model (tcja-gen list)."""
    environment: FlagCreatePairsOff[bool] = False
    """Instead of a run, describe this machine: versions, device, and the kernels that neurons use."""
    device: str = ""
    """With --environment: cpu, cuda, cuda:1; default: a GPU if there is one."""
    out: str = ""
    """Folder for the figures; default: figures in the run's folder, none for a checkpoint or a file of weights."""
    energy: FlagCreatePairsOff[bool] = False
    """Also show the operations and energy of each layer, for one sample: drawn from a generator, or a classified
    validation sample."""
    data_root: str = ""
    """With --energy of a classifier: folder of the data; default: the run's own."""

    def run(self) -> None:
        if self.environment or self.device or not self.folder:
            return self._environment()
        run_exists(self.folder)
        from ..evaluation import energy, report
        from ..models import store

        if self.data_root and not self.energy:
            raise UserError(f"--data-root {self.data_root}: only --energy reads data; add --energy or leave this out")
        start("cpu")
        costs = energy.table(energy.of_run(self.folder, self.data_root)[1]) if self.energy else ""
        print(report.describe(self.folder))
        if costs:
            print(costs)
        if self.out or ((Path(self.folder) / "config.toml").is_file() and store.is_model(self.folder)):
            for path in report.figures(self.folder, self.out or Path(self.folder) / "figures"):
                print(path)

    def _environment(self) -> None:
        from ..process import environment
        from ..training import runs

        if not self.environment:
            raise UserError("show needs a RUN, or --environment (which takes --device)")
        if self.folder or self.out or self.energy or self.data_root:
            raise UserError("--environment is about this machine; leave the run and its flags out")
        facts = {**runs.versions(), **environment(start(self.device or "auto").device)}
        for name, fact in facts.items():
            print(f"{name:<14}{fact}")
