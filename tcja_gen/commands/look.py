"""Commands that look at what is there."""

import sys
from dataclasses import dataclass
from pathlib import Path

from tyro.conf import FlagCreatePairsOff

from ..errors import UserError
from .common import Data, Run, data_exists, run_exists, start


@dataclass
class Check:
    """Name every bad file of a data set of images or event recordings, and why. Exit code 1 if there is one.

    examples:
      tcja-gen check my_pictures/
      tcja-gen check mnist --data-root data
    """

    data: Data
    """Data set, folder or zip."""
    data_root: str = "data"
    """Folder of the named data sets."""
    size: int = 0
    """Pixels a side that are wanted; 0: any, but all the same."""
    channels: int = 0
    """1 or 3; 0: any, but all the same."""

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
class Show:
    """Tell what a run is and how it went: settings, size, losses, firing rates, scores; draw its curves and gates.

    examples:
      tcja-gen show runs/00000-digits
      tcja-gen show runs/mnist --out pictures
      tcja-gen show runs/mnist --energy
      tcja-gen show --environment
    """

    folder: Run = ""
    """Run folder."""
    environment: FlagCreatePairsOff[bool] = False
    """In place of a run: versions, the device, what the neurons run on there and why."""
    device: str = ""
    """With --environment: cpu, cuda, cuda:1; default: a GPU if there is one."""
    out: str = ""
    """Folder for the figures; default: the run folder's figures."""
    energy: FlagCreatePairsOff[bool] = False
    """Also operations and energy of a sample, layer by layer: of sampling, or of classifying validation samples."""
    data_root: str = ""
    """With --energy of a classifier: folder of the data; default: the run's own."""

    def run(self) -> None:
        if self.environment or self.device or not self.folder:
            return self._environment()
        run_exists(self.folder)
        from ..evaluation import energy, report

        if self.data_root and not self.energy:
            raise UserError(f"--data-root {self.data_root}: only --energy reads data; add it or leave this out")
        start("cpu")
        costs = energy.table(energy.of_run(self.folder, self.data_root)[1]) if self.energy else ""
        print(report.describe(self.folder))
        if costs:
            print(costs)
        for path in report.figures(self.folder, self.out or Path(self.folder) / "figures"):
            print(path)

    def _environment(self) -> None:
        from ..process import environment
        from ..training import runs

        if not self.environment:
            raise UserError("show: the folder of a run is wanted, or --environment (which takes --device)")
        if self.folder or self.out or self.energy or self.data_root:
            raise UserError("--environment is about this machine; leave the run and its flags out")
        facts = {**runs.versions(), **environment(start(self.device or "auto").device)}
        for name, fact in facts.items():
            print(f"{name:<14}{fact}")
