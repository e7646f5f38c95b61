"""Inception-2015-12-05, the network behind published FID, IS and KID: torch-fidelity's module, weights from a file.

The weights are the ones that torch-fidelity and pytorch-fid converted from TensorFlow's. They are not part of this
package and nothing is downloaded: `find_inception` looks for them and says what is missing. A file that carries the
official name must have the official SHA-256 before it is read; whatever is read is read without running code in it.

The same weights give three different FIDs by the way in which images are brought to 299 x 299:

clean   PIL's bicubic in float, antialiased, not rounded to bytes (Parmar et al. 2022, clean-fid)
tf1     TensorFlow 1's bilinear (torch-fidelity, TTUR, EDM)
torch   torch's bilinear, align_corners=False (pytorch-fid)
"""

import hashlib
import io
import os
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from .weights import read_tensors

OFFICIAL = "weights-inception-2015-12-05-6726825d.pth"
PREFIX = "6726825d"  # of the SHA-256 of the official file, by whichever name
SOURCE = f"https://github.com/toshas/torch-fidelity/releases/download/v0.2.0/{OFFICIAL}"
VARIABLE = "TCJA_GEN_INCEPTION"
SIDE, BATCH = 299, 32


def find_inception(file: str | Path | None = None) -> Path:
    """The weights' file: the one given, else that of $TCJA_GEN_INCEPTION, else in torch hub's folder of checkpoints.

    FileNotFoundError, one line that says which file, from where and to where.
    """
    if given := file or os.environ.get(VARIABLE):
        if not Path(given).is_file():
            raise FileNotFoundError(f"{given}: no such file; wanted the weights of Inception ({SOURCE})")
        return Path(given)
    folder = Path(torch.hub.get_dir()) / "checkpoints"
    for name in (OFFICIAL, f"pt_{OFFICIAL.removeprefix('weights-')}"):
        if (folder / name).is_file():
            return folder / name
    told = f"--inception FILE or ${VARIABLE} names another place"
    raise FileNotFoundError(f"Inception's weights are missing: fetch {SOURCE} (95 MB) to {folder / OFFICIAL}; {told}")


def to_inception(images: Tensor, resize: str = "clean") -> Tensor:
    """uint8 `(N, 1 or 3, H, W)` to float32 `(N, 3, 299, 299)` in 0 .. 255 by a protocol of this module's docstring."""
    if images.dtype != torch.uint8 or images.dim() != 4 or images.shape[1] not in (1, 3):
        found = f"{images.dtype} {tuple(images.shape)}"
        raise ValueError(f"scores take grey or RGB images, uint8 (N, 1 or 3, H, W); found {found}")
    if resize not in RESIZES:
        raise ValueError(f"unknown resize {resize!r}; there are {', '.join(RESIZES)}")
    return RESIZES[resize](images.float()).expand(-1, 3, -1, -1)


def _clean(x: Tensor) -> Tensor:
    return F.interpolate(x, (SIDE, SIDE), mode="bicubic", antialias=True).clamp(0, 255)


def _tf1(x: Tensor) -> Tensor:
    from torch_fidelity.interpolate_compat_tensorflow import interpolate_bilinear_2d_like_tensorflow1x

    return interpolate_bilinear_2d_like_tensorflow1x(x, size=(SIDE, SIDE), align_corners=False)


def _torch(x: Tensor) -> Tensor:
    return F.interpolate(x, (SIDE, SIDE), mode="bilinear", align_corners=False)


RESIZES = {"clean": _clean, "tf1": _tf1, "torch": _torch}


class InceptionFeatures:
    """Inception as an `Extractor`: 2048 features, and logits without the bias, as IS is always computed.

    `name` is "inception-2015" for the official weights and "inception-other" for any others, which never compare.
    """

    mode, width = "eval", 2048

    def __init__(self, file: str | Path, resize: str = "clean", device: str | torch.device = "cpu", progress=False):
        """ValueError naming the file if it is something else or damaged."""
        if resize not in RESIZES:
            raise ValueError(f"unknown resize {resize!r}; there are {', '.join(RESIZES)}")
        self.hash = _checked(Path(file))
        self.name = "inception-2015" if self.hash.startswith(PREFIX) else "inception-other"
        self.protocol, self.resize = resize, f"{resize} to {SIDE}x{SIDE}"
        self._network, self._device, self._progress = _network(Path(file)).to(device), device, progress

    @torch.inference_mode()
    def __call__(self, images: Tensor) -> Tensor:
        """uint8 `(N, C, H, W)` to float32 `(N, 2048)` on the CPU."""
        from tqdm import tqdm

        batches = images.split(BATCH)
        bar = tqdm(batches, "Inception", unit="batch", leave=False, disable=None if self._progress else True)
        return torch.cat([self._features(x.to(self._device)).cpu() for x in bar])

    def _features(self, images: Tensor) -> Tensor:
        x = (to_inception(images, self.protocol) - 128) / 128
        for layer in list(self._network.children())[:-1]:  # all but the linear one
            x = layer(x)
        return x.flatten(1)

    @torch.inference_mode()
    def logits(self, features: Tensor) -> Tensor:
        """`(N, 2048)` to `(N, 1008)`, without bias ("logits_unbiased" of torch-fidelity)."""
        return features @ self._network.fc.weight.T.to(features.device)


def _checked(file: Path) -> str:
    """SHA-256 of a weights file; ValueError if its name says that it is the official one and it is not."""
    with open(file, "rb") as f:
        found = hashlib.file_digest(f, "sha256").hexdigest()
    if PREFIX in file.name and not found.startswith(PREFIX):
        reason = f"SHA-256 begins with {found[:8]}, wanted {PREFIX}"
        raise ValueError(f"{file}: damaged or not what its name says ({reason}); fetch it again from {SOURCE}")
    return found


def _network(file: Path) -> torch.nn.Module:
    """torch-fidelity's module with these weights, in eval mode.

    The module itself would unpickle whatever the file holds; so the tensors are read safely here, and handed to it.
    """
    try:
        from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3
    except ImportError:
        raise ValueError("Inception needs torch-fidelity, which is missing: pip install torch-fidelity") from None
    safe = io.BytesIO()
    try:
        torch.save(read_tensors(file), safe)
        safe.seek(0)
        return FeatureExtractorInceptionV3("inception", ["2048"], feature_extractor_weights_path=safe)
    except Exception:  # a reader meets a strange file with any error it likes
        raise ValueError(f"{file}: not the weights of Inception; wanted a state dict such as {SOURCE}") from None
