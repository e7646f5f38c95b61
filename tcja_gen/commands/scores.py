"""Commands that score and predict."""

import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal

from tyro.conf import FlagCreatePairsOff, Positional, arg

from ..errors import MissingFile, UserError
from ..shipped import is_published
from .arguments import (
    Data,
    Number,
    Run,
    Sampling,
    SamplingFlags,
    data_exists,
    file_writable,
    files_exist,
    run_exists,
    start,
    writable_for_scores,
)


@dataclass
class Evaluate:
    """Score a run, or a folder or zip of images, against a data set.

    Metrics of images:
      fad                   Fréchet autoencoder distance, autoencoder in evaluation mode; the main score
      fad-official          the same as in the FSVAE papers
      fid kid is precision recall density coverage memorisation
                            on features of Inception; its weights are not part of the package (--inception, --download)
      fid-classifier ...    the same metrics on features of a classifier of the data's own classes
      recognition-classifier
                            share of a conditional model's samples, or of images in folders of classes, that this
                            classifier takes for their class; with a table of the classes
      kid-autoencoder ...   all of these but fid and is on features of fad's autoencoder, for data without classes
      memorisation...       is drawn, too, beside the record: samples nearest to training images, and those images
      fd-dinov2 ...         the same metrics but is on features of DINOv2, whose weights are fetched by hand (--dinov2)
      is-fsvae              IS as FSVAE's code computes it, which is not the standard IS

    Metrics of reconstructions:
      fad-reconstruction fad-official-reconstruction reconstruction (squared error) psnr ssim

    Metrics of conditional generators, with --recogniser, the run of a classifier:
      recognition           share of the samples that it takes for the class asked for
      recognition-events    of a generator of event frames: the same of the events that are drawn from them

    Other metrics of a generator of event frames look at its frames summed up, one grey image a recording.

    Metrics of classifiers, and of generators with a head:
      accuracy              with a table of the classes and a picture of the confusion matrix
      accuracy-by-step      accuracy of the mean over the first t outputs, for every t up to T

    --metrics all computes everything that it can and names the rest. Without --autoencoder or --classifier, a network
    is trained on the data once and stored; its scores cannot be compared with published ones. The table has the
    standard deviation (±) of scores that are means, and the floor if tcja-gen reference has computed it.

    examples:
      tcja-gen evaluate runs/00000-digits
      tcja-gen evaluate my_images.zip --reference mnist --metrics fad,fad-official --autoencoder mnist_64.pth
      tcja-gen evaluate my_images/ --reference mnist --metrics all
      tcja-gen evaluate my_images/ --reference mnist.npz --metrics fad,kid-classifier
      tcja-gen evaluate runs/mnist --metrics fad-official --repeats 3
      tcja-gen evaluate runs/classifier --metrics accuracy,accuracy-by-step --split validation
      tcja-gen evaluate runs/n-mnist --metrics recognition-events --recogniser n-mnist-classifier --n 500
    """

    target: Annotated[Positional[str], arg(metavar="RUN|FOLDER|ZIP")] = ""
    """Run folder, checkpoint, name of a pretrained model (tcja-gen list), or a folder or zip of images."""
    pretrained: str = ""
    """Name of a pretrained model; the same as giving the name as RUN."""
    metrics: str = ""
    """Names separated by commas, or all; default: fad for images, accuracy for a model that predicts classes."""
    reference: str = ""
    """Data set to score against, or an .npz file: of tcja-gen reference --out, or with published mu and sigma; default:
    the data that the run was trained on."""
    data: str = ""
    """Data set whose images the metrics need, if --reference is a file."""
    data_root: str = "data"
    """Folder of the named data sets."""
    download: FlagCreatePairsOff[bool] = False
    """Download what is missing: a named data set, published weights of a network."""
    split: Literal["test", "validation", "train", "train+validation", "all"] = "test"
    """Split to score against."""
    autoencoder: str = ""
    """Autoencoder for FAD: fsvae-mnist or fsvae-fashion-mnist, which FSVAE's authors published, or a file: theirs
    (.pth), or one trained by this package."""
    classifier: str = ""
    """Classifier for the metrics that end in -classifier; default: trained on the training images."""
    inception: str = ""
    """Weights of Inception; default: $TCJA_GEN_INCEPTION, then torch hub's folder of checkpoints."""
    torchvision: str = ""
    """Weights of torchvision's Inception v3, for is-fsvae; default: in torch hub's folder of checkpoints."""
    dinov2: str = ""
    """Weights of DINOv2, for fd-dinov2; default: $TCJA_GEN_DINOV2, then torch hub's folder of checkpoints."""
    recogniser: str = ""
    """Run of a classifier, its checkpoint or file, or name of a pretrained one, for recognition."""
    resize: Literal["", "clean", "tf1", "torch"] = ""
    """How images are resized for Inception; default: clean (PIL's bicubic, as clean-fid)."""
    is_splits: int = 0
    """Number of parts of the images over which the Inception score is averaged; 0: 10."""
    size: int = 0
    """Resize the images of a folder or zip to so many pixels a side; 0: keep their size."""
    channels: int = 0
    """Convert the images of a folder or zip to 1 or 3 channels; 0: keep their channels."""
    n: Number = 0
    """Images to score; 0: 5120, or for accuracy the whole split."""
    repeats: int = 0
    """Score a run on so many sets of n seeds; the table has the mean and standard deviation (±)."""
    seed: int = 0
    """First seed; for accuracy with --n, the seed that chooses the samples."""
    sampling: SamplingFlags = field(default_factory=Sampling)
    json: FlagCreatePairsOff[bool] = False
    """Print the whole record instead of a table."""
    out: str = ""
    """File for the record; default: one in the scores folder of the run, none of a file of weights on its own."""
    compare: tuple[str, ...] = ()
    """Other records (.json) to print in the same table; records of another protocol are refused."""
    which: Literal["last", "best"] = "last"
    """Which checkpoint of the run."""
    device: str = "auto"
    """cpu, cuda, ...; auto: a GPU if there is one."""

    def run(self) -> None:
        if bool(self.target) == bool(self.pretrained):
            raise UserError("evaluate needs one of: a run, a folder or zip of images, --pretrained NAME")
        self.target = self.target or self.pretrained
        if not Path(self.target).exists() and not is_published(self.target):
            raise MissingFile(f"{self.target}: no such run, checkpoint, pretrained model, folder or zip")
        data_exists(self.reference)
        data_exists(self.data)
        files_exist(*self.compare)
        run_exists(self.recogniser)
        file_writable(self.out, "--out")
        from .. import evaluation

        if (flags := self.sampling.given()) and not evaluation.Request(metrics=self.metrics).draws_samples:
            raise UserError(f"{flags}: {self.metrics} draws no samples: leave it out")
        others = {name: evaluation.read_record(name) for name in self.compare}
        evaluation.compare(others)
        process = start(self.device)
        target, folder = self._target(process.device)
        if folder and not self.out:
            writable_for_scores(folder)
        self.sampling.set(target, self.target)
        request = self._request(target, not isinstance(target, str), process)
        record = evaluation.score(target, request)
        if not process.first:
            return
        path = Path(self.out) if self.out else folder and folder / evaluation.file_name(record, request.metrics)
        try:
            refused = self._print(record, others)  # before the record is written, as writing can fail
        finally:
            if path:
                self._write(record, path, target, request)
        if folder:
            from ..training.runs import record_scores

            record_scores(folder.parents[1], target.provenance["step"], record["scores"])
        if refused:
            raise refused
        if not record["scores"]:
            raise UserError(f"{self.target}: none of the metrics could be computed; the notes say why")

    def _request(self, target, is_model: bool, process):
        """The flags as an `evaluation.Request`. UserError if the data to score against are missing or named twice."""
        from .. import evaluation

        statistics = self.reference if self.reference.endswith(".npz") else ""
        if self.data and self.reference and not statistics:
            raise UserError(f"--data {self.data} goes with a file of statistics; --reference {self.reference} is data")
        data = self.data or ("" if statistics else self.reference)
        if not data and is_model:
            data = evaluation.own_data(target, self.data_root, self.download)
        if not data and not statistics:
            raise UserError(f"{self.target}: --reference DATA is missing, the images to score against")
        return evaluation.Request(
            data=data or None,
            metrics=self.metrics,
            reference=statistics or None,
            seed=self.seed,
            **_shared(self, process),
            **{name: getattr(self, name) or None for name in ("repeats", "is_splits", "recogniser")},
        )

    def _write(self, record: dict, path: Path, target, request) -> None:
        from .. import report
        from ..evaluation import nearest_picture, pictures, write_record

        write_record(path, record)
        print(f"record: {path}", file=sys.stderr)
        if "confusion" in record:
            print(f"picture: {report.confusion(record, _beside(path, '.confusion.png'))}", file=sys.stderr)
        if "recognition" in record:
            drawn = report.confusion(record["recognition"], _beside(path, ".recognition.png"))
            print(f"picture: {drawn}", file=sys.stderr)
        if "nearest" in record:
            drawn = pictures.save(nearest_picture(record, target, request), _beside(path, ".nearest.png"))
            print(f"picture, which shows training images: {drawn}", file=sys.stderr)

    def _print(self, record: dict, others: dict[str, dict]) -> UserError | None:
        """Prints the scores together with those of other records. Returns the error if they are not comparable."""
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
            output = evaluation.text(record | ({"compared": rows} if others else {}))
        else:
            tables = [rows, *(part["classes"] for part in (record, record.get("recognition", {})) if "classes" in part)]
            output = "\n\n".join(map(evaluation.table, tables))
        print(output, flush=True)
        for note in record["notes"]:
            print(f"note: {note}", file=sys.stderr)
        return refused

    def _target(self, device):
        """What is scored, and the folder for its scores: a model and a folder inside its run (None if it has none), or
        the path of images and None."""
        from ..models import load, store
        from ..models.pretrained import pretrained

        if self.pretrained:
            return pretrained(self.pretrained, device), None
        if not store.is_model(self.target):
            if self.which == "best":
                raise UserError(f"{self.target}: --which best chooses among the checkpoints of a run, not among images")
            return self.target, None
        file = store.find(self.target, self.which)
        model = load(file, device)
        return model, store.scores_of(model, file)


@dataclass
class Predict:
    """Predict the classes of images, or of event recordings, with a classifier or a generator with a head.

    Prints a line for each file: its name, its class, and the probability of the class (softmax of the mean outputs).
    If the outputs are spikes or votes, it prints their mean over time, a rate, which does not sum to 1 over the
    classes.

    examples:
      tcja-gen predict runs/classifier digit.png more_digits/
      tcja-gen predict runs/gestures recordings/user24_led_0.npz --json
    """

    model: Run
    """Run folder, checkpoint, .safetensors file, or name of a pretrained model (tcja-gen list)."""
    files: Annotated[Positional[tuple[str, ...]], arg(metavar="FILES...")]
    """Files, folders or zips of images. For a model of event recordings: files or folders of them."""
    json: FlagCreatePairsOff[bool] = False
    """Print a JSON list of objects instead of lines."""
    which: Literal["last", "best"] = "last"
    """Which checkpoint of the run."""
    device: str = "auto"
    """cpu, cuda, ...; auto: a GPU if there is one."""

    def run(self) -> None:
        run_exists(self.model)
        files_exist(*self.files)
        from .. import evaluation
        from ..models import load

        process = start(self.device)
        rows = evaluation.predict(load(self.model, process.device, self.which), self.files, process.first)
        if not process.first:
            return
        if self.json:
            print(evaluation.text(rows))
            return
        for row in rows:
            kind = "probability" if "probability" in row else "rate"
            print(f"{row['file']}\t{row['class']}\t{kind} {row[kind]:.4f}")


@dataclass
class Reference:
    """Compute what scores need for a data set: autoencoder, classifier, features, statistics, and the floors.

    The floor of a metric is the score of --n real training images; no generator can be expected to be better. Results
    are stored in ~/.cache/tcja_gen under a hash of the images' content. Inception is included if its weights are there,
    or with --download. --out writes everything but Inception's weights to one file; evaluate --reference FILE.npz then
    needs no data.

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
    """Download what is missing: a named data set, the weights of Inception (200 MB for both networks)."""
    size: int = 0
    """Pixels a side; 0: the data's own."""
    channels: int = 0
    """1 or 3; 0: the data's own."""
    split: Literal["test", "validation", "train", "train+validation"] = "test"
    """Split to score against."""
    n: Number = 5120
    """Training images to compute the floor with."""
    autoencoder: str = ""
    """Autoencoder for FAD: fsvae-mnist, fsvae-fashion-mnist, or a file; default: trained on the training images."""
    classifier: str = ""
    """Classifier for the metrics that end in -classifier; default: trained on the training images."""
    inception: str = ""
    """Weights of Inception; default: $TCJA_GEN_INCEPTION, then torch hub's folder of checkpoints."""
    torchvision: str = ""
    """Weights of torchvision's Inception v3, for is-fsvae; default: in torch hub's folder of checkpoints."""
    dinov2: str = ""
    """Weights of DINOv2, for fd-dinov2; default: $TCJA_GEN_DINOV2, then torch hub's folder of checkpoints."""
    resize: Literal["", "clean", "tf1", "torch"] = ""
    """How images are resized for Inception; default: clean (PIL's bicubic, as clean-fid)."""
    out: str = ""
    """File (.npz) to write everything to."""
    device: str = "auto"
    """cpu, cuda, ...; auto: a GPU if there is one."""

    def run(self) -> None:
        data_exists(self.data)
        autoencoder = "" if self.autoencoder.startswith("fsvae-") else self.autoencoder  # a name, not a file
        files_exist(autoencoder, self.classifier, self.inception, self.torchvision, self.dinov2)
        file_writable(self.out, "--out")
        from .. import evaluation

        process = start(self.device)
        request = evaluation.Request(data=self.data, metrics="all", **_shared(self, process))
        record = evaluation.prepare(request, self.out or None)
        if process.first:
            print(evaluation.text(record))


def _beside(path: Path, ending: str) -> Path:
    """The picture that belongs to a record."""
    return path.with_name(path.name.removesuffix(".json") + ending)


def _shared(command: Evaluate | Reference, process) -> dict:
    """The fields of an `evaluation.Request` that both commands have. A flag that is 0 or empty counts as not given."""
    optional = ("n", "size", "channels", "autoencoder", "classifier", "inception", "torchvision")
    optional += ("dinov2", "resize")
    given = {name: getattr(command, name) or None for name in optional}
    given |= dict(split=command.split, root=command.data_root, download=command.download)
    return given | dict(device=process.device, progress=process.first, from_shell=True)
