"""Picture files of a model's images: grids, single images, and films over the time steps.

Images are floats `(N, C, H, W)` in [0, 1]; files hold them rounded to 8 bits.
"""

import math
from pathlib import Path

import torch
from torch import Tensor

SMALLEST_SHOWN = 32  # pixels a side; smaller images are enlarged by a whole factor


def to_bytes(images: Tensor) -> Tensor:
    """Floats in [0, 1] -> uint8, rounded."""
    return (images.clamp(0, 1) * 255).round().to(torch.uint8).cpu()


def grid(images: Tensor, columns: int | None = None, scale: int | None = None) -> Tensor:
    """One picture, uint8 `(3, H, W)`, of all images, with `columns` in a row (default: as many as rows)."""
    from torchvision.utils import make_grid

    scale = scale or math.ceil(SMALLEST_SHOWN / images.shape[-1])
    large = images.detach().float().cpu().repeat_interleave(scale, -1).repeat_interleave(scale, -2)
    return to_bytes(make_grid(large, nrow=columns or math.ceil(math.sqrt(len(images))), padding=2, pad_value=0.5))


def save_grid(images: Tensor, path: str | Path, columns: int | None = None) -> Path:
    """Write `grid` as a PNG file; its folder is made."""
    return _save(grid(images, columns), path)


def save_each(images: Tensor, folder: str | Path, names: list[str]) -> list[Path]:
    """Write every image as a PNG file, not enlarged."""
    return [_save(to_bytes(image), Path(folder) / f"{name}.png") for image, name in zip(images, names, strict=True)]


def save_film(films: Tensor, path: str | Path, milliseconds: int = 250) -> Path:
    """Write films `(N, T, C, H, W)` side by side as an animated GIF, a frame for each time step.

    milliseconds: that a frame is shown; the last one is shown four times as long
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    frames = [to_picture(grid(films[:, t])) for t in range(films.shape[1])]
    times = [milliseconds] * (len(frames) - 1) + [4 * milliseconds]
    frames[0].save(path, save_all=True, append_images=frames[1:], duration=times, loop=0)
    return path


def to_picture(pixels: Tensor):
    """A PIL image of uint8 (C, H, W)."""
    import PIL.Image

    array = pixels[0] if len(pixels) == 1 else pixels.permute(1, 2, 0)
    return PIL.Image.fromarray(array.contiguous().numpy())  # torchvision would take a second to import


def _save(pixels: Tensor, path: str | Path) -> Path:
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    to_picture(pixels).save(path)
    return path
