"""Checks of what a model is given in use. Each raises a UserError of one line that says what is expected.

Nothing is converted silently: images are float32 tensors (N, C, H, W) in [0, 1], and a network computes in float32.
"""

import operator
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from ..errors import UserError

ROUNDING = 1e-4  # how far computed images may lie outside [0, 1]


def check_alike(what: str, found: set) -> None:
    """UserError if the parts of a model differ in something."""
    if len(found) > 1:
        raise UserError(f"the parts of a model have different {what}: {', '.join(map(str, sorted(found)))}")


def check_precision(network: nn.Module) -> None:
    """UserError if the weights or torch's default dtype are not float32."""
    if others := {p.dtype for p in network.parameters()} - {torch.float32}:
        raise UserError(f"the model's weights are {others.pop()}, it computes in torch.float32: call model.float()")
    if (default := torch.get_default_dtype()) != torch.float32:
        raise UserError(f"torch's default dtype is {default}, models compute in torch.float32: set that one")


def check_images(images: Tensor, shape: tuple[int, int, int]) -> Tensor:
    """Returns the images. UserError unless they are float32 (N, *shape) in [0, 1], N at least 1."""
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
    """Returns the event frames. UserError unless they are (N, *shape), N at least 1, finite and not negative."""
    if tuple(frames.shape[1:]) != shape:
        raise UserError(f"the model wants frames {shape} (T, C, H, W), got {tuple(frames.shape[1:])}")
    if not len(frames):
        raise UserError("no frames: at least one recording is needed")
    if frames.is_complex() or not (frames.isfinite() & (frames >= 0)).all():
        raise UserError(f"frames are {frames.dtype} with values below 0 or not finite, wanted event counts")
    return frames


def check_tensor(images, what: str) -> None:
    """UserError unless `images` is a tensor. what: its name in the message."""
    if not isinstance(images, Tensor):
        how = ": torch.from_numpy makes one" if type(images).__module__ == "numpy" else ""
        raise UserError(f"{what} are a {type(images).__name__}, a torch tensor is wanted{how}")


def check_range(images: Tensor) -> None:
    """UserError for values that are not finite or not in [0, 1]."""
    low, high = (float(x) for x in images.aminmax())
    if not (low >= -ROUNDING and high <= 1 + ROUNDING):  # true for nan as well
        raise UserError(f"images have values from {low:.3g} to {high:.3g}; wanted floats in [0, 1]")


def check_seeds(seeds: Sequence[int] | Tensor) -> list[int]:
    """The seeds as a list of int. UserError unless they are whole numbers of 64 bits, at least one."""
    try:
        numbers = [operator.index(seed) for seed in (seeds.tolist() if isinstance(seeds, Tensor) else seeds)]
    except TypeError:
        raise UserError(f"seeds are {_short(seeds)}, wanted whole numbers, such as range(64)") from None
    if not numbers:
        raise UserError("no seeds: at least one image must be asked for")
    if not all(-(2**63) <= seed < 2**64 for seed in numbers):
        raise UserError(f"seeds from {min(numbers)} to {max(numbers)}; seeds have 64 bits")
    return numbers


def check_classes(classes, count: int, known: int) -> Tensor:
    """Classes (count,), int64, from one class for all images or one for each. UserError unless they are whole numbers
    from 0 to known - 1."""
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
    """Returns the latents. UserError unless they are finite float32 (N, *shape), and spikes (0 or 1) if `spiking`."""
    check_tensor(z, "latents")
    if tuple(z.shape[1:]) != shape or not len(z):
        raise UserError(f"the model wants latents (N, {', '.join(map(str, shape))}), got {tuple(z.shape)}")
    if z.dtype != torch.float32:
        raise UserError(f"latents are {z.dtype}, the model wants torch.float32")
    if not z.isfinite().all() or spiking and not ((z == 0) | (z == 1)).all():
        raise UserError(f"latents must be {'spikes, 0 or 1' if spiking else 'finite'}; these have other values")
    return z


def _shape(images: Tensor, wanted: tuple[int, int, int]) -> str:
    """The shape of images that do not fit, and what to do about it if that is clear."""
    found = tuple(images.shape)
    if images.dim() == 4 and found[1:] == (*wanted[1:], wanted[0]):
        return f"{found[1:]}: the channels are last, images.permute(0, 3, 1, 2) brings them first"
    if found == wanted:
        return f"{found} without the N of a batch: images[None]"
    return str(found[1:]) if images.dim() == 4 else f"a tensor {found}"


def _short(value) -> str:
    text = " ".join(repr(value).split())
    return text if len(text) <= 60 else f"{text[:57]}..."


def check_ends(start: Tensor, end: Tensor, steps: int, dims: int = 3) -> None:
    """UserError unless the ends are two images (C, H, W), or recordings (T, 2, H, W) with `dims` = 4, of one shape and
    `steps` is at least 2."""
    if not isinstance(steps, int) or steps < 2:
        raise UserError(f"steps is {steps!r}; it counts the images including both ends, so it must be at least 2")
    for image in (start, end):
        check_tensor(image, "the ends")
    if start.dim() != dims or start.shape != end.shape:
        found = f"{tuple(start.shape)} and {tuple(end.shape)}"
        wanted = {3: "image (C, H, W)", 4: "recording (T, 2, H, W)"}[dims]
        raise UserError(f"the ends are {found}, wanted one {wanted} each")
