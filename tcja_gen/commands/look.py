"""Commands that check data and describe runs, and the one that lists the names."""

import itertools
import os
import shlex
import sys
import textwrap
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from tyro.conf import FlagCreatePairsOff, Positional, arg

from ..errors import UserError
from ..files import check_writable
from ..shipped import recipes, weights
from .arguments import Data, data_exists, file_writable, run_exists, start


@dataclass
class Check:
    """Name every bad file of a data set of images or event recordings, and the reason. Exit code 1 if there is one.

    examples:
      tcja-gen check my_pictures/
      tcja-gen check mnist --data-root data
      tcja-gen check n-mnist --data-root data --picture pictures
      tcja-gen check recording.aedat4
    """

    data: Data
    """Data set, folder or zip, or one recording of events."""
    data_root: str = "data"
    """Folder of the named data sets."""
    size: int = 0
    """Pixels a side to which a training will bring all images (--model.image-size); 0: they must have one size."""
    channels: int = 0
    """Channels, 1 or 3, to which a training will convert all images; 0: they must have the same."""
    picture: str = ""
    """Folder for pictures of the data, as `show DATA --out FOLDER` makes them, if there is no bad file."""

    def run(self) -> None:
        data_exists(self.data)
        from ..data import check_data

        if self.picture:
            check_writable(Path(self.picture))
        problems = check_data(self.data, root=self.data_root, size=self.size or None, channels=self.channels or None)
        for problem in problems:
            print(f"{problem.file}: {problem.reason}")
        print(
            f"{self.data}: {len(problems) or 'no'} problem{'' if len(problems) == 1 else 's'}",
            file=sys.stderr,
        )
        if problems:
            raise SystemExit(1)
        if self.picture:
            shape = {"size": self.size or None, "channels": self.channels or None}
            _draw_data(self.data, self.data_root, self.picture, **shape)


def _draw_data(data: str, root: str, out: str, time_steps: int = 10, by: str = "time", **shape: int | None) -> None:
    """Draws some samples of a data set and prints where. shape: size and channels of images, as for `load_images`."""
    from ..data import even, first_of_each_class, is_recording, load_images
    from ..evaluation import pictures

    if not _has_events(data):
        try:
            images = load_images(data, "train", root=root, **shape).images
        except UserError as error:
            if any(shape.values()) or "--size" not in str(error):
                raise
            again = f"tcja-gen check {shlex.quote(data)} --size 32 --picture {shlex.quote(out)}"
            raise UserError(f"{error}; for pictures of them: {again}") from None
        print(pictures.save_grid(images[even(64, len(images))] / 255, Path(out) / "images.png"))
        return
    frames, classes = first_of_each_class(data, time_steps=time_steps, by=by, root=root)
    what = classes[0] if is_recording(data) else f"{len(frames)} classes from top to bottom: {', '.join(classes)}"
    print(f"{what}; {int(frames.sum()):,} events")
    for path in pictures.save_events(frames, out):
        print(path)


@dataclass
class List:
    """List all recipes, pretrained models, data sets and parts, including those of plugins.

    examples:
      tcja-gen list
      tcja-gen list --plugin my_blocks.py
    """

    def run(self) -> None:
        from .. import data  # noqa: F401  registers the data sets
        from ..registry import ATTENTION, DATASETS, FRAMES, LATENTS, NEURONS, READOUTS, plugins

        _section("recipes", "tcja-gen train NAME", {name: _first_comment(path) for name, path in recipes().items()})
        cards = {name: path.with_suffix(".md") for name, path in weights().items()}
        _section("pretrained models", "tcja-gen show NAME", {name: _first_text(path) for name, path in cards.items()})
        _section("data sets", "--data NAME", DATASETS)
        _section("frames of recordings", "--events-by NAME", FRAMES)
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

    Of several runs it shows the settings that differ, and the scores that can be compared. --html writes all that there
    is to see into one file that can be sent.

    For a data set instead of a run: draws some of its images, or a recording of each class as frames over time, and as
    a film; brighter is red, darker is blue. For a file of events: that recording.

    examples:
      tcja-gen show runs/00000-digits
      tcja-gen show runs/mnist --out pictures
      tcja-gen show runs/mnist --energy
      tcja-gen show mnist
      tcja-gen show runs/mnist --html report.html
      tcja-gen show runs/a runs/b --html comparison.html
      tcja-gen show n-mnist --data-root data --frames 10
      tcja-gen show recording.aedat4
      tcja-gen show --environment
    """

    runs: Annotated[Positional[tuple[str, ...]], arg(metavar="RUN...")] = ()
    """Run folders, checkpoints, .safetensors files, or names of pretrained models (tcja-gen list); or one data set,
    folder or zip, or one recording of events."""
    html: str = ""
    """Write a report, or the comparison of several runs, to this file: samples, film, reconstructions, curves, spikes,
    gates, firing rates, energy, scores. It needs no other file and no network."""
    environment: FlagCreatePairsOff[bool] = False
    """Instead of a run, describe this machine: versions, device, and the kernels that neurons use."""
    device: str = ""
    """With --environment: cpu, cuda, cuda:1; default: a GPU if there is one."""
    out: str = ""
    """Folder for the figures; default: figures in the run's folder, none for a checkpoint or a file of weights; for a
    data set: pictures."""
    energy: FlagCreatePairsOff[bool] = False
    """Also show the operations and energy of each layer, for one sample: drawn from a generator, or a classified
    validation sample."""
    data_root: str = ""
    """With --html, or --energy of a classifier: folder of the data; default: the run's own. For a data set: its folder;
    default: data."""
    frames: int = 0
    """For event recordings: into how many frames each is cut; default: 10."""
    events_by: str = ""
    """For event recordings: frames of equal number of events, or of equal time (number, time, or of a plugin); default:
    time."""

    def run(self) -> None:
        if self.environment or self.device or not self.runs:
            return self._environment()
        if len(self.runs) == 1 and _is_data(self.runs[0]):
            return self._data(self.runs[0])
        if self.frames or self.events_by:
            raise UserError("--frames and --events-by are for a data set of event recordings; leave them out")
        for run in self.runs:
            run_exists(run)
        if twice := [run for i, run in enumerate(self.runs) if run in self.runs[:i]]:
            raise UserError(f"{twice[0]} is named twice; a comparison has each run once")
        several = len(self.runs) > 1
        if (self.html or several) and (self.out or self.energy):
            reason = "--html has figures and energy in its file" if self.html else "they show one run; --html has both"
            raise UserError(f"--out and --energy: {reason}; leave them out")
        if self.data_root and not (self.energy or self.html):
            raise UserError(f"--data-root {self.data_root}: only --energy and --html read data; leave this out")
        if self.html:
            return self._page()
        start("cpu")
        from .. import report

        return print(report.compare(self.runs)) if several else self._describe(self.runs[0])

    def _page(self) -> None:
        file_writable(self.html, "--html")
        start("cpu")
        from .. import report

        print(report.write_page(self.runs, Path(self.html), self.data_root))

    def _describe(self, run: str) -> None:
        from .. import report
        from ..evaluation import energy
        from ..models import store

        costs = energy.table(energy.of_run(run, self.data_root)[1]) if self.energy else ""
        print(report.describe(run))
        if costs:
            print(costs)
        if self.out or ((Path(run) / "config.toml").is_file() and store.is_model(run)):
            for path in report.figures(run, self.out or Path(run) / "figures"):
                print(path)

    def _data(self, data: str) -> None:
        if self.energy or self.html:
            raise UserError(f"{data}: a data set; --energy and --html are for a run, leave them out")
        if (self.frames or self.events_by) and not _has_events(data):
            raise UserError(f"{data}: images; --frames and --events-by are for event recordings, leave them out")
        out, root = self.out or "pictures", self.data_root or "data"
        check_writable(Path(out))
        _draw_data(data, root, out, self.frames or 10, self.events_by or "time")

    def _environment(self) -> None:
        from ..process import environment
        from ..training import runs

        if not self.environment:
            raise UserError("show needs a RUN, or --environment (which takes --device)")
        given = (self.runs, self.html, self.out, self.energy, self.data_root, self.frames, self.events_by)
        if any(given):
            raise UserError("--environment is about this machine; leave the run and its flags out")
        facts = {**runs.versions(), **environment(start(self.device or "auto").device)}
        for name, fact in facts.items():
            print(f"{name:<14}{fact}")


def _is_data(name: str) -> bool:
    """Whether the name is that of a data set, of images, of event recordings or of one, and no model's."""
    if os.sep in name and not Path(name).exists():
        return False  # a mistake in a path is told at once, before torch is imported
    from ..data import has_images, is_named
    from ..models import store

    return not store.is_model(name) and (is_named(name) or has_images(Path(name)) or _has_events(name))


def _has_events(data: str) -> bool:
    """Whether these are event recordings, or the file of one."""
    from ..data import is_events, is_recording

    return is_events(data) or is_recording(data)
