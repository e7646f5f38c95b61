"""Files of weights: read without running code in them, written whole, identified by a hash of their values; and weights
that others publish, which are fetched.
"""

import hashlib
import os
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from http.client import HTTPException
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from ..errors import MissingFile, UserError
from ..files import write


def read_tensors(file: Path, network: str = "") -> dict[str, Tensor]:
    """The tensors of a `.safetensors` file, a state dict of `torch.save`, or a network in a reference (`.npz`).

    Code in the file is never run.
    """
    if file.suffix == ".safetensors":
        from safetensors.torch import load_file

        return load_file(file)
    if file.suffix == ".npz":
        start = f"{network}/weights/"
        with np.load(file, allow_pickle=False) as arrays:
            return {x.removeprefix(start): torch.from_numpy(arrays[x]) for x in arrays if x.startswith(start)}
    with warnings.catch_warnings(action="ignore"):  # torch warns about strange files before it refuses them
        return torch.load(file, map_location="cpu", weights_only=True)


def save_tensors(state: Mapping[str, Tensor], file: str | Path) -> None:
    """Write tensors as safetensors."""
    from safetensors.torch import save

    write(Path(file), save({name: value.contiguous() for name, value in state.items()}))


def load_network(file: str | Path, network: str, build: Callable[[Mapping], nn.Module], wanted: str) -> nn.Module:
    """The network that `build` makes from the tensors in a file, in evaluation mode.

    MissingFile, or UserError that names the file if it is anything else.
    """
    if not Path(file).is_file():
        raise MissingFile(f"{file}: no such file; wanted the weights of a scoring {network}: {wanted}")
    try:
        return build(read_tensors(Path(file), network)).eval()
    except Exception:  # a strange file can raise any exception
        told = f"{file}: not the weights of a scoring {network}"
        raise UserError(f"{told}; wanted {wanted}; code is never run") from None


def weights_hash(state: Mapping[str, Tensor]) -> str:
    """SHA-256 of names, shapes and float32 values, without the counters of batch norm."""
    digest = hashlib.sha256()
    for name, value in sorted(state.items()):
        if not name.endswith("num_batches_tracked"):
            digest.update(f"{name} {tuple(value.shape)}\n".encode())
            digest.update(value.detach().cpu().float().contiguous().numpy().tobytes())
    return digest.hexdigest()


@dataclass(frozen=True)
class Published:
    """A file of published weights. hash: the first digits of its SHA-256; "": its name ends with them."""

    what: str
    url: str
    megabytes: int
    variable: str = ""  # of the environment, with the path of the file
    also: str = ""  # another name of the same file
    hash: str = ""

    @property
    def name(self) -> str:
        return self.url.rsplit("/", 1)[1]

    @property
    def prefix(self) -> str:
        return self.hash or Path(self.name).stem.rsplit("-", 1)[1]

    def find(self, file: str | Path | None = None, download: bool = False, advice: str = "") -> Path:
        """The file: the one given, the one of the variable, the one in torch hub's folder of checkpoints, or fetched.

        advice: added to the message if the weights are missing: what the caller's users can do
        MissingFile, one line that tells where to fetch the file from, and to where.
        """
        if given := file or os.environ.get(self.variable):
            if not Path(given).is_file():
                raise MissingFile(f"{given}: no such file; wanted the weights of {self.what} ({self.url})")
            return Path(given)
        folder = Path(torch.hub.get_dir()) / "checkpoints"
        for name in filter(None, (self.name, self.also)):
            if (folder / name).is_file():
                return folder / name
        if download:
            return self._fetched(folder / self.name)
        told = f"{self.what}'s weights are missing: fetch {self.url} ({self.megabytes} MB) to {folder / self.name}"
        elsewhere = f", or name the file by ${self.variable}" if self.variable else ""
        raise MissingFile(told + elsewhere + (f"; {advice}" if advice else ""))

    def _fetched(self, to: Path) -> Path:
        """Download through torch hub, which moves the file to its place once its hash is right."""
        try:
            to.parent.mkdir(parents=True, exist_ok=True)
            torch.hub.download_url_to_file(self.url, str(to), self.prefix)
        except (OSError, RuntimeError, HTTPException) as error:
            instead = f"fetch them by other means to {to}"
            raise MissingFile(f"{self.what}'s weights: {self.url} failed ({error}); {instead}") from None
        return to

    def check(self, file: Path) -> str:
        """SHA-256 of a file; UserError if its name is the published one and its content is not."""
        with open(file, "rb") as f:
            found = hashlib.file_digest(f, "sha256").hexdigest()
        if (file.name == self.name or self.prefix in file.name) and not found.startswith(self.prefix):
            reason = f"SHA-256 begins with {found[: len(self.prefix)]}, wanted {self.prefix}"
            raise UserError(f"{file}: damaged or not what its name says ({reason}); fetch it again from {self.url}")
        return found
