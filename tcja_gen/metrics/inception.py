"""The two networks called Inception: the one of 2015-12-05, and torchvision's.

**Inception-2015-12-05** is the network of published FID, IS and KID: torch-fidelity's module, with the weights that
torch-fidelity and pytorch-fid converted from TensorFlow's. The same weights give three different FIDs, depending on how
images are resized to 299 x 299:

clean   PIL's bicubic in float, antialiased, not rounded to bytes (Parmar et al. 2022, clean-fid)
tf1     TensorFlow 1's bilinear (torch-fidelity, TTUR, EDM)
torch   torch's bilinear, align_corners=False (pytorch-fid)

**torchvision's Inception v3** was trained separately; FSVAE and ESVAE compute their IS with it (`TorchvisionFeatures`).

The weights are not part of this package. `INCEPTION.find` and `TORCHVISION.find` look for them, fetch them if they are
allowed to, and say what is missing. A file with a published name must have the published SHA-256. Code in a file is
never run.
"""

import io
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from ..errors import UserError
from .pixels import check
from .weights import Published, read_tensors

INCEPTION = Published(
    "Inception",
    "https://github.com/toshas/torch-fidelity/releases/download/v0.2.0/weights-inception-2015-12-05-6726825d.pth",
    95,
    "TCJA_GEN_INCEPTION",
    also="pt_inception-2015-12-05-6726825d.pth",
)
TORCHVISION = Published(
    "torchvision's Inception v3",
    "https://download.pytorch.org/models/inception_v3_google-0cc3c7bd.pth",
    104,
)
SIDE = 299


def to_inception(images: Tensor, resize: str = "clean") -> Tensor:
    """uint8 `(N, 1 or 3, H, W)` to float32 `(N, 3, 299, 299)` in 0 .. 255, resized in one of the ways above."""
    check(images)
    if resize not in RESIZES:
        raise UserError(f"unknown resize {resize!r}; there are {', '.join(RESIZES)}")
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
    """Inception-2015 as an `Extractor`: 2048 features, and logits without the bias, as usual for IS.

    `name` is "inception-2015" for the official weights and "inception-other" for any others: their scores are not
    comparable.
    """

    mode, width, batch = "eval", 2048, 32

    def __init__(self, file: str | Path, resize: str = "clean", device: str | torch.device = "cpu"):
        """UserError that names the file if it is damaged or something else."""
        if resize not in RESIZES:
            raise UserError(f"unknown resize {resize!r}; there are {', '.join(RESIZES)}")
        self.hash = INCEPTION.check(Path(file))
        self.name = "inception-2015" if self.hash.startswith(INCEPTION.prefix) else "inception-other"
        self.protocol, self.resize = resize, f"{resize} to {SIDE}x{SIDE}"
        self._network, self._device = _network(Path(file)).to(device), device

    @torch.inference_mode()
    def __call__(self, images: Tensor) -> Tensor:
        """uint8 `(N, C, H, W)` to float32 `(N, 2048)` on the CPU."""
        return torch.cat([self._features(x.to(self._device)).cpu() for x in images.split(self.batch)])

    def _features(self, images: Tensor) -> Tensor:
        x = (to_inception(images, self.protocol) - 128) / 128
        for layer in list(self._network.children())[:-1]:  # all but the linear one
            x = layer(x)
        return x.flatten(1)

    @torch.inference_mode()
    def logits(self, features: Tensor) -> Tensor:
        """`(N, 2048)` to `(N, 1008)`, without bias ("logits_unbiased" of torch-fidelity)."""
        return features @ self._network.fc.weight.T.to(features.device)


class TorchvisionFeatures:
    """torchvision's Inception v3 as an `Extractor`, with the inputs that FSVAE and ESVAE give it for their IS.

    The inputs are floats in 0 .. 255, although the network was trained on normalised images of about -2 to 2. They are
    resized to 299 x 299 (bilinear), grey images to three channels. Logits have their bias, and 1,000 classes. FSVAE's
    code takes the generator's output as it is; here images are rounded to bytes first, as for every other score.
    """

    mode, width, batch, resize = "fsvae: floats of 0 to 255, not normalised", 2048, 32, f"torch to {SIDE}x{SIDE}"

    def __init__(self, file: str | Path, device: str | torch.device = "cpu"):
        """UserError that names the file if it is damaged or something else."""
        self.hash = TORCHVISION.check(Path(file))
        self.name = "torchvision-inception" + ("" if self.hash.startswith(TORCHVISION.prefix) else "-other")
        self._head, self._body = _torchvision(Path(file), device)
        self._device = device

    @torch.inference_mode()
    def __call__(self, images: Tensor) -> Tensor:
        """uint8 `(N, C, H, W)` to float32 `(N, 2048)` on the CPU."""
        batches = images.split(self.batch)
        return torch.cat([self._body(to_inception(x.to(self._device), "torch")).cpu() for x in batches])

    @torch.inference_mode()
    def logits(self, features: Tensor) -> Tensor:
        """`(N, 2048)` to `(N, 1000)`."""
        return self._head(features)


def _network(file: Path) -> torch.nn.Module:
    """torch-fidelity's module with these weights, in evaluation mode.

    The module would unpickle the file and so run code in it. Here the tensors are read safely, and then handed to it.
    """
    try:
        from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3
    except ImportError:
        raise UserError("Inception needs torch-fidelity, which is missing: pip install torch-fidelity") from None
    safe = io.BytesIO()
    try:
        torch.save(read_tensors(file), safe)
        safe.seek(0)
        return FeatureExtractorInceptionV3("inception", ["2048"], feature_extractor_weights_path=safe)
    except Exception:  # a strange file can raise any exception
        wanted = f"wanted a state dict such as {INCEPTION.url}"
        raise UserError(f"{file}: not the weights of Inception; {wanted}") from None


def _torchvision(file: Path, device) -> tuple[torch.nn.Module, torch.nn.Module]:
    """The linear layer, on the CPU, and all layers before it; in evaluation mode."""
    from torchvision.models import inception_v3

    try:
        state = {name: x for name, x in read_tensors(file).items() if not name.startswith("AuxLogits.")}
        body = inception_v3(aux_logits=False, transform_input=False, init_weights=False).eval()
        body.load_state_dict(state)
    except Exception:  # a strange file can raise any exception
        wanted = f"wanted a state dict such as {TORCHVISION.url}"
        raise UserError(f"{file}: not the weights of torchvision's Inception v3; {wanted}") from None
    head, body.fc = body.fc, torch.nn.Identity()
    return head, body.to(device)
