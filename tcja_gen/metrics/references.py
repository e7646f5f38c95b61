"""A reference as one `.npz` file: what images are compared with, for machines without the data.

    NETWORK/mu, NETWORK/sigma, NETWORK/n      of every network: autoencoder, autoencoder-official, classifier, ...
    NETWORK/features                          (n, D), for KID, precision and the like
    NETWORK/weights/NAME                      of networks of our own
    metadata                                  JSON: data, split, size, fingerprint, extractors, floors

Published statistics, a file with `mu` and `sigma` alone, are read, too, and taken for those of the network that is
asked for. Nothing in a file is unpickled.
"""

import hashlib
import json
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from ..errors import MissingFile, UserError
from ..files import replacing
from .frechet import Statistics

FORMAT = 1


class Part(NamedTuple):
    """What a file holds of one network. extractor: see `extractors.identity`"""

    extractor: dict
    statistics: Statistics
    features: Tensor | None


def write_reference(file: str | Path, facts: dict, parts: Mapping[str, Part], weights: Mapping[str, Mapping]) -> None:
    """Write a reference: facts (JSON-ready); parts and state dicts by network. The file appears whole or not at all."""
    extractors = {network: part.extractor for network, part in parts.items()}
    metadata = json.dumps(facts | {"format": FORMAT, "extractors": extractors}, sort_keys=True)
    arrays = {"metadata": np.array(metadata)}
    for network, (_, statistics, features) in parts.items():
        arrays |= {f"{network}/{name}": getattr(statistics, name) for name in ("mu", "sigma", "n")}
        arrays |= {} if features is None else {f"{network}/features": features.numpy()}
    for network, state in weights.items():
        arrays |= {f"{network}/weights/{name}": value.detach().cpu().numpy() for name, value in state.items()}
    with replacing(Path(file)) as temporary, open(temporary, "wb") as f:
        np.savez(f, **arrays)


class ReferenceFile:
    """A reference file; its arrays are read when they are asked for."""

    def __init__(self, file: str | Path):
        """MissingFile, or UserError that names the file if it is something else."""
        self.file = Path(file)
        if not self.file.is_file():
            raise MissingFile(f"{file}: no such file; wanted an .npz of tcja-gen reference, or with mu and sigma")
        try:
            with np.load(self.file, allow_pickle=False) as arrays:
                self._names = set(arrays.files)
                self.facts = json.loads(str(arrays["metadata"])) if "metadata" in arrays else {}
        except Exception:  # zip, header, pickle: many types
            raise UserError(f"{file}: not an .npz of tcja-gen reference, nor one with mu and sigma") from None
        self.published = "mu" in self._names
        if not self.published and self.facts.get("format") != FORMAT:
            found = self.facts.get("format", "unknown")
            raise UserError(
                f"{file}: a reference of format {found}; this version reads format {FORMAT}, or mu and sigma"
            )

    def __str__(self) -> str:
        return str(self.file)

    def holds(self, network: str, what: str = "mu") -> bool:
        """Whether the file has mu, "features" or "weights" of a network."""
        if self.published:
            return what == "mu"
        return any(name.startswith(f"{network}/{what}") for name in self._names)

    @cached_property
    def fingerprint(self) -> str:
        """The fingerprint of the images, or of the statistics if the file does not tell that."""
        return self.facts.get("fingerprint") or _digest(self.statistics(""))

    def extractor(self, network: str) -> dict | None:
        """The identity of the extractor that made a network's part; None if the file does not tell."""
        return self.facts.get("extractor") if self.published else self.facts["extractors"][network]

    def statistics(self, network: str) -> Statistics:
        """UserError if the file has none of the network."""
        if not self.holds(network):
            held = ", ".join(self.facts["extractors"])
            raise UserError(f"{self}: nothing of the {network} in it; it holds {held}")
        return Statistics.load(self.file, "" if self.published else f"{network}/")

    def features(self, network: str) -> Tensor:
        """float32 `(N, D)`; UserError if the file has none of the network, or broken ones."""
        if not self.holds(network, "features"):
            raise UserError(f"{self}: no features of the {network} in it")
        with np.load(self.file, allow_pickle=False) as arrays:
            features = torch.from_numpy(arrays[f"{network}/features"])
        if features.dim() != 2 or features.dtype != torch.float32 or not features.isfinite().all():
            raise UserError(f"{self}: {network}/features are no finite float32 (N, D)")
        return features


def _digest(statistics: Statistics) -> str:
    return hashlib.sha256(statistics.mu.tobytes() + statistics.sigma.tobytes()).hexdigest()
