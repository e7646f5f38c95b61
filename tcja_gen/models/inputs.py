"""What may be asked of a model in use, and the one line that everything else gets.

Nothing is converted in silence: images are float32 tensors (N, C, H, W) in [0, 1], and a network computes in float32.
"""

import operator
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from ..errors import UserError

ROUNDING = 1e-4  # beyond [0, 1], which images that were computed may have


def check_precision(network: nn.Module) -> None:
    """ValueError if the weights, or what torch makes of plain numbers, are not float32."""
    if others := {p.dtype for p in network.parameters()} - {torch.float32}:
        raise UserError(f"the model's weights are {others.pop()}, it computes in torch.float32: call model.float()")
    if (default := torch.get_default_dtype()) != torch.float32:
        raise UserError(f"torch's default dtype is {default}, models compute in torch.float32: set that one")


def check_images(images: Tensor, shape: tuple[int, int, int]) -> Tensor:
    """The images, if they are float32 (N, *shape) in [0, 1]."""
    check_tensor(images, "images")
    if images.dim() != 4 or tuple(images.shape[1:]) != shape:
        raise UserError(f"the model wants images {shape} (C, H, W), got {_shape(images, shape)}")
    if not len(images):
        raise UserError("no images: at least one is wanted")
    if images.dtype != torch.float32:
        how = "images.float() / 255" if images.dtype == torch.uint8 else "images.float()"
        raise UserError(f"images are {images.dtype}, the model wants torch.float32 in [0, 1]: {how}")
    check_range(images)
    return images


def check_frames(frames: Tensor, shape: tuple[int, ...]) -> Tensor:
    """Event counts, if they are (N, *shape) and could be counts."""
    if tuple(frames.shape[1:]) != shape:
        raise UserError(f"the model wants frames {shape} (T, C, H, W), got {tuple(frames.shape[1:])}")
    if not len(frames):
        raise UserError("no frames: those of at least one recording are wanted")
    if frames.is_complex() or not (frames.isfinite() & (frames >= 0)).all():
        raise UserError(f"frames are {frames.dtype} with values below 0 or not finite, wanted event counts")
    return frames


def check_tensor(images, what: str) -> None:
    """ValueError for what is no tensor."""
    if not isinstance(images, Tensor):
        how = ": torch.from_numpy makes one" if type(images).__module__ == "numpy" else ""
        raise UserError(f"{what} are a {type(images).__name__}, a torch tensor is wanted{how}")


def check_range(images: Tensor) -> None:
    """ValueError for values that are not finite or not in [0, 1]."""
    low, high = (float(x) for x in images.aminmax())
    if not (low >= -ROUNDING and high <= 1 + ROUNDING):  # true for nan as well
        raise UserError(f"images have values from {low:.3g} to {high:.3g}; wanted floats in [0, 1]")


def check_seeds(seeds: Sequence[int] | Tensor) -> list[int]:
    """The seeds as numbers, if they are whole and there is at least one."""
    try:
        found = [operator.index(seed) for seed in (seeds.tolist() if isinstance(seeds, Tensor) else seeds)]
    except TypeError:
        raise UserError(f"seeds are {_short(seeds)}, wanted whole numbers, such as range(64)") from None
    if not found:
        raise UserError("no seeds: at least one image must be asked for")
    if not all(-(2**63) <= seed < 2**64 for seed in found):
        raise UserError(f"seeds from {min(found)} to {max(found)}, 64 bits each are wanted")
    return found


def check_classes(classes, count: int, known: int) -> Tensor:
    """Classes (count,), of `known`, from one for all or one each."""
    try:
        chosen = torch.as_tensor(classes)
    except (TypeError, ValueError, RuntimeError):
        raise UserError(f"classes are {_short(classes)}, wanted a number or one for each image") from None
    if chosen.is_floating_point() or chosen.is_complex() or chosen.dtype == torch.bool:
        raise UserError(f"classes are {chosen.dtype}, wanted whole numbers")
    if chosen.dim() and chosen.shape != (count,):
        raise UserError(f"classes of shape {tuple(chosen.shape)} for {count} images; one for all, or one each, wanted")
    if wrong := [c for c in chosen.flatten().tolist() if not 0 <= c < known]:
        raise UserError(f"class {wrong[0]} asked for; the model knows 0 to {known - 1}")
    return chosen.long().expand(count)


def check_latents(z: Tensor, shape: tuple[int, ...], spiking: bool) -> Tensor:
    """Latents, if they are float32 (N, *shape), and spikes where those are wanted."""
    check_tensor(z, "latents")
    if tuple(z.shape[1:]) != shape or not len(z):
        raise UserError(f"the model wants latents (N, {', '.join(map(str, shape))}), got {tuple(z.shape)}")
    if z.dtype != torch.float32:
        raise UserError(f"latents are {z.dtype}, the model wants torch.float32")
    if not z.isfinite().all() or spiking and not ((z == 0) | (z == 1)).all():
        raise UserError(f"latents hold other values than {'0 and 1, which are spikes' if spiking else 'finite ones'}")
    return z


def _shape(images: Tensor, wanted: tuple[int, int, int]) -> str:
    """The shape of images that do not fit, and what to do if it is clear."""
    found = tuple(images.shape)
    if images.dim() == 4 and found[1:] == (*wanted[1:], wanted[0]):
        return f"{found[1:]}: the channels are last, images.permute(0, 3, 1, 2) brings them first"
    if found == wanted:
        return f"{found} without the N of a batch: images[None]"
    return str(found[1:]) if images.dim() == 4 else f"a tensor {found}"


def _short(value) -> str:
    text = " ".join(repr(value).split())
    return text if len(text) <= 60 else f"{text[:57]}..."


def check_ends(start: Tensor, end: Tensor, steps: int) -> None:
    """UserError unless two images (C, H, W) and a number of images between them, the ends included, are given."""
    if not isinstance(steps, int) or steps < 2:
        raise UserError(f"steps is {steps!r}, at least 2 images are made, the ends")
    for image in (start, end):
        check_tensor(image, "the ends")
    if start.dim() != 3 or start.shape != end.shape:
        found = f"{tuple(start.shape)} and {tuple(end.shape)}"
        raise UserError(f"the ends are {found}, wanted one image (C, H, W) each")
