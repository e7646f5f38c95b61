"""Weights on disk: read without running code in them, written whole, named by a hash of their numbers."""

import hashlib
import warnings
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from ..cache import replacing


def read_tensors(file: Path) -> dict[str, Tensor]:
    """The tensors of a `.safetensors`, or of a state dict that `torch.save` wrote; code in it is never run."""
    if file.suffix == ".safetensors":
        from safetensors.torch import load_file

        return load_file(file)
    with warnings.catch_warnings(action="ignore"):  # torch remarks on strange files before it refuses them
        return torch.load(file, map_location="cpu", weights_only=True)


def save_tensors(state: Mapping[str, Tensor], file: str | Path) -> None:
    """Write tensors as safetensors."""
    from safetensors.torch import save_file

    with replacing(Path(file)) as temporary:
        save_file({name: value.contiguous() for name, value in state.items()}, temporary)


def weights_hash(state: Mapping[str, Tensor]) -> str:
    """SHA-256 of names, shapes and float32 values; the counters of batch norm play no part."""
    digest = hashlib.sha256()
    for name, value in sorted(state.items()):
        if not name.endswith("num_batches_tracked"):
            digest.update(f"{name} {tuple(value.shape)}\n".encode())
            digest.update(value.detach().cpu().float().contiguous().numpy().tobytes())
    return digest.hexdigest()
