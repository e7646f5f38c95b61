"""The commands: each a dataclass whose fields are its flags, whose text is its help, and whose `run` does it.

Heavy things are imported inside `run`, so that help comes at once.
"""

import json
import sys
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Annotated, Literal

import tyro
from tyro.conf import FlagCreatePairsOff, Positional, arg

from .config import Config, Model, load

Run = Annotated[Positional[str], arg(metavar="RUN")]
Data = Annotated[Positional[str], arg(metavar="DATA")]

Number = Annotated[int, tyro.conf.arg(aliases=["--number"])]  # torchrun mistakes --n for an option of its own

DEMO = Config(
    steps=1000,
    batch=64,
    warmup=50,
    ema=0.99,
    log_every=100,
    sample_every=0,
    model=Model(encoder="32C3s2-TCJA-64C3s2-TCJA", latent=64, divergence="kl", divergence_weight=1e-3),
)


def parse(command: type, name: str, arguments: list[str]):
    """The command's dataclass, filled from flags. A mistake in them ends the program with exit code 2."""
    asked = _flags(command, name, arguments)
    if command is not Train:
        return asked
    return _flags(command, name, arguments, default=replace(asked, settings=asked.base()))


def _flags(command: type, name: str, arguments: list[str], **options):
    from inspect import cleandoc

    return tyro.cli(command, prog=f"tcja-gen {name}", args=arguments, description=cleandoc(command.__doc__), **options)


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
            raise ValueError(f"--resume {self.resume} goes on by that run's own settings; leave out {self.file}")
        if Path(self.file or "-").is_dir():
            raise ValueError(f"{self.file}: a folder, a .toml file is wanted; --resume {self.file} goes on with a run")
        if self.resume and not (Path(self.resume) / "config.toml").is_file():
            raise FileNotFoundError(f"{self.resume}: no run to resume here (config.toml is missing)")
        path = Path(self.resume) / "config.toml" if self.resume else self.file
        return load(path) if path else Config()

    def run(self) -> None:
        from . import training

        if self.resume:
            run = training.resume(self.resume, **asdict(self.settings))
        else:
            run = training.train(self.settings)
        if _first():
            print(run.folder)
        _stop_unless(run.finished)


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
        from . import training

        folder = Path(self.out)
        if (folder / "config.toml").exists():
            raise ValueError(f"{folder}: there is a run in this folder already; --out names another, or delete it")
        run = training.train(replace(DEMO, out=self.out, steps=self.steps))
        _stop_unless(run.finished)
        Sample(str(run.folder), n=64, out=str(folder / "pictures"), grid=True, film=True).run()
        Reconstruct(str(run.folder), n=32, out=str(folder / "pictures")).run()
        Interpolate(str(run.folder), out=str(folder / "pictures")).run()
        Evaluate(str(run.folder), metrics="fad,fad-reconstruction,reconstruction", n=1024).run()


@dataclass
class Sample:
    """Make images, one seed each: a seed gives the same image whatever else is made with it.

    examples:
      tcja-gen sample runs/00000-digits --n 64 --grid
      tcja-gen sample model.safetensors --seeds 0-9,42 --out pictures --film
      tcja-gen sample runs/conditional --n 8 --class 3
      tcja-gen sample --pretrained mnist --n 64 --grid
    """

    model: Run = ""
    """Run folder, checkpoint folder or .safetensors file."""
    pretrained: str = ""
    """In place of a run: a trained generator that comes with the package (mnist, ...)."""
    n: Number = 64
    """Number of images, from seeds 0 .. n-1."""
    seeds: str = ""
    """Seeds instead of a number: 0-63, or 3,5,8-11."""
    label: Annotated[str, arg(name="class")] = ""
    """Class to make, by name or number, for a conditional generator; default: seed i has class i mod classes."""
    out: str = "samples"
    """Folder for the pictures."""
    grid: FlagCreatePairsOff[bool] = False
    """One picture of all images instead of a file each."""
    film: FlagCreatePairsOff[bool] = False
    """Also an animated GIF of the images forming over the time steps (the first 64)."""
    which: Literal["last", "best"] = "last"
    """Checkpoint of a run."""
    device: str = "auto"
    """cpu, cuda, ...; auto: a GPU if there is one."""

    def run(self) -> None:
        from .evaluation import generate, pictures
        from .models import pretrained

        place = _start(self.device)
        if bool(self.model) == bool(self.pretrained):
            raise ValueError("sample wants a run or --pretrained NAME, one of the two")
        seeds = parse_seeds(self.seeds) if self.seeds else range(_at_least_one(self.n))
        model = pretrained(self.pretrained, place.device) if self.pretrained else _generator(self, place.device)
        label = _class(model, self.label) if self.label else None
        images = generate.sample(model, seeds, progress=place.first, label=label)
        if not place.first:
            return
        if self.grid:
            print(pictures.save_grid(images / 255, Path(self.out) / "samples.png"))
        else:
            names = [f"{seed:06d}" for seed in seeds]
            print(pictures.save_each(images / 255, self.out, names)[0].parent)
        if self.film:
            print(pictures.save_film(model.film(seeds[:64], label), Path(self.out) / "film.gif"))


@dataclass
class Reconstruct:
    """Send images through the latent spikes and back; originals and reconstructions side by side.

    examples:
      tcja-gen reconstruct runs/00000-digits --n 32
      tcja-gen reconstruct runs/mnist --images my_pictures/ --out pictures
    """

    model: Run
    """Run folder, checkpoint folder or .safetensors file."""
    images: str = ""
    """Data set, folder or zip; default: the test images of the run's own data."""
    data_root: str = "data"
    """Folder of the named data sets."""
    download: FlagCreatePairsOff[bool] = False
    """Fetch a named data set that is not there."""
    n: Number = 32
    """Number of images, the first of the set."""
    seed: int = 0
    """Of the latent draws."""
    out: str = "reconstructions"
    """Folder for the picture."""
    which: Literal["last", "best"] = "last"
    """Checkpoint of a run."""
    device: str = "auto"
    """cpu, cuda, ...; auto: a GPU if there is one."""

    def run(self) -> None:
        import torch

        from .evaluation import generate, pictures

        place = _start(self.device)
        model = _generator(self, place.device)
        originals = _images(model, self)[: _at_least_one(self.n)]
        again = generate.reconstruct(model, originals, self.seed, progress=place.first)
        if not place.first:
            return
        pairs = torch.stack([originals / 255, again], 1).flatten(0, 1)
        error = (again - originals / 255).square().mean().item()
        print(pictures.save_grid(pairs, Path(self.out) / "reconstructions.png", columns=16))
        print(f"mean squared error {error:.5f} (pixels in [0, 1]) over {len(originals)} images")


@dataclass
class Interpolate:
    """Make images between two images, in the latent spikes.

    Spikes have no halfway: at fraction a of the way every latent spike is the second image's with probability a,
    decided once for all fractions, so that spikes change over one by one. The ends are reconstructions. A gaussian
    latent is no spikes, and goes straight.

    examples:
      tcja-gen interpolate runs/00000-digits --pairs 8 --steps 9
      tcja-gen interpolate runs/mnist --images mnist --data-root data
    """

    model: Run
    """Run folder, checkpoint folder or .safetensors file."""
    images: str = ""
    """Data set, folder or zip whose images 0 and 1, 2 and 3, ... are the ends; default: samples of seeds 0, 1, ..."""
    data_root: str = "data"
    """Folder of the named data sets."""
    download: FlagCreatePairsOff[bool] = False
    """Fetch a named data set that is not there."""
    pairs: int = 8
    """Number of pairs, a row each."""
    steps: int = 9
    """Images a row, the ends among them."""
    seed: int = 0
    """Of the latent draws."""
    out: str = "interpolations"
    """Folder for the picture."""
    which: Literal["last", "best"] = "last"
    """Checkpoint of a run."""
    device: str = "auto"
    """cpu, cuda, ...; auto: a GPU if there is one."""

    def run(self) -> None:
        import torch

        from .evaluation import pictures

        place = _start(self.device)
        if self.steps < 2 or self.pairs < 1:
            raise ValueError(f"--pairs {self.pairs} --steps {self.steps}: at least 1 pair and 2 steps are wanted")
        model = _generator(self, place.device)
        ends = _images(model, self) / 255 if self.images else model.sample(range(2 * self.pairs))
        if len(ends) < 2 * self.pairs:
            raise ValueError(f"{self.images}: {len(ends)} images, --pairs {self.pairs} needs {2 * self.pairs}")
        rows = [model.interpolate(ends[2 * i], ends[2 * i + 1], self.steps, self.seed) for i in range(self.pairs)]
        if place.first:
            path = Path(self.out) / "interpolations.png"
            print(pictures.save_grid(torch.cat(rows), path, columns=self.steps))


@dataclass
class Evaluate:
    """Score a run, or a folder or zip of images, against a data set.

    Metrics of images: fad (autoencoder distance, evaluation mode: the one to believe), fad-official (as the FSVAE
    papers compute it); fid, kid, is, precision, recall, density, coverage, memorisation by Inception, whose weights
    (--inception, --download) are not part of this package; the same with -classifier behind, by a classifier of the
    data's own classes; is-fsvae, IS by torchvision's Inception as FSVAE's code has it, which is not standard. Of
    reconstructions: fad-reconstruction, fad-official-reconstruction, reconstruction (squared error), psnr, ssim.
    Without --autoencoder or --classifier one is trained on the data, once, and kept; its scores compare with each
    other, not with published ones. --metrics all computes whatever can be, and says what cannot. The table tells the
    spread (±) of scores that are means over parts, and the floor that tcja-gen reference has found. See the README.

    Metrics of classifiers, and of generators with a head: accuracy, accuracy-by-step (by the mean of the first 1 .. T
    outputs of one pass). A table of the classes comes with them, and a picture of the confusion matrix.

    examples:
      tcja-gen evaluate runs/00000-digits
      tcja-gen evaluate my_images.zip --reference mnist --metrics fad,fad-official --autoencoder mnist_64.pth
      tcja-gen evaluate my_images/ --reference mnist --metrics all
      tcja-gen evaluate my_images/ --reference mnist.npz --metrics fad,kid-classifier
      tcja-gen evaluate runs/mnist --metrics fad-official --repeats 3
      tcja-gen evaluate runs/classifier --metrics accuracy,accuracy-by-step --split validation
    """

    target: Annotated[Positional[str], arg(metavar="RUN|FOLDER|ZIP")]
    """Run folder, checkpoint, or a folder or zip of images."""
    metrics: str = ""
    """Names with commas between them, or all; default: fad of what makes images, accuracy of what names classes."""
    reference: str = ""
    """Data set to score against, or an .npz of tcja-gen reference --out or of published mu and sigma; default: the
    data that the run was trained on."""
    data: str = ""
    """Data set, where --reference is a file and its images are wanted."""
    data_root: str = "data"
    """Folder of the named data sets."""
    download: FlagCreatePairsOff[bool] = False
    """Fetch what is wanted and not there: a named data set, the weights of Inception."""
    split: Literal["test", "validation", "train"] = "test"
    """Split to score against."""
    autoencoder: str = ""
    """Autoencoder for FAD: FSVAE's published .pth, or one of ours."""
    classifier: str = ""
    """Classifier for the scores called -classifier; default: trained on the training images."""
    inception: str = ""
    """Weights of Inception; default: $TCJA_GEN_INCEPTION, then torch hub's folder of checkpoints."""
    torchvision: str = ""
    """Weights of torchvision's Inception v3, for is-fsvae; default: in torch hub's folder of checkpoints."""
    resize: Literal["", "clean", "tf1", "torch"] = ""
    """How images are brought to Inception's size; default: clean (PIL's bicubic, as clean-fid)."""
    is_splits: int = 0
    """Parts of the images whose mean is the Inception score; 0: 10."""
    size: int = 0
    """Pixels a side that a folder or zip of images is brought to; 0: its own."""
    channels: int = 0
    """1 or 3, that a folder or zip of images is brought to; 0: its own."""
    n: Number = 0
    """Images to score; 0: 5120, of accuracy the whole split."""
    repeats: int = 0
    """Sets of n seeds, one after another, to score a run by: the table has the mean and ± the standard deviation."""
    seed: int = 0
    """First of the seeds; of accuracy with --n, draws the samples."""
    json: FlagCreatePairsOff[bool] = False
    """Print the whole record instead of a table."""
    out: str = ""
    """File for the record; default: the scores folder of the run."""
    compare: tuple[str, ...] = ()
    """Records (.json) to print beside it; unlike protocols are refused."""
    which: Literal["last", "best"] = "last"
    """Checkpoint of a run."""
    device: str = "auto"
    """cpu, cuda, ...; auto: a GPU if there is one."""

    def run(self) -> None:
        from . import evaluation

        others = {name: evaluation.read_record(name) for name in self.compare}
        place = _start(self.device)
        target, folder = self._target(place.device)
        statistics = self.reference if self.reference.endswith(".npz") else None
        if self.data and self.reference and not statistics:
            raise ValueError(f"--data {self.data} goes with a file of statistics; --reference {self.reference} is data")
        data = self.data or ("" if statistics else self.reference)
        data = data or (_own_data(target) if folder else "")
        if not data and not statistics:
            raise ValueError(f"{self.target}: images are scored against something: --reference DATA is missing")
        names = [name.strip() for name in self.metrics.split(",") if name.strip()]
        record = evaluation.evaluate(
            target,
            data or None,
            names,
            n=self.n or None,
            repeats=self.repeats or None,
            split=self.split,
            reference=statistics,
            autoencoder=self.autoencoder or None,
            classifier=self.classifier or None,
            inception=self.inception or None,
            torchvision=self.torchvision or None,
            resize=self.resize or None,
            is_splits=self.is_splits or None,
            size=self.size or None,
            channels=self.channels or None,
            root=self.data_root,
            download=self.download,
            seed=self.seed,
            device=place.device,
            progress=place.first,
        )
        if not place.first:
            return
        path = Path(self.out) if self.out else folder and folder / self._name(record)
        if path:
            path.parent.mkdir(parents=True, exist_ok=True)
            evaluation.write_record(path, record)
        self._print(record, others)
        for note in record["notes"]:
            print(f"note: {note}", file=sys.stderr)
        if path:
            print(f"record: {path}", file=sys.stderr)
        if path and "confusion" in record:
            from .evaluation import report

            print(f"picture: {report.confusion(record, path.with_suffix('.confusion.png'))}", file=sys.stderr)

    def _print(self, record: dict, others: dict[str, dict]) -> None:
        from . import evaluation

        rows = evaluation.compare({self.target: record, **others})
        for title, values in (("±", record.get("spread")), ("floor", record.get("floor"))):
            if values:
                rows = [row | {title: values.get(row["metric"])} for row in rows]
        if self.json:
            print(json.dumps(record, indent=2))
            return
        print(evaluation.table(rows))
        if "classes" in record:
            print("\n" + evaluation.table(record["classes"]))

    def _name(self, record: dict) -> str:
        """File for the record: what differs in these makes another file, not an overwritten one."""
        by = [Path(self.autoencoder).stem] if self.autoencoder else []
        n = str(max(facts["n"] for facts in record["protocol"].values()))
        n += f"x{self.repeats}" if self.repeats else ""
        names = ["all"] if self.metrics.strip() == "all" else record["scores"]
        return "-".join([*names, self.split, n, *by]) + ".json"

    def _target(self, device):
        """The model and the folder for its scores, or the path of images and None."""
        from .models import load, store

        path = Path(self.target)
        if not path.exists():
            raise FileNotFoundError(f"{path}: no such run, checkpoint, folder or zip")
        if path.suffix == ".safetensors" or (path / "config.toml").is_file() or (path / "model.safetensors").is_file():
            model = load(path, device, self.which)
            run = path if (path / "config.toml").is_file() else store.find(path).parent
            return model, run / "scores" / f"step-{model.provenance['step']:06d}"
        return self.target, None


@dataclass
class Predict:
    """Name the classes of images, or of event recordings, by a classifier or a generator with a head.

    A line a file: file, class, and the probability of the class: the softmax of the mean outputs. Where the outputs
    are spikes or votes it says rate: their mean over time, which does not sum to 1 over the classes.

    examples:
      tcja-gen predict runs/classifier digit.png more_digits/
      tcja-gen predict runs/gestures recordings/user24_led_0.npz --json
    """

    model: Run
    """Run folder, checkpoint folder or .safetensors file."""
    files: Annotated[Positional[tuple[str, ...]], arg(metavar="FILES...")]
    """Files, folders or zips of images; .npz files, or folders of them, for a model of event recordings."""
    json: FlagCreatePairsOff[bool] = False
    """Print a list of objects instead of lines."""
    which: Literal["last", "best"] = "last"
    """Checkpoint of a run."""
    device: str = "auto"
    """cpu, cuda, ...; auto: a GPU if there is one."""

    def run(self) -> None:
        from . import evaluation
        from .models import load

        place = _start(self.device)
        rows = evaluation.predict(load(self.model, place.device, self.which), self.files, place.first)
        if not place.first:
            return
        if self.json:
            print(json.dumps(rows, indent=2))
            return
        for row in rows:
            kind = "probability" if "probability" in row else "rate"
            print(f"{row['file']}\t{row['class']}\t{kind} {row[kind]:.4f}")


@dataclass
class Reference:
    """Prepare what scores need for a data set: autoencoder, classifier, features and statistics, and every floor.

    All of it is kept under ~/.cache/tcja_gen, by a hash of the images' content. The floor is the score of as many real
    training images: no generator can be expected to be better. Inception takes part if its weights are there, or
    --download. --out writes all that scores of images compare with, but for Inception's weights, as one file: evaluate
    --reference FILE.npz then needs no data.

    examples:
      tcja-gen reference digits
      tcja-gen reference mnist --data-root data --size 32 --autoencoder mnist_64.pth
      tcja-gen reference mnist --data-root data --size 32 --out mnist.npz
    """

    data: Data
    """Data set, folder or zip."""
    data_root: str = "data"
    """Folder of the named data sets."""
    download: FlagCreatePairsOff[bool] = False
    """Fetch what is not there: a named data set, the weights of Inception (200 MB for the two of them)."""
    size: int = 0
    """Pixels a side; 0: the data's own."""
    channels: int = 0
    """1 or 3; 0: the data's own."""
    split: Literal["test", "validation", "train"] = "test"
    """Split to score against."""
    n: Number = 5120
    """Images of the floor."""
    autoencoder: str = ""
    """Autoencoder in a file; default: trained on the training images."""
    classifier: str = ""
    """Classifier for the scores called -classifier; default: trained on the training images."""
    inception: str = ""
    """Weights of Inception; default: $TCJA_GEN_INCEPTION, then torch hub's folder of checkpoints."""
    torchvision: str = ""
    """Weights of torchvision's Inception v3, for is-fsvae; default: in torch hub's folder of checkpoints."""
    resize: Literal["", "clean", "tf1", "torch"] = ""
    """How images are brought to Inception's size; default: clean (PIL's bicubic, as clean-fid)."""
    out: str = ""
    """File (.npz) for all of it."""
    device: str = "auto"
    """cpu, cuda, ...; auto: a GPU if there is one."""

    def run(self) -> None:
        from . import evaluation

        place = _start(self.device)
        record = evaluation.reference(
            self.data,
            split=self.split,
            n=self.n,
            size=self.size or None,
            channels=self.channels or None,
            root=self.data_root,
            download=self.download,
            autoencoder=self.autoencoder or None,
            classifier=self.classifier or None,
            inception=self.inception or None,
            torchvision=self.torchvision or None,
            resize=self.resize or None,
            out=self.out or None,
            device=place.device,
            progress=place.first,
        )
        if place.first:
            print(json.dumps(record, indent=2))


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
        from .data import check_data

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
        from .evaluation import energy, report

        if self.data_root and not self.energy:
            raise ValueError(f"--data-root {self.data_root}: only --energy reads data; add it or leave this out")
        _start("cpu")
        costs = energy.table(energy.of_run(self.folder, self.data_root)[1]) if self.energy else ""
        print(report.describe(self.folder))
        if costs:
            print(costs)
        for path in report.figures(self.folder, self.out or Path(self.folder) / "figures"):
            print(path)

    def _environment(self) -> None:
        from .process import environment
        from .training import runs

        if not self.environment:
            raise ValueError("show: the folder of a run is wanted, or --environment (which takes --device)")
        if self.folder or self.out or self.energy or self.data_root:
            raise ValueError("--environment is about this machine; leave the run and its flags out")
        facts = {**runs.versions(), **environment(_start(self.device or "auto").device)}
        for name, fact in facts.items():
            print(f"{name:<14}{fact}")


COMMANDS = {
    "demo": Demo,
    "train": Train,
    "sample": Sample,
    "reconstruct": Reconstruct,
    "interpolate": Interpolate,
    "predict": Predict,
    "evaluate": Evaluate,
    "reference": Reference,
    "check": Check,
    "show": Show,
}


def parse_seeds(text: str) -> list[int]:
    """ "0-3,8" -> [0, 1, 2, 3, 8]."""
    seeds: list[int] = []
    for part in text.split(","):
        first, _, last = (word.strip() for word in part.partition("-"))
        last = last or first
        if not (first.isdecimal() and last.isdecimal() and int(first) <= int(last) < 2**63):
            raise ValueError(f"--seeds {text}: cannot read {part!r}; write 0-63 or 3,5,8-11")
        seeds += range(int(first), int(last) + 1)
    return seeds


def _at_least_one(n: int) -> int:
    if n < 1:
        raise ValueError(f"--n {n}: at least one image must be asked for")
    return n


def _stop_unless(finished: bool) -> None:
    """A run that Ctrl-C stopped has saved and said so; what was to come after it is not done."""
    if not finished:
        raise SystemExit(130)


def _start(device: str):
    from .process import start

    return start(device)


def _first() -> bool:
    from .process import start

    return start().first


def _generator(command: "Sample | Reconstruct | Interpolate", device):
    """The model of the command's run; ValueError if it makes no images."""
    from .models import load

    model = load(command.model, device, command.which)
    if not hasattr(model, "sample"):
        raise ValueError(f"{command.model}: a classifier, which makes no images; tcja-gen predict names classes by it")
    return model


def _class(model, label: str) -> int:
    """Number of a class by its name in the training data, or by its number."""
    if not model.classes:
        raise ValueError(f"--class {label}: this generator was trained without classes (--model.conditional)")
    names = model.provenance["data"].get("classes", [])
    if label in names:
        return names.index(label)
    if not (label.isdecimal() and int(label) < model.classes):
        known = f", or a name: {', '.join(names[:12])}{', ...' if len(names) > 12 else ''}" if names else ""
        raise ValueError(f"--class {label}: no such class; wanted 0 to {model.classes - 1}{known}")
    return int(label)


def _images(model, command: "Reconstruct | Interpolate"):
    """Images uint8 of a named set's test split or of a whole folder, fitted to the model."""
    from .data import load_images

    source = command.images or _own_data(model)
    split = "all" if command.images and Path(source).exists() else "test"
    shape = {"size": model.image_size, "channels": model.image_channels}
    return load_images(source, split, **shape, root=command.data_root, download=command.download).images


def _own_data(model) -> str:
    """What the model was trained on: a name, or the path of a folder or zip."""
    facts = model.provenance["data"]
    return facts.get("source", facts["name"])
