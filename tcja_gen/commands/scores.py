"""Commands that score."""

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from tyro.conf import FlagCreatePairsOff, Positional, arg

from ..errors import MissingFile, UserError
from ..files import check_writable
from ..shipped import weights
from .common import Data, Number, Run, data_exists, files_exist, run_exists, start


@dataclass
class Evaluate:
    """Score a run, or a folder or zip of images, against a data set.

    Metrics of images: fad (Fréchet autoencoder distance in evaluation mode, the main score), fad-official (as in the
    FSVAE papers); fid, kid, is, precision, recall, density, coverage, memorisation on the features of Inception, whose
    weights (--inception, --download) are not part of this package; the same names with -classifier, on the features of
    a classifier of the data's own classes; is-fsvae, IS as FSVAE's code computes it, which is not the standard one. Of
    reconstructions: fad-reconstruction, fad-official-reconstruction, reconstruction (squared error), psnr, ssim.
    Without --autoencoder or --classifier one is trained on the data, once, and kept; its scores compare with each
    other, not with published ones. --metrics all computes all that it can, and tells what it cannot. The table has the
    standard deviation (±) of scores that are means, and the floor if tcja-gen reference has computed it.

    Metrics of classifiers, and of generators with a head: accuracy, accuracy-by-step (of the mean over the first 1 .. T
    outputs of one pass). They come with a table of the classes and a picture of the confusion matrix.

    examples:
      tcja-gen evaluate runs/00000-digits
      tcja-gen evaluate my_images.zip --reference mnist --metrics fad,fad-official --autoencoder mnist_64.pth
      tcja-gen evaluate my_images/ --reference mnist --metrics all
      tcja-gen evaluate my_images/ --reference mnist.npz --metrics fad,kid-classifier
      tcja-gen evaluate runs/mnist --metrics fad-official --repeats 3
      tcja-gen evaluate runs/classifier --metrics accuracy,accuracy-by-step --split validation
    """

    target: Annotated[Positional[str], arg(metavar="RUN|FOLDER|ZIP")] = ""
    """Run folder, checkpoint, name of a pretrained model (tcja-gen list), or a folder or zip of images."""
    pretrained: str = ""
    """The same as a RUN of this name: a model that comes with the package."""
    metrics: str = ""
    """Names with commas between them, or all; default: fad for images, accuracy for a model that predicts classes."""
    reference: str = ""
    """Data set to score against, or an .npz of tcja-gen reference --out or of published mu and sigma; default: the
    data that the run was trained on."""
    data: str = ""
    """Data set, if --reference is a file and the metrics need its images."""
    data_root: str = "data"
    """Folder of the named data sets."""
    download: FlagCreatePairsOff[bool] = False
    """Fetch what is missing: a named data set, the weights of Inception."""
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
    """How images are resized for Inception; default: clean (PIL's bicubic, as clean-fid)."""
    is_splits: int = 0
    """Parts of the images over which the Inception score is averaged; 0: 10."""
    size: int = 0
    """Pixels a side to which a folder or zip of images is resized; 0: its own."""
    channels: int = 0
    """1 or 3, to which a folder or zip of images is converted; 0: its own."""
    n: Number = 0
    """Images to score; 0: 5120, for accuracy the whole split."""
    repeats: int = 0
    """Score a run on so many sets of n seeds, one after another: mean and standard deviation (±)."""
    seed: int = 0
    """First seed; for accuracy with --n, the seed that draws the samples."""
    rounds: int | None = None
    """Passes of a prior of spatial codes for a sample: fewer are quicker and worse; default: the model's."""
    temperature: float | None = None
    """Temperature of the same prior: a higher one gives more varied images; default: the model's."""
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
        if bool(self.target) == bool(self.pretrained):
            raise UserError("evaluate wants a run, a folder or zip of images, or --pretrained NAME, one of them")
        self.target = self.target or self.pretrained
        if not Path(self.target).exists() and self.target not in weights():
            raise MissingFile(f"{self.target}: no such run, checkpoint, pretrained model, folder or zip")
        data_exists(self.reference)
        data_exists(self.data)
        files_exist(*self.compare)
        from .. import evaluation

        others = {name: evaluation.read_record(name) for name in self.compare}
        evaluation.compare(others)
        place = start(self.device)
        target, folder = self._target(place.device)
        self._set_sampling(target)
        request = self._request(target, not isinstance(target, str), place)
        record = evaluation.score(target, request)
        if not place.first:
            return
        path = Path(self.out) if self.out else folder and folder / evaluation.file_name(record, request.metrics)
        try:
            refused = self._print(record, others)  # before the writing, which may fail, too
        finally:
            if path:
                self._write(record, path)
        if refused:
            raise refused
        if not record["scores"]:
            raise UserError(f"{self.target}: nothing of what was asked for could be scored, as the notes say")

    def _request(self, target, is_model: bool, place):
        """The flags as a request; UserError if the images of --reference or --data are missing or named twice."""
        from .. import evaluation

        statistics = self.reference if self.reference.endswith(".npz") else ""
        if self.data and self.reference and not statistics:
            raise UserError(f"--data {self.data} goes with a file of statistics; --reference {self.reference} is data")
        data = self.data or ("" if statistics else self.reference)
        if not data and is_model:
            data = evaluation.own_data(target, self.data_root, self.download)
        if not data and not statistics:
            raise UserError(f"{self.target}: images are scored against something: --reference DATA is missing")
        return evaluation.Request(
            data=data or None,
            metrics=self.metrics,
            reference=statistics or None,
            seed=self.seed,
            **_shared(self, place),
            **{name: getattr(self, name) or None for name in ("repeats", "is_splits")},
        )

    def _set_sampling(self, target) -> None:
        if self.rounds is None and self.temperature is None:
            return
        if not hasattr(target, "sample_by"):
            raise UserError("--rounds and --temperature are of a generator's prior, and there is none to sample from")
        target.sample_by(self.rounds, self.temperature)

    def _write(self, record: dict, path: Path) -> None:
        from ..evaluation import report, write_record

        write_record(path, record)
        print(f"record: {path}", file=sys.stderr)
        if "confusion" in record:
            print(f"picture: {report.confusion(record, path.with_suffix('.confusion.png'))}", file=sys.stderr)

    def _print(self, record: dict, others: dict[str, dict]) -> UserError | None:
        """Print the scores, with the others beside them. Returns the error if these are not comparable."""
        from .. import evaluation

        refused = None
        try:
            rows = evaluation.compare({self.target: record, **others})
        except UserError as error:
            rows, refused = evaluation.compare({self.target: record}), error
        for title, values in (("±", record.get("spread")), ("floor", record.get("floor"))):
            if values:
                rows = [row | {title: values.get(row["metric"])} for row in rows]
        if self.json:
            shown = evaluation.text(record | ({"compared": rows} if others else {}))
        else:
            tables = [rows, record["classes"]] if "classes" in record else [rows]
            shown = "\n\n".join(map(evaluation.table, tables))
        print(shown, flush=True)
        for note in record["notes"]:
            print(f"note: {note}", file=sys.stderr)
        return refused

    def _target(self, device):
        """The model and the folder for its scores (None for a pretrained one), or the path of images and None."""
        from ..models import load, store

        if not store.is_model(self.target):
            return self.target, None
        model, file = load(self.target, device, self.which), store.find(self.target, self.which)
        run = file.parents[2] if file.parents[1].name == "checkpoints" else file.parent
        return model, run / "scores" / f"step-{model.provenance['step']:06d}" if Path(self.target).exists() else None


@dataclass
class Predict:
    """Predict the classes of images, or of event recordings, with a classifier or a generator with a head.

    Prints a line for each file: the file, its class, and the probability of the class, the softmax of the mean outputs.
    If the outputs are spikes or votes it is a rate: their mean over time, which does not sum to 1 over the classes.

    examples:
      tcja-gen predict runs/classifier digit.png more_digits/
      tcja-gen predict runs/gestures recordings/user24_led_0.npz --json
    """

    model: Run
    """Run folder, checkpoint, .safetensors file, or name of a pretrained model (tcja-gen list)."""
    files: Annotated[Positional[tuple[str, ...]], arg(metavar="FILES...")]
    """Files, folders or zips of images; .npz files, or folders of them, for a model of event recordings."""
    json: FlagCreatePairsOff[bool] = False
    """Print a list of objects instead of lines."""
    which: Literal["last", "best"] = "last"
    """Checkpoint of a run."""
    device: str = "auto"
    """cpu, cuda, ...; auto: a GPU if there is one."""

    def run(self) -> None:
        run_exists(self.model)
        files_exist(*self.files)
        from .. import evaluation
        from ..models import load

        place = start(self.device)
        rows = evaluation.predict(load(self.model, place.device, self.which), self.files, place.first)
        if not place.first:
            return
        if self.json:
            print(evaluation.text(rows))
            return
        for row in rows:
            kind = "probability" if "probability" in row else "rate"
            print(f"{row['file']}\t{row['class']}\t{kind} {row[kind]:.4f}")


@dataclass
class Reference:
    """Compute what scores need for a data set: autoencoder, classifier, features, statistics, and every floor.

    All of it is kept under ~/.cache/tcja_gen, by a hash of the images' content. The floor is the score of --n real
    training images: no generator can be expected to be better. Inception is included if its weights are there, or with
    --download. --out writes all that images are compared with to one file, except Inception's weights: evaluate
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
    """Fetch what is missing: a named data set, the weights of Inception (200 MB for both networks)."""
    size: int = 0
    """Pixels a side; 0: the data's own."""
    channels: int = 0
    """1 or 3; 0: the data's own."""
    split: Literal["test", "validation", "train"] = "test"
    """Split to score against."""
    n: Number = 5120
    """Training images to compute the floor with."""
    autoencoder: str = ""
    """Autoencoder for FAD; default: trained on the training images."""
    classifier: str = ""
    """Classifier for the scores called -classifier; default: trained on the training images."""
    inception: str = ""
    """Weights of Inception; default: $TCJA_GEN_INCEPTION, then torch hub's folder of checkpoints."""
    torchvision: str = ""
    """Weights of torchvision's Inception v3, for is-fsvae; default: in torch hub's folder of checkpoints."""
    resize: Literal["", "clean", "tf1", "torch"] = ""
    """How images are resized for Inception; default: clean (PIL's bicubic, as clean-fid)."""
    out: str = ""
    """File (.npz) to write all of it to."""
    device: str = "auto"
    """cpu, cuda, ...; auto: a GPU if there is one."""

    def run(self) -> None:
        data_exists(self.data)
        files_exist(self.autoencoder, self.classifier, self.inception, self.torchvision)
        if self.out:
            check_writable(Path(self.out).parent)
        from .. import evaluation

        place = start(self.device)
        request = evaluation.Request(data=self.data, metrics="all", **_shared(self, place))
        record = evaluation.prepare(request, self.out or None)
        if place.first:
            print(evaluation.text(record))


def _shared(command: Evaluate | Reference, place) -> dict:
    """The fields of a request that both commands have; a flag that is 0 or empty is not given."""
    optional = ("n", "size", "channels", "autoencoder", "classifier", "inception", "torchvision", "resize")
    given = {name: getattr(command, name) or None for name in optional}
    given |= dict(split=command.split, root=command.data_root, download=command.download)
    return given | dict(device=place.device, progress=place.first, from_shell=True)
