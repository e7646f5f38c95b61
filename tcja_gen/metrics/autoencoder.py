"""The autoencoder whose 64 latent numbers are the features of FAD (Fréchet Autoencoder Distance).

Layout and parameter names are those of FSVAE (Kamata et al., AAAI 2022; kamata1729/FullySpikingVAE), so that its
published weights for MNIST and Fashion-MNIST load as they are. Each stage halves the image, down to 2 x 2: four stages
for 32 x 32, five for 64 x 64. For data without published weights, `train_autoencoder` trains one.
"""

from collections.abc import Mapping
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..errors import UserError
from .fit import fit, kept, seeded
from .pixels import resize, side, to_network
from .weights import Published, load_network, save_tensors, weights_hash

# FSVAE's autoencoders, by the names that an evaluation takes in place of a file; 62 tensors and no code
_FOLDER = "https://raw.githubusercontent.com/kamata1729/FullySpikingVAE/ffadb3d4bf4fe02927acb241ac11e6ad693c22dc"
AUTOENCODERS = {
    f"fsvae-{data}": Published(
        f"FSVAE's autoencoder of {data}", f"{_FOLDER}/metrics/stat_checkpoints/{file}.pth", 4, hash=sha256
    )
    for data, file, sha256 in (
        ("mnist", "mnist_64", "783abf13264663769f4936b30902adeb29dfda02a862bd9c8c5c8098e464333b"),
        ("fashion-mnist", "fashion_64", "234f4335d9da9417abcede41f0a4d4663ba91ee46f67cdd160b62d7a200689e8"),
    )
}
LARGEST_SIDE = 128  # pixels; one more stage has four times the weights and the work


class Autoencoder(nn.Module):
    """Strided convolutions to a linear latent `(N, width)`, and back to `(N, C, size, size)` in [-1, 1]."""

    def __init__(self, channels: int = 1, width: int = 64, size: int = 32):
        super().__init__()
        stages = size.bit_length() - 2
        if stages < 1 or size != 2 ** (stages + 1):
            raise UserError(f"an autoencoder's image size is a power of 2 from 4 on, found {size}")
        c = [32 * 2**i for i in range(stages)]
        self.channels, self.width, self.size = channels, width, size
        self.encoder = nn.Sequential(*(_down(a, b) for a, b in zip([channels, *c], c, strict=False)))
        self.latent_layer = nn.Linear(c[-1] * 4, width)
        self.decoder_input = nn.Linear(width, c[-1] * 4)
        self.decoder = nn.Sequential(*(_up(a, b) for a, b in zip(c[:0:-1], c[-2::-1], strict=True)))
        self.final_layer = nn.Sequential(*_up(32, 32), nn.ConvTranspose2d(32, channels, 3, 1, 1), nn.Tanh())

    def features(self, x: Tensor) -> Tensor:
        """The latent `(N, width)`, without activation."""
        return self.latent_layer(self.encoder(x).flatten(1))

    def forward(self, x: Tensor) -> Tensor:
        h = self.decoder_input(self.features(x)).unflatten(1, (-1, 2, 2))
        return self.final_layer(self.decoder(h))

    @property
    def hash(self) -> str:
        """SHA-256 of the weights that features depend on; the same for a .pth and a .safetensors with equal weights."""
        state = self.state_dict().items()
        return weights_hash({name: value for name, value in state if name.startswith(("encoder.", "latent_layer."))})

    def save(self, file: str | Path) -> None:
        """Write the weights as safetensors."""
        save_tensors(self.state_dict(), file)


def _down(a: int, b: int) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(a, b, 3, 2, 1), nn.BatchNorm2d(b), nn.LeakyReLU())


def _up(a: int, b: int) -> nn.Sequential:
    return nn.Sequential(nn.ConvTranspose2d(a, b, 3, 2, 1, output_padding=1), nn.BatchNorm2d(b), nn.LeakyReLU())


def load_autoencoder(file: str | Path) -> Autoencoder:
    """An autoencoder in eval mode from FSVAE's published `.pth`, our `.safetensors` or a reference (`.npz`).

    Image channels, width and size follow from the weights. MissingFile, or UserError that names the file if it is
    anything else. No code in the file is run.
    """
    return load_network(file, "autoencoder", _built, "FSVAE's .pth, or .safetensors of the same layout")


def _built(state: Mapping[str, Tensor]) -> Autoencoder:
    stages = sum(name.startswith("encoder.") and name.endswith(".0.weight") for name in state)
    channels, width = state["encoder.0.0.weight"].shape[1], state["latent_layer.weight"].shape[0]
    autoencoder = Autoencoder(channels, width, size=2 ** (stages + 1))
    autoencoder.load_state_dict(state)
    return autoencoder


def default_steps(n: int) -> int:
    """Training steps of 32 images for a set of n: five epochs, but at least 100 and at most 2,000 steps."""
    return min(2000, max(100, 5 * n // 32))


def autoencoder_side(images: Tensor) -> int:
    """Side to which images are resized for an autoencoder: `pixels.side`, rounded up to a power of 2; at most 128."""
    return min(LARGEST_SIDE, 1 << (side(images) - 1).bit_length())


def train_autoencoder(
    images: Tensor,
    *,
    size: int = 32,
    width: int = 64,
    steps: int | None = None,
    seed: int = 0,
    device="cpu",
    progress=False,
    state: Path | None = None,
) -> Autoencoder:
    """Train an autoencoder on uint8 `(N, C, H, W)`: squared error, AdamW at 2e-3 falling to 0, batches of 32.

    steps: None for `default_steps(N)`. Returned in evaluation mode on the CPU; reproducible by the seed. seed,
    state: see `fit`.
    """
    steps = default_steps(len(images)) if steps is None else steps
    images = resize(images, images.shape[1], size)
    autoencoder = seeded(lambda: Autoencoder(images.shape[1], width, size), seed, device)
    optimiser = torch.optim.AdamW(autoencoder.parameters(), lr=2e-3)
    schedule = torch.optim.lr_scheduler.LinearLR(optimiser, 1.0, 1 / steps, steps)

    def loss(chosen: Tensor, _: torch.Generator) -> Tensor:
        x = to_network(images[chosen]).to(device)  # (32, C, size, size) in [-1, 1]
        return F.mse_loss(autoencoder(x), x)

    title = "training an autoencoder of the data" if progress else None
    how = dict(n=len(images), batch=32, steps=steps, seed=seed, title=title, state=state)
    return fit(autoencoder, loss, optimiser, schedule, **how)


def cached_autoencoder(
    images: Tensor,
    fingerprint: str,
    *,
    size: int = 32,
    steps: int | None = None,
    seed: int = 0,
    device="cpu",
    progress=False,
) -> tuple[Autoencoder, Path]:
    """The autoencoder of a training set with this fingerprint, trained now or before; and its file."""
    settings = dict(size=size, width=64, steps=steps or default_steps(len(images)), seed=seed)

    def make(state: Path) -> Autoencoder:
        return train_autoencoder(images, **settings, device=device, progress=progress, state=state)

    return kept("autoencoder", make, load_autoencoder, fingerprint=fingerprint, **settings)
