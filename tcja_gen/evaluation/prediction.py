"""Predicting the classes of files: images, or event recordings, read as in the model's training."""

import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import torch
from torch import Tensor, nn

from ..data import load_recording
from ..data.event_files import READERS
from ..data.folders import EXTENSIONS, open_tree
from ..data.pictures import decode, fit
from ..errors import MissingFile, UserError
from ..progress import track
from .classification import class_names, has_head
from .generate import IMAGES, RECORDINGS
from .recordings import made_by_a_generator
from .summed_frames import cut_by


def predict(model, paths: Sequence[str | Path], progress: bool = False) -> list[dict]:
    """A row `{"file", "class", "number", "probability"}` for each file, in natural order within each path.

    paths: files, folders or zips of images. For a model of event recordings: files and folders of recordings, in any
        format of `data.event_files`, or of frames that SpikingJelly made

    The probability is the softmax of the mean logits. If the head's outputs are spikes or votes, the row has "rate"
    instead: their mean over time, which lies in [0, 1] but does not sum to 1 over the classes.

    UserError or MissingFile, one line that names the file, if it cannot be read or does not fit the model.
    """
    if not has_head(model):
        raise UserError("this generator names no classes; one trained with model.head does, or a classifier")
    if not paths:
        raise UserError("no files to predict: name images, folders or zips of them, or recordings")
    events = model.image_channels == 2
    files = [found for path in paths for found in _files(Path(path), events)]
    read, size = (_recording, RECORDINGS) if events else (_image, IMAGES)
    rows: list[dict] = []
    converted: set[str] = set()
    for first in track(range(0, len(files), size), "predicting" if progress else None):
        chunk = files[first : first + size]
        outputs = model.classify(torch.stack([read(model, *file, converted) for file in chunk]).float())
        rows += [_row(model, path, mean) for (path, _), mean in zip(chunk, outputs.mean(1).cpu(), strict=True)]
    if progress and converted:
        wanted = "grey" if model.image_channels == 1 else "colour"
        print(
            f"note: {' and '.join(sorted(converted))} are converted to {wanted}, which the model takes", file=sys.stderr
        )
    return rows


def measure(model) -> str:
    """How sure a prediction is told: "probability" of a head with logits, "rate" of one with spikes or votes."""
    return "probability" if isinstance(model.head.stages[-1], nn.Linear) else "rate"


def _row(model, path: Path, mean: Tensor) -> dict:
    """The row of one file, from its mean output (K,)."""
    kind, number = measure(model), int(mean.argmax())
    values = mean.softmax(0) if kind == "probability" else mean
    return {"file": str(path), "class": class_names(model)[number], "number": number, kind: float(values[number])}


def _files(path: Path, events: bool) -> Iterator[tuple[Path, Callable[[], bytes]]]:
    """Each file of a path, with the function that reads its bytes."""
    if not path.exists():
        raise MissingFile(f"{path}: no such file or folder")
    if events and path.suffix.lower() == ".zip":
        raise UserError(f"{path}: a zip; recordings are predicted from files and folders: unpack it")
    if path.is_file() and (events or path.suffix.lower() != ".zip"):
        yield path, path.read_bytes
        return
    tree = open_tree(path)
    names = [name for name in tree.files if name.lower().endswith(tuple(READERS))] if events else tree.images()
    if not names:
        raise UserError(f"{path}: nothing to predict in it (looked for {', '.join(READERS if events else EXTENSIONS)})")
    for name in names:
        yield path / name, lambda name=name: tree.read(name)


def _image(model, path: Path, read_bytes, converted: set[str]) -> Tensor:
    """Image (C, S, S) in [0, 1], resized to the model's shape as training images are. converted: gets the kind of an
    image whose channels are not the model's."""
    if model.image_size != model.image_width:
        raise UserError(f"{path}: images are made square, the model wants {model.image_size} x {model.image_width}")
    try:
        image = decode(read_bytes())
    except UserError as error:
        raise UserError(f"{path}: {error}") from None
    if len(image.getbands()) != model.image_channels:
        converted.add("grey images" if image.mode == "L" else "images in colour")
    return torch.from_numpy(fit(image, model.image_size, model.image_channels).copy()).float() / 255


def _recording(model, path: Path, *_) -> Tensor:
    """Counts (T, 2, H, W) of a recording, cut into frames as the model's training data were. One that a generator made
    has the pixels of its frames, not those of the camera."""
    like = "" if made_by_a_generator(path) else model.provenance.get("data", {}).get("name", "")
    size = model.image_size, model.image_width
    return load_recording(path, time_steps=model.time_steps, by=cut_by(model), size=size, like=like)
