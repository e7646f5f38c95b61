"""Commands that make images."""

import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal

from tyro.conf import FlagCreatePairsOff, arg

from ..errors import UserError
from ..files import check_writable
from .arguments import Number, Run, Sampling, SamplingFlags, data_exists, run_exists, start


@dataclass
class Sample:
    """Make images, one from each seed. A seed always gives the same image, whichever other seeds are used with it.

    examples:
      tcja-gen sample runs/00000-digits --n 64 --grid
      tcja-gen sample model.safetensors --seeds 0-9,42 --out pictures --film
      tcja-gen sample runs/conditional --n 8 --class 3 --guidance 1
      tcja-gen sample mnist --n 64 --grid
      tcja-gen sample mnist --rounds 8 --temperature 1.1
      tcja-gen sample mnist --n 50000 --out many       # stopped, the same command makes the images that are missing
      tcja-gen sample runs/n-mnist --class 3 --film --events recordings
    """

    model: Run = ""
    """Run folder, checkpoint, .safetensors file, or name of a pretrained model (tcja-gen list)."""
    pretrained: str = ""
    """Name of a pretrained model; the same as giving the name as RUN."""
    n: Number = 64
    """Number of images, from seeds 0 .. n-1."""
    seeds: str = ""
    """Seeds instead of a number: 0-63, or 3,5,8-11."""
    label: Annotated[str, arg(name="class")] = ""
    """Class to make, by name or number, for a conditional generator; default: seed i has class i mod classes."""
    out: str = "samples"
    """Folder for the pictures."""
    grid: FlagCreatePairsOff[bool] = False
    """Save one picture of all images instead of one file for each."""
    film: FlagCreatePairsOff[bool] = False
    """Also save an animated GIF of the first 64 images as they form over the time steps, or of their event frames."""
    events: str = ""
    """Of a generator of event frames: also write recordings to this folder, CLASS/SEED.bin."""
    events_as: Literal["", "bin", "npz"] = ""
    """With --events: the format, that of N-MNIST (bin, the default) or arrays t, x, y, p (npz)."""
    events_draw: Literal["", "poisson", "threshold"] = ""
    """With --events: how many events a pixel has: drawn with the expected count as mean (poisson, the default), or the
    expected count, rounded (threshold)."""
    milliseconds: int | None = None
    """With --events: duration of a recording; default: 300, as in N-MNIST."""
    sampling: SamplingFlags = field(default_factory=Sampling)
    which: Literal["last", "best"] = "last"
    """Which checkpoint of the run."""
    device: str = "auto"
    """cpu, cuda, ...; auto: a GPU if there is one."""

    def run(self) -> None:
        run_exists(self.model)
        check_writable(Path(self.out))
        from ..evaluation import generate, pictures, sample_files

        process = start(self.device)
        if bool(self.model) == bool(self.pretrained):
            raise UserError("sample needs either a RUN or --pretrained NAME")
        seeds = parse_seeds(self.seeds) if self.seeds else range(_at_least_one(self.n))
        model = _generator(self, process.device)
        self._check_events(model)
        self.sampling.set(model, self.model)
        label = _class(model, self.label) if self.label else None
        if self.grid:
            images = generate.sample(model, seeds, progress=process.first, label=label)
            images = images if model.full_count else images / 255
            made = _save_grid(model, images, seeds, label, Path(self.out)) if process.first else None
        else:
            sample_files.write_samples(model, seeds, made := Path(self.out), process, label)
        if process.first:
            print(made)
        if self.film and process.first:
            print(pictures.save_film(model.film(seeds[:64], label), Path(self.out) / "film.gif"))
        if self.events:
            self._write_events(model, seeds, label, process)

    def _check_events(self, model) -> None:
        if self.events and not model.full_count:
            raise UserError("--events: this generator makes images; one of event frames makes recordings")
        if not self.events and (self.events_as or self.events_draw or self.milliseconds is not None):
            raise UserError("--events-as, --events-draw and --milliseconds need --events FOLDER")
        if self.events:
            check_writable(Path(self.events))
        if self.milliseconds is not None and not model.time_steps <= 1000 * self.milliseconds < 2**23:
            raise UserError(f"--milliseconds {self.milliseconds}: wanted 1 to {2**23 // 1000}")

    def _write_events(self, model, seeds: list[int], label: int | None, process) -> None:
        from ..evaluation import recordings

        how = {"way": self.events_draw or "poisson", "ending": self.events_as or "bin"}
        duration = recordings.MILLISECONDS if self.milliseconds is None else self.milliseconds
        recordings.write_recordings(model, seeds, Path(self.events), process, label, milliseconds=duration, **how)
        if process.first:
            print(self.events)


@dataclass
class Reconstruct:
    """Send images through the latent spikes and back. Saves originals and reconstructions side by side.

    examples:
      tcja-gen reconstruct runs/00000-digits --n 32
      tcja-gen reconstruct runs/mnist --images my_pictures/ --out pictures
    """

    model: Run
    """Run folder, checkpoint, .safetensors file, or name of a pretrained model (tcja-gen list)."""
    images: str = ""
    """Data set, folder or zip; default: the test images of the run's own data."""
    data_root: str = "data"
    """Folder of the named data sets."""
    download: FlagCreatePairsOff[bool] = False
    """Download a named data set if it is missing."""
    n: Number = 32
    """Number of images, spread evenly over the set, the same ones every time."""
    seed: int = 0
    """Seed of the latent draws."""
    out: str = "reconstructions"
    """Folder for the picture."""
    which: Literal["last", "best"] = "last"
    """Which checkpoint of the run."""
    device: str = "auto"
    """cpu, cuda, ...; auto: a GPU if there is one."""

    def run(self) -> None:
        run_exists(self.model)
        check_writable(Path(self.out))
        data_exists(self.images)
        from ..evaluation import generate, pictures

        process = start(self.device)
        model = _generator(self, process.device)
        originals = _images(model, self, _at_least_one(self.n))
        again = generate.reconstruct(model, originals, self.seed, progress=process.first)
        if not process.first:
            return
        originals = generate.as_input(originals)
        pixels = pictures.rows(pictures.pairs(originals, again))
        facts = pictures.made_by(model, range(self.seed, self.seed + len(originals)))
        print(pictures.save(pixels, Path(self.out) / "reconstructions.png", facts))
        images, frames = ("pixels in [0, 1]", "images"), ("events in a pixel and frame", "recordings")
        unit, kind = frames if model.full_count else images
        error = (again - originals).square().mean().item()
        print(f"mean squared error {error:.5f} ({unit}) over {len(originals)} {kind}")


@dataclass
class Interpolate:
    """Make images between two images, in the latent spikes.

    A spike is 0 or 1 and has no middle. At fraction a of the way, every latent spike is that of the second image with
    probability a. One random number per spike decides for all fractions, so spikes change one by one. The ends are
    reconstructions. A gaussian latent has real numbers and is interpolated linearly.

    examples:
      tcja-gen interpolate runs/00000-digits --pairs 8 --steps 9
      tcja-gen interpolate runs/mnist --images mnist --data-root data
    """

    model: Run
    """Run folder, checkpoint, .safetensors file, or name of a pretrained model (tcja-gen list)."""
    images: str = ""
    """Data set, folder or zip. Images spread evenly over it are the ends: 0 and 1, 2 and 3, ...; default: samples of
    seeds 0, 1, ..."""
    data_root: str = "data"
    """Folder of the named data sets."""
    download: FlagCreatePairsOff[bool] = False
    """Download a named data set if it is missing."""
    pairs: int = 8
    """Number of pairs, one row each."""
    steps: int = 9
    """Images in a row, including both ends."""
    seed: int = 0
    """Seed of the latent draws."""
    out: str = "interpolations"
    """Folder for the picture."""
    which: Literal["last", "best"] = "last"
    """Which checkpoint of the run."""
    device: str = "auto"
    """cpu, cuda, ...; auto: a GPU if there is one."""

    def run(self) -> None:
        run_exists(self.model)
        check_writable(Path(self.out))
        data_exists(self.images)
        import torch

        from ..evaluation import generate, pictures

        process = start(self.device)
        if self.steps < 2 or self.pairs < 1:
            raise UserError(f"--pairs {self.pairs} --steps {self.steps}: at least 1 pair and 2 steps are needed")
        model = _generator(self, process.device)
        count = 2 * self.pairs
        ends = generate.as_input(_images(model, self, count)) if self.images else model.sample(range(count))
        if len(ends) < count:
            raise UserError(f"{self.images}: {len(ends)} images, --pairs {self.pairs} needs {count}")
        rows = [model.interpolate(ends[2 * i], ends[2 * i + 1], self.steps, self.seed) for i in range(self.pairs)]
        if process.first:
            facts = pictures.made_by(model, [self.seed] if self.images else range(count))
            print(self._save(torch.cat(rows), facts))

    def _save(self, rows, facts: dict) -> Path:
        from ..evaluation import pictures

        if rows.dim() == 5:
            return pictures.save_film(rows, Path(self.out) / "interpolations.gif", columns=self.steps)
        return pictures.save_grid(rows, Path(self.out) / "interpolations.png", self.steps, facts)


def parse_seeds(text: str) -> list[int]:
    """ "0-3,8" -> [0, 1, 2, 3, 8]. UserError for any other text."""
    seeds: list[int] = []
    for part in text.split(","):
        first, _, last = (word.strip() for word in part.partition("-"))
        last = last or first
        if not (first.isdecimal() and last.isdecimal() and int(first) <= int(last) < 2**63):
            raise UserError(f"--seeds {text}: cannot read {part!r}; write 0-63 or 3,5,8-11")
        seeds += range(int(first), int(last) + 1)
    return seeds


def _at_least_one(n: int) -> int:
    if n < 1:
        raise UserError(f"--n {n}: at least one image must be asked for")
    return n


def _generator(command: "Sample | Reconstruct | Interpolate", device):
    """The model of the command's run, or the pretrained one. UserError if it makes no images."""
    from ..models import load
    from ..models.pretrained import pretrained

    shipped = getattr(command, "pretrained", "")  # that model, though a run here may have its name
    model = pretrained(shipped, device) if shipped else load(command.model, device, command.which)
    if not hasattr(model, "sample"):
        told = "a classifier, which makes no images; tcja-gen predict names classes by it"
        raise UserError(f"{shipped or command.model}: {told}")
    return model


def _save_grid(model, images, seeds: list[int], label: int | None, out: Path) -> Path:
    """Writes samples.png; of a conditional model with a row for each class, unless one was asked for."""
    from ..evaluation import pictures

    classes, names = model.classes if label is None else 0, model.provenance.get("data", {}).get("classes", ())
    pixels = pictures.samples(images, seeds, classes, names)
    return pictures.save(pixels, out / "samples.png", pictures.made_by(model, seeds))


def _class(model, label: str) -> int:
    """Number of a class that is given by its name in the training data or by its number. UserError if unknown."""
    if not model.classes:
        raise UserError(f"--class {label}: this generator was trained without classes (--model.latent.conditional)")
    names = model.provenance["data"].get("classes", [])
    if label in names:
        return names.index(label)
    if not (label.isdecimal() and int(label) < model.classes):
        known = f", or a name: {', '.join(names[:12])}{', ...' if len(names) > 12 else ''}" if names else ""
        raise UserError(f"--class {label}: no such class; wanted 0 to {model.classes - 1}{known}")
    return int(label)


def _images(model, command: "Reconstruct | Interpolate", n: int):
    """Up to n images (n, C, H, W), uint8, with the model's size and channels, or event counts (n, T, 2, H, W): test
    images of a named data set (where a fold validated the training, those of the fold), or of all images of a folder. A
    note on stderr tells if those of a folder are converted."""
    from ..data import even, is_named, load_images
    from ..evaluation import own_data
    from ..evaluation.classification import load_for
    from ..evaluation.summed_frames import fold_of

    source = command.images or own_data(model, command.data_root, command.download)
    split = "all" if command.images and not is_named(source) else "test"
    split = "validation" if fold_of(model, source) else split
    if model.full_count:
        frames = load_for(model, source, split, command.data_root).frames
        return frames[even(n, len(frames))]
    shape = {"size": model.image_size, "channels": model.image_channels}
    where = {"root": command.data_root, "download": command.download}
    found = load_images(source, split, **shape, **where, pick=lambda total: even(n, total))
    if command.images and found.converted:
        print(f"note: {source}: {found.converted}, which the model takes", file=sys.stderr)
    return found.images
