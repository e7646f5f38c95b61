"""DINOv2, the network of FD-DINOv2 (Oquab et al. 2023; Stein et al., "Exposing flaws of generative model evaluation
metrics", NeurIPS 2023): a vision transformer with patches of 14 x 14 pixels, whose class token is the feature.

    h <- [class token; patches] + places;   h <- h + g1 * attention(norm(h));   h <- h + g2 * MLP(norm(h));   norm(h)[0]

Images are resized to 224 x 224 by PIL's bicubic filter on bytes and normalised as for ImageNet, which are the defaults
of Stein et al.'s code; theirs is ViT-L/14. The places are learnt for 37 x 37 patches and resized to 16 x 16.

The weights (dinov2_vitl14_pretrain.pth, 1.2 GB) are not part of this package, and it does not download them: their name
has no hash to check a download by. Their SHA-256 is in every record, and scores by other weights are never compared.
S, B and L are read, by the sizes in the file; not G, whose MLP is another one. torch-fidelity's extractor of this name
takes no file: it runs code that it downloads.
"""

import hashlib
import math
import os
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..errors import MissingFile, UserError
from .pixels import resize
from .weights import read_tensors

URL = "https://dl.fbaipublicfiles.com/dinov2/dinov2_vitl14/dinov2_vitl14_pretrain.pth"
VARIABLE = "TCJA_GEN_DINOV2"
SIDE, PATCH, HEAD = 224, 14, 64  # pixels of an image and of a patch; numbers in a head of attention
MEAN, SD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # of ImageNet
OFFSET = 0.1  # added to the number of patches when places are resized, as when the published network was trained


class DINOv2(nn.Module):
    """The transformer; names of the weights are those of the published files."""

    def __init__(self, width: int, depth: int, places: int):
        super().__init__()
        self.cls_token = nn.Parameter(torch.zeros(1, 1, width))
        self.mask_token = nn.Parameter(torch.zeros(1, width))  # of training; in the files
        self.pos_embed = nn.Parameter(torch.zeros(1, 1 + places, width))
        self.patch_embed = nn.ModuleDict({"proj": nn.Conv2d(3, width, PATCH, PATCH)})
        self.blocks = nn.ModuleList(_Block(width) for _ in range(depth))
        self.norm = nn.LayerNorm(width, eps=1e-6)

    def forward(self, x: Tensor) -> Tensor:
        """Features `(N, width)` of normalised images `(N, 3, H, W)`, H and W multiples of 14."""
        x = self.patch_embed["proj"](x)  # (N, width, h, w)
        places = self._places(x.shape[-1])
        x = torch.cat([self.cls_token.expand(len(x), -1, -1), x.flatten(2).transpose(1, 2)], 1) + places
        for block in self.blocks:
            x = block(x)
        return self.norm(x)[:, 0]

    def _places(self, side: int) -> Tensor:
        """The embeddings of the class token and of side x side patches, `(1, 1 + side^2, width)`."""
        own, patches = self.pos_embed[:, :1], self.pos_embed[:, 1:]
        learnt = math.isqrt(patches.shape[1])
        if learnt == side:
            return self.pos_embed
        grid = patches.unflatten(1, (learnt, learnt)).permute(0, 3, 1, 2)
        grid = F.interpolate(grid, scale_factor=(side + OFFSET) / learnt, mode="bicubic")
        return torch.cat([own, grid.flatten(2).transpose(1, 2)], 1)


class _Block(nn.Module):
    def __init__(self, width: int):
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(width, eps=1e-6), nn.LayerNorm(width, eps=1e-6)
        self.attn = nn.ModuleDict({"qkv": nn.Linear(width, 3 * width), "proj": nn.Linear(width, width)})
        self.ls1, self.ls2 = (nn.ParameterDict({"gamma": nn.Parameter(torch.ones(width))}) for _ in range(2))
        self.mlp = nn.ModuleDict({"fc1": nn.Linear(width, 4 * width), "fc2": nn.Linear(4 * width, width)})

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.ls1["gamma"] * self._attention(self.norm1(x))
        return x + self.ls2["gamma"] * self.mlp["fc2"](F.gelu(self.mlp["fc1"](self.norm2(x))))

    def _attention(self, x: Tensor) -> Tensor:
        q, k, v = self.attn["qkv"](x).unflatten(2, (3, -1, HEAD)).permute(2, 0, 3, 1, 4)  # (N, heads, places, 64) each
        return self.attn["proj"](F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2))


class DINOv2Features:
    """DINOv2 as an `Extractor`."""

    mode, batch, resize = "eval", 32, f"PIL bicubic on uint8 to {SIDE}x{SIDE}"

    def __init__(self, file: str | Path, device: str | torch.device = "cpu"):
        """UserError that names the file if it is something else."""
        with open(file, "rb") as f:
            self.hash = hashlib.file_digest(f, "sha256").hexdigest()
        self._network, self._device = _network(Path(file)).to(device), device
        self.width = self._network.norm.weight.numel()
        self.name = f"dinov2-{self.width}"

    @torch.inference_mode()
    def __call__(self, images: Tensor) -> Tensor:
        """uint8 `(N, C, H, W)` to float32 `(N, width)` on the CPU."""
        return torch.cat([self._network(to_dinov2(x).to(self._device)).cpu() for x in images.split(self.batch)])


def to_dinov2(images: Tensor) -> Tensor:
    """uint8 `(N, 1 or 3, H, W)` to normalised float32 `(N, 3, 224, 224)`."""
    x = resize(images, 3, SIDE, "BICUBIC").float() / 255
    return (x - torch.tensor(MEAN)[:, None, None]) / torch.tensor(SD)[:, None, None]


def find_dinov2(file: str | Path | None = None, advice: str = "") -> Path:
    """The file of weights: the one given, the one of $TCJA_GEN_DINOV2, or the one in torch hub's folder of checkpoints.

    MissingFile, one line that tells where to fetch it from, and to where.
    """
    if given := file or os.environ.get(VARIABLE):
        if not Path(given).is_file():
            raise MissingFile(f"{given}: no such file; wanted the weights of DINOv2 ({URL})")
        return Path(given)
    kept = Path(torch.hub.get_dir()) / "checkpoints" / URL.rsplit("/", 1)[1]
    if kept.is_file():
        return kept
    told = f"DINOv2's weights are missing: fetch {URL} (1217 MB) to {kept}, or name the file by ${VARIABLE}"
    raise MissingFile(told + (f"; {advice}" if advice else ""))


def _network(file: Path) -> DINOv2:
    try:
        state = read_tensors(file)
        _, tokens, width = state["pos_embed"].shape
        depth = 1 + max(int(name.split(".")[1]) for name in state if name.startswith("blocks."))
        network = DINOv2(width, depth, tokens - 1)
        network.load_state_dict(state)
        return network.eval().requires_grad_(False)
    except Exception:  # a strange file can raise any exception
        raise UserError(f"{file}: not the weights of DINOv2 (S, B or L); wanted a state dict such as {URL}") from None
