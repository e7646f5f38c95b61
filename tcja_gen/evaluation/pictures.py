"""Picture files of a model's images: grids, rows with labels, single images, and films over the time steps.

Images are floats `(N, C, H, W)` in [0, 1]; files hold them rounded to 8 bits. Event frames `(N, T, 2, H, W)` are drawn
as strips, T frames side by side in colours (`strips`). Grids and rows are at least 512 pixels
wide: small images are enlarged by a whole factor. Every PNG file says in its text chunks how it was made: the command
and the version, and for a model's images their seeds and the hash of its weights (`made_by`).
"""

import math
import shlex
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import BinaryIO

import torch
from torch import Tensor

from .. import __version__
from ..files import replacing
from ..models import store

SMALLEST_SHOWN = 32  # pixels a side; smaller images are enlarged
NARROWEST = 512  # pixels; narrower grids are enlarged
WIDEST_ROW = 16  # images, at most, in a labelled row
LETTER = 14  # pixels of the labels' font

Row = tuple[str, Tensor]  # a label, and the images (n, C, H, W) to the right of it


def to_bytes(images: Tensor) -> Tensor:
    """Floats in [0, 1] -> uint8, rounded."""
    return (images.clamp(0, 1) * 255).round().to(torch.uint8).cpu()


def grid(images: Tensor, columns: int | None = None, narrowest: int = NARROWEST) -> Tensor:
    """One picture, uint8 `(3, H, W)`, of all images, with `columns` in a row (default: as many as rows)."""
    from torchvision.utils import make_grid

    columns = min(columns or math.ceil(math.sqrt(len(images))), len(images))
    side = images.shape[-1]
    scale = max(math.ceil(SMALLEST_SHOWN / side), math.ceil(narrowest / (columns * side)))
    large = images.detach().float().cpu().repeat_interleave(scale, -1).repeat_interleave(scale, -2)
    return to_bytes(make_grid(large, nrow=columns, padding=2, pad_value=0.5))


def rows(labelled: Sequence[Row], narrowest: int = NARROWEST) -> Tensor:
    """One picture, uint8 `(3, H, W)`, with a row of images for each label, which stands to the left of it."""
    longest = max(len(images) for _, images in labelled)
    tiles = torch.cat([_filled_up(images.detach().float().cpu(), longest) for _, images in labelled])
    pixels = grid(tiles, longest, narrowest)
    return torch.cat([_margin([label for label, _ in labelled], pixels.shape[1]), pixels], 2)


def pairs(originals: Tensor, again: Tensor) -> list[Row]:
    """Labelled rows of originals, each with the row of their reconstructions below it."""
    originals, again = strips(originals), strips(again)
    cut = min(WIDEST_ROW, max(1200 // originals.shape[-1], 4))
    both = zip(originals.split(cut), again.split(cut), strict=True)
    return [row for a, b in both for row in (("original", a), ("reconstruction", b))]


def strips(frames: Tensor) -> Tensor:
    """Event counts `(N, T, 2, H, W)` as pictures `(N, 3, H, T · W)` in [0, 1], frames side by side. Images stay."""
    if frames.dim() == 4:
        return frames
    return in_colour(frames.detach().cpu()).permute(0, 2, 3, 1, 4).flatten(3)


def by_class(images: Tensor, seeds: Sequence[int], classes: int, names: Sequence[str] = ()) -> list[Row]:
    """Labelled rows of samples of a conditional model, one for each class: image i has class seeds[i] mod `classes`."""
    names = [*names, *map(str, range(len(names), classes))]
    of = torch.tensor([seed % classes for seed in seeds])
    return [(names[k], images[of == k]) for k in range(classes) if (of == k).any()]


def samples(images: Tensor, seeds: Sequence[int], classes: int = 0, names: Sequence[str] = ()) -> Tensor:
    """One picture, uint8 `(3, H, W)`, of samples: a grid; with `classes`, of a conditional model, a row for each class
    if there are at least two images of a class."""
    images = strips(images)
    if classes and len(images) >= 2 * classes:
        return rows(by_class(images, seeds, classes, names))
    return grid(images)


def made_by(model, seeds: Sequence[int]) -> dict[str, str]:
    """Text chunks for a picture of a model's images: their seeds, and the model's run, step and hash."""
    facts = {name: str(model.provenance[name]) for name in ("run", "step") if name in model.provenance}
    return {"seeds": seed_text(seeds), "model": store.weights_hash(model), **facts}


def always() -> dict[str, str]:
    """Text chunks of every picture: the command and the version that made it."""
    command = shlex.join(sys.argv).encode(errors="replace").decode()
    return {"command": command, "software": f"tcja_gen {__version__}"}


def seed_text(seeds: Sequence[int]) -> str:
    """[0, 1, 2, 8] -> "0-2,8", as `sample --seeds` takes them."""
    parts: list[list[int]] = []
    for seed in map(int, seeds):
        if parts and seed == parts[-1][1] + 1:
            parts[-1][1] = seed
        else:
            parts.append([seed, seed])
    return ",".join(str(first) if first == last else f"{first}-{last}" for first, last in parts)


def save(pixels: Tensor, path: str | Path, facts: Mapping[str, str] | None = None) -> Path:
    """Write a picture, uint8 `(C, H, W)`, as a PNG file; its folder is made. facts: more text chunks, by name."""
    with replacing(Path(path)) as temporary:
        write(pixels, temporary, facts)
    return Path(path)


def write(pixels: Tensor, path: Path, facts: Mapping[str, str] | None = None) -> None:
    """As `save`, to a file in a folder that is there, which is left half written if that fails."""
    from PIL.PngImagePlugin import PngInfo

    text = PngInfo()
    for name, value in {**always(), **(facts or {})}.items():
        text.add_text(name, value.encode(errors="replace").decode())
    to_picture(pixels).save(path, "png", pnginfo=text)


def save_grid(images: Tensor, path: str | Path, columns: int | None = None, facts: Mapping | None = None) -> Path:
    """Write `grid` as a PNG file."""
    return save(grid(images, columns), path, facts)


def save_film(films: Tensor, path: str | Path, milliseconds: int = 250, columns: int | None = None) -> Path:
    """Write films `(N, T, C, H, W)`, or event counts `(N, T, 2, H, W)`, side by side as an animated GIF, a frame for
    each time step.

    milliseconds: that a frame is shown; the last one is shown four times as long. Event frames are shown for 100.
    """
    with replacing(Path(path)) as temporary:
        film(films, temporary, milliseconds, columns=columns)
    return Path(path)


def film(
    films: Tensor,
    file: Path | BinaryIO,
    milliseconds: int = 250,
    narrowest: int = NARROWEST,
    columns: int | None = None,
) -> None:
    """Write films as `save_film` does, to a path or an open file."""
    if films.shape[2] == 2:
        films, milliseconds = in_colour(films.detach().cpu()), 100
    frames = [to_picture(grid(films[:, t], columns, narrowest)) for t in range(films.shape[1])]
    times = [milliseconds] * (len(frames) - 1) + [4 * milliseconds]
    frames[0].save(file, "gif", save_all=True, append_images=frames[1:], duration=times, loop=0)


def in_colour(frames: Tensor) -> Tensor:
    """Event counts `(N, T, 2, H, W)` as films `(N, T, 3, H, W)` in [0, 1] on white: darker blue, brighter red.

    Nineteen of twenty pixels with events keep their differences; the most active ones are full.
    """
    active = [frame[frame >= 0.5].float() for frame in frames]  # expected counts are nowhere 0
    full = torch.stack([counts.quantile(0.95) if len(counts) else torch.ones(()) for counts in active])  # (N,)
    darker, brighter = (frames / full.clamp(min=1).view(-1, 1, 1, 1, 1)).clamp(0, 1).unbind(2)
    return torch.stack([1 - darker, 1 - (darker + brighter).clamp(max=1), 1 - brighter], 2)


def save_events(frames: Tensor, folder: str | Path) -> list[Path]:
    """Write event counts `(N, T, 2, H, W)` as events.png, a row for each recording and its frames side by side, and as
    events.gif, all recordings at once."""
    films = in_colour(frames)
    picture = save_grid(films.flatten(0, 1), Path(folder) / "events.png", columns=films.shape[1])
    return [picture, save_film(films, Path(folder) / "events.gif", milliseconds=100)]


def to_picture(pixels: Tensor):
    """A PIL image of a picture, uint8 `(C, H, W)`."""
    from PIL import Image

    array = pixels[0] if len(pixels) == 1 else pixels.permute(1, 2, 0)
    return Image.fromarray(array.contiguous().numpy())  # torchvision would take a second to import


def _filled_up(images: Tensor, n: int) -> Tensor:
    """The images and grey ones behind them, n together."""
    return torch.cat([images, images.new_full((n - len(images), *images.shape[1:]), 0.5)])


def _margin(labels: list[str], height: int) -> Tensor:
    """Labels, black on white, each in the middle of its share of the height: uint8 `(3, height, width)`."""
    from PIL import Image, ImageDraw, ImageFont
    from torchvision.transforms.functional import pil_to_tensor

    font = ImageFont.load_default(LETTER)
    width = math.ceil(max(font.getlength(label) for label in labels)) + LETTER
    image = Image.new("RGB", (width, height), "white")
    draw, share = ImageDraw.Draw(image), height / len(labels)
    for i, label in enumerate(labels):
        draw.text((width - LETTER / 2, (i + 0.5) * share), label, "black", font, anchor="rm")
    return pil_to_tensor(image)
