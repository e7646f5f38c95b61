"""The autoencoder whose 64 latent numbers are the features of FAD (Fréchet Autoencoder Distance).

Layout and parameter names are those of FSVAE (Kamata et al., AAAI 2022; kamata1729/FullySpikingVAE), so that
its published weights for MNIST and Fashion-MNIST load as they are. The stages follow from the image size
(halved down to 2 x 2): four for 32 x 32, five for 64 x 64. For data without published weights,
`train_autoencoder` makes one.
"""

from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..cache import cache_file
from .pixels import resize, to_network
from .weights import read_tensors, save_tensors, weights_hash


class Autoencoder(nn.Module):
    """Strided convolutions to a linear latent of `width`, and back; `(N, C, size, size)` in [-1, 1]."""

    def __init__(self, channels: int = 1, width: int = 64, size: int = 32):
        super().__init__()
        stages = size.bit_length() - 2
        if stages < 1 or size != 2 ** (stages + 1):
            raise ValueError(f"an autoencoder's image size is a power of 2 from 4 on, found {size}")
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
        """SHA-256 of the weights that features depend on; one for a .pth and a .safetensors that agree."""
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
    """An autoencoder in eval mode from FSVAE's published `.pth` or our `.safetensors`; runs no code in it.

    Image channels, width and size follow from the weights. FileNotFoundError, or ValueError naming the file
    if it is anything else.
    """
    if not Path(file).is_file():
        raise FileNotFoundError(f"{file}: no such file; wanted an autoencoder's weights (.pth or .safetensors)")
    try:
        state = read_tensors(Path(file))
        stages = sum(name.startswith("encoder.") and name.endswith(".0.weight") for name in state)
        channels, width = state["encoder.0.0.weight"].shape[1], state["latent_layer.weight"].shape[0]
        autoencoder = Autoencoder(channels, width, size=2 ** (stages + 1))
        autoencoder.load_state_dict(state)
    except Exception:  # an unpickler meets a strange file with any error it likes
        wanted = "wanted a state dict of tensors in FSVAE's layout (.pth) or .safetensors; code is never run"
        raise ValueError(f"{file}: not the weights of a FAD autoencoder; {wanted}") from None
    return autoencoder.eval()


def default_steps(n: int) -> int:
    """Training steps of 32 images for a set of n: five epochs, but at least 100 and at most 2,000 steps."""
    return min(2000, max(100, 5 * n // 32))


def train_autoencoder(
    images: Tensor,
    *,
    size: int = 32,
    width: int = 64,
    steps: int | None = None,
    seed: int = 0,
    device="cpu",
    progress=False,
) -> Autoencoder:
    """Train an autoencoder on uint8 `(N, C, H, W)`: squared error, AdamW at 2e-3 falling to 0, batches of 32.

    `steps` None is `default_steps(N)`. Deterministic by `seed` on one kind of machine (the last bits of a
    convolution, hence the hash, may differ on another); the global random state is left alone. Returned in
    eval mode on the CPU.
    """
    steps = default_steps(len(images)) if steps is None else steps
    images = resize(images, images.shape[1], size)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        autoencoder = Autoencoder(images.shape[1], width, size).to(device).train()
    optimiser = torch.optim.AdamW(autoencoder.parameters(), lr=2e-3)
    schedule = torch.optim.lr_scheduler.LinearLR(optimiser, 1.0, 1 / steps, steps)
    generator = torch.Generator().manual_seed(seed)
    for _ in _bar(steps, progress):
        batch = images[torch.randint(len(images), (32,), generator=generator)]
        x = to_network(batch).to(device)  # (32, C, size, size) in [-1, 1]
        loss = F.mse_loss(autoencoder(x), x)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        schedule.step()
    return autoencoder.eval().cpu()


def _bar(steps: int, progress: bool):
    from tqdm import trange

    return trange(
        steps, desc="training the autoencoder of FAD", unit="step", leave=False, disable=None if progress else True
    )


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
    """`train_autoencoder` on a training set with this fingerprint, or the one trained before; and its file.

    Processes that train it at the same time all end with the file of the first to finish.
    """
    settings = dict(size=size, width=64, steps=steps or default_steps(len(images)), seed=seed)
    file = cache_file("autoencoder", ".safetensors", fingerprint=fingerprint, **settings)
    if not file.exists():
        autoencoder = train_autoencoder(images, **settings, device=device, progress=progress)
        if not file.exists():
            autoencoder.save(file)
    return load_autoencoder(file), file
