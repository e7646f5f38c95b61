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
    frames = [_picture(grid(films[:, t])) for t in range(films.shape[1])]
    times = [milliseconds] * (len(frames) - 1) + [4 * milliseconds]
    frames[0].save(path, save_all=True, append_images=frames[1:], duration=times, loop=0)
    return path


def in_colour(frames: Tensor) -> Tensor:
    """Event counts `(N, T, 2, H, W)` as films `(N, T, 3, H, W)` in [0, 1] on white: darker blue, brighter red.

    Nineteen of twenty pixels with events keep their differences; the most active ones are full.
    """
    full = torch.stack([frame[frame > 0].float().quantile(0.95) for frame in frames])  # (N,)
    darker, brighter = (frames / full.clamp(min=1).view(-1, 1, 1, 1, 1)).clamp(0, 1).unbind(2)
    return torch.stack([1 - darker, 1 - (darker + brighter).clamp(max=1), 1 - brighter], 2)


def save_events(frames: Tensor, folder: str | Path) -> list[Path]:
    """Write event counts `(N, T, 2, H, W)` as events.png, a row for each recording and its frames side by side, and as
    events.gif, all recordings at once."""
    films = in_colour(frames)
    picture = save_grid(films.flatten(0, 1), Path(folder) / "events.png", columns=films.shape[1])
    return [picture, save_film(films, Path(folder) / "events.gif", milliseconds=100)]


def _picture(pixels: Tensor):
    from torchvision.transforms.functional import to_pil_image

    return to_pil_image(pixels)


def _save(pixels: Tensor, path: str | Path) -> Path:
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    _picture(pixels).save(path)
    return path
