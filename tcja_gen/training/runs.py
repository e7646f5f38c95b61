"""The folder of a run, and the files in it except checkpoints.

config.toml          all settings; training from this file repeats the run
environment.json     command, versions, devices, data and its fingerprint, plugins
log.txt  stats.jsonl  events.out.tfevents.*
samples/step-000500.png  reconstructions/step-000500.png
checkpoints/ ...     see `checkpoints`
run.lock             held while a process trains, see `alone`
"""

import json
import platform
import re
import shlex
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import torch
from filelock import FileLock, Timeout
from torch import Tensor

from .. import files
from ..errors import UserError
from ..models import store
from ..process import Process
from ..progress import in_notebook
from ..registry import changed_plugins, missing_plugins, plugins
from .config import Config, as_table, text

LOCK = "run.lock"
PACKAGES = ("tcja_gen", "torch", "torchvision", "torchmetrics", "spikingjelly", "numpy")

OnRecord = Callable[[int, dict[str, float], dict[str, Tensor]], None]  # see `tg.train`


def check_place(config: Config) -> None:
    """Checks that the run's folder can be made. UserError if it holds a run, OSError if it cannot be written to."""
    path = Path(config.out or "runs")
    if config.out and (path / "config.toml").exists():
        raise _taken(path)
    files.check_writable(path)


def new_folder(config: Config) -> Path:
    """Creates the run's folder: `config.out`, or runs/ with the next number. Two runs never get the same folder."""
    if config.out:
        path = Path(config.out)
        if not files.write_if_absent(path / "config.toml", text(config)):
            raise _taken(path)
        return path
    name = Path(config.data).absolute().stem
    while True:
        numbers = [int(match.group()) for p in Path("runs").glob("*-*") if (match := re.match(r"\d+(?=-)", p.name))]
        path = Path("runs") / f"{max(numbers, default=-1) + 1:05d}-{name}"
        try:
            path.mkdir(parents=True)
        except FileExistsError:  # another run started at the same moment
            continue
        files.write(path / "config.toml", text(config))
        return path


@contextmanager
def alone(folder: Path, process: Process) -> Iterator[None]:
    """Inside, no other job trains the run. UserError if one does. What a killed process held is free again.

    Where the file system knows no locks, nothing is held.
    """
    lock, taken = FileLock(folder / LOCK), False
    if process.first:
        try:
            lock.acquire(timeout=0)
        except Timeout:
            taken = True
        except (OSError, NotImplementedError):
            pass
    if process.share(taken):
        raise UserError(f"{folder}: another process trains this run now")
    try:
        yield
    finally:
        lock.release()


def remove_empty(folder: Path) -> None:
    """Removes config.toml of a run that could not start, and its folder if that is then empty."""
    (folder / "config.toml").unlink()
    (folder / LOCK).unlink(missing_ok=True)
    with suppress(OSError):  # not empty
        folder.rmdir()


def _taken(path: Path) -> UserError:
    return UserError(
        f"{path}: there is a run in this folder; --resume {shlex.quote(str(path))} continues it, --out names another"
    )


def write_environment(folder: Path, config: Config, device: torch.device, world: int, data: dict) -> None:
    """Writes environment.json, the facts that are needed to repeat a result. data: facts about the data."""
    facts = {
        "command": shlex.join([Path(sys.argv[0]).name, *sys.argv[1:]]),
        "started": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
        "versions": versions(),
        "python": platform.python_version(),
        "commit": _commit(),
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else platform.processor() or "cpu",
        "threads": torch.get_num_threads(),
        "processes": world,
        "data": data,
        "plugins": plugins(as_table(config)),
    }
    files.write(folder / "environment.json", json.dumps(facts, indent=2) + "\n")


def data_facts(folder: Path) -> dict:
    """Facts about the data of a run; {} if they cannot be read."""
    return environment_of(folder).get("data", {})


def statistics(folder: str | Path) -> list[dict]:
    """What was logged in a run, by step; nothing for weights alone. Damaged lines are passed over."""
    return [record for record, _ in _logged(Path(folder) / "stats.jsonl")]


def _logged(path: Path) -> Iterator[tuple[dict, str]]:
    """The records of a file, each with its line: those that a power cut or a full disk left whole. Values that are None
    are passed over, too."""
    content = path.read_text(encoding="utf-8", errors="replace") if path.is_file() else ""
    for line in content.splitlines():
        with suppress(ValueError):
            if isinstance(record := json.loads(line), dict) and isinstance(record.get("step"), int):
                yield {name: value for name, value in record.items() if value is not None}, line


def check_plugins(folder: Path, quiet: bool = False) -> None:
    """UserError if a run uses parts of a plugin that is not loaded. Unless quiet, notes name changed plugins."""
    used = environment_of(folder).get("plugins", {})
    if advice := missing_plugins(used):
        raise UserError(f"{folder}: {advice}")
    for change in () if quiet else changed_plugins(used):
        print(f"note: {folder}: {change}", file=sys.stderr)


def environment_of(folder: Path) -> dict:
    """Content of environment.json of a run, or of its last stage that has one; {} if there is none to read. What is not
    of the type that it was written with is left out."""
    for place in (folder, *reversed(store.stages(folder))):
        try:
            facts = json.loads((place / "environment.json").read_text(encoding="utf-8"))
        except (OSError, ValueError):
            continue
        if isinstance(facts, dict):
            kinds = {"command": str, "versions": dict, "data": dict, "plugins": dict}
            return {name: fact for name, fact in facts.items() if isinstance(fact, kinds.get(name, object))}
    return {}


def versions() -> dict[str, str]:
    """Versions of this package and of those whose version can change results, if they are installed."""
    installed = {}
    for package in PACKAGES:
        try:
            installed[package] = version(package)
        except PackageNotFoundError:
            continue
    return installed


def _commit() -> str | None:
    here = Path(__file__).parent
    git = ["git", "-C", str(here), "rev-parse", "HEAD"]
    try:
        return subprocess.run(git, capture_output=True, encoding="utf-8", errors="replace", check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return None


class Log:
    """Lines for people (stderr, in a notebook stdout; log.txt), and records for programs: stats.jsonl, TensorBoard, and
    `on_record`.

    Lines from before `open` are written to log.txt when it is called. on_record: as for `tg.train`.
    """

    def __init__(self, quiet: bool = False, on_record: OnRecord | None = None):
        self.quiet, self.on_record, self.early, self.text = quiet, on_record, [], None

    def open(self, folder: Path, settings: str = "") -> None:
        """Opens the files in a run's folder. settings: the text of its config.toml, for TensorBoard."""
        self.folder, self.board = folder, _board(folder, flush_secs=30)
        self.text = open(folder / "log.txt", "a", buffering=1, encoding="utf-8", errors="backslashreplace")
        self.text.writelines(line + "\n" for line in self.early)
        self.stats = open(folder / "stats.jsonl", "a", buffering=1, encoding="utf-8")
        self.board.add_text("settings", f"```toml\n{settings}```")

    def say(self, line: str) -> None:
        if self.text:
            with files.naming(self.folder / "log.txt"):
                self.text.write(line + "\n")
        else:
            self.early.append(line)
        if not self.quiet:
            print(line, file=sys.stdout if in_notebook() else sys.stderr, flush=True)  # stderr is red in a notebook

    def record(self, step: int, values: dict) -> None:
        """Records the numbers of a step. "layers", {layer: [firing rate, dead share]}, become two scalars a layer."""
        with files.naming(self.folder / "stats.jsonl"):
            self.stats.write(json.dumps({"step": step, **values}) + "\n")
        scalars = {name: value for name, value in values.items() if isinstance(value, int | float)}
        for layer, (rate, dead) in values.get("layers", {}).items():
            scalars |= {f"firing_rate_of/{layer}": rate, f"dead_of/{layer}": dead}
        with files.naming(self.folder):
            for name, value in scalars.items():
                self.board.add_scalar(name, value, step)
        self._tell(step, scalars, {})

    def pictures(self, step: int, images: dict[str, Tensor]) -> None:
        """Records pictures, uint8 (3, H, W), by name."""
        with files.naming(self.folder):
            for name, pixels in images.items():
                self.board.add_image(name, pixels, step)
        self._tell(step, {}, images)

    def _tell(self, step: int, values: dict, images: dict) -> None:
        if self.on_record:
            self.on_record(step, values, images)

    def close(self) -> None:
        with files.naming(self.folder):
            self.board.close()
            self.stats.close()
            self.text.close()


def _board(folder: Path, **options):
    """TensorBoard's writer of a folder. Its thread keeps an error for the next call; nothing is printed besides."""
    from torch.utils.tensorboard import SummaryWriter

    _pass_over_writers()
    return SummaryWriter(str(folder), **options)


@cache
def _pass_over_writers() -> None:
    """From now on the errors of TensorBoard's threads are not printed."""
    before = threading.excepthook

    def told(failed: threading.ExceptHookArgs) -> None:
        if not type(failed.thread).__module__.startswith("tensorboard."):
            before(failed)

    threading.excepthook = told


class NoLog:
    """The log of all processes except the first: it writes nothing."""

    def say(self, line: str) -> None:
        pass

    def close(self) -> None:
        pass


def record_scores(folder: Path, step: int, scores: Mapping[str, float | list[float]]) -> None:
    """Adds scores of a checkpoint to the run's TensorBoard records; those with a value for each time step are left
    out, as is all of it where tensorboard is not installed or the folder cannot be written to."""
    with suppress(ImportError, OSError):
        files.check_writable(folder)
        board = _board(folder, filename_suffix=".scores")
        for name, value in scores.items():
            if isinstance(value, int | float):
                board.add_scalar(f"score/{name}", value, step)
        board.close()


def forget_after(folder: Path, step: int) -> None:
    """Drops the records after `step`, since a resumed run writes them again."""
    path = folder / "stats.jsonl"
    if path.exists():
        files.write(path, "".join(line + "\n" for record, line in _logged(path) if record["step"] <= step))
