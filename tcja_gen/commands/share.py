"""Commands that give models to others."""

from dataclasses import dataclass
from typing import Annotated, Literal

from tyro.conf import FlagCreatePairsOff, Positional, arg

from .arguments import Run, file_writable, run_exists


@dataclass
class Export:
    """Write a part of a model as a file that runs without this package; or the whole as a small file for it.

    encoder: images to the latent z. decoder: z to images. sampler: random numbers to new images. prior: a pass of the
    prior of spatial codes. classifier: images to scores of classes. all: images to reconstructions, or to scores. The
    file says what it takes and gives, and of which model it is.

    examples:
      tcja-gen export mnist --part decoder
      tcja-gen export runs/mnist --part encoder --format onnx --out encoder.onnx
      tcja-gen export runs/mnist --format safetensors --out mnist.safetensors
    """

    model: Run
    """Run folder, checkpoint, .safetensors file, or name of a pretrained model (tcja-gen list)."""
    part: Literal["all", "encoder", "decoder", "sampler", "prior", "classifier"] = "all"
    """What is exported."""
    format: Literal["", "pt2", "onnx", "nir", "safetensors"] = ""
    """Default: that of the ending of --out, else pt2. pt2: for torch.export.load. onnx: for ONNX Runtime and others.
    nir: for neuromorphic hardware, networks without attention and no decoder. safetensors: for this package, the whole
    model in half precision."""
    out: str = ""
    """The file; default: PART.FORMAT."""
    which: Literal["last", "best"] = "last"
    """Which checkpoint of the run."""

    def run(self) -> None:
        run_exists(self.model)
        file_writable(self.out or ".".join((self.part, self.format or "pt2")), "--out")
        from ..models.store import find
        from ..sharing import export

        print(export(find(self.model, self.which), self.part, self.format, self.out or None))


@dataclass
class Push:
    """Publish a model on the Hugging Face Hub, with a card of its training, settings and scores.

    Every command then takes hf:owner/name as RUN. The token is that of `hf auth login`, or $HF_TOKEN. The model's file
    and settings keep facts of the training, such as the name of its data, but no folder of this machine.

    examples:
      tcja-gen push runs/mnist owner/spiking-mnist
      tcja-gen sample hf:owner/spiking-mnist --n 64 --grid
    """

    model: Run
    """Run folder, checkpoint, .safetensors file, or name of a pretrained model (tcja-gen list)."""
    repository: Annotated[Positional[str], arg(metavar="OWNER/NAME")]
    """The repository; it is made if it does not exist."""
    private: FlagCreatePairsOff[bool] = False
    """Make a new repository private."""

    def run(self) -> None:
        run_exists(self.model)
        from ..sharing import push

        print(push(self.model, self.repository, self.private))
