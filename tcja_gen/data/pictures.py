"""From the bytes of an image file to pixels, by these rules; the arithmetic is Pillow's.

1. Mode: alpha is composited onto black; 16-bit grey is scaled to 8 bit (65535 -> 255, rounded); a palette becomes RGB;
   the camera's orientation tag is applied; of an animation the first frame is taken. Files whose values Pillow would
   change without a word are refused (16-bit colour; grey of 12, 16 signed or 32 bits).
2. Channels: grey from RGB is Pillow's "L" (ITU-R 601); three channels from grey repeat it.
3. Size: the shorter side is resized to `size` by Pillow's bilinear filter (with antialiasing when it shrinks), then
   the centre is cropped; torchvision's Resize and CenterCrop give the same pixels. MNIST's 28 pixels become 32 by this
   resize, as in FSVAE, not by zero padding.
"""

from __future__ import annotations

import io
import warnings
from typing import TYPE_CHECKING

import numpy as np
import torch
import torch.nn.functional as F

from ..errors import UserError

if TYPE_CHECKING:
    from PIL.Image import Image

SMALLEST = 4  # pixels a side
LARGEST = 2**26  # pixels: a PNG of 1 MB can hold a thousand times as many
NARROWEST = 100  # longer side by shorter side
TRIED = 256  # images
TIFF_INVERTED, TIFF_BITS, TIFF_PHOTOMETRIC, TIFF_SIGN = 0, 258, 262, 339
FORMATS = ("PNG", "JPEG", "MPO", "BMP", "DIB", "GIF", "WEBP", "TIFF", "PPM", "AVIF")
GREY = ("1", "L", "LA")
COLOUR = ("P", "PA", "RGB", "RGBA", "RGBX", "CMYK", "YCbCr")
SUPPORTED = "8- or 16-bit grey, RGB, palette or CMYK wanted"
SIXTEEN_BIT = ("I", "I;16", "I;16L", "I;16B", "I;16N")


def decode(data: bytes) -> Image:
    """A PIL image of mode L or RGB from a file's bytes; ValueError with the reason (not the name)."""
    import PIL.Image
    import PIL.ImageOps

    if not data:
        raise UserError("empty file")
    try:
        with warnings.catch_warnings():  # of sizes between Pillow's two limits, which `_check_size` knows
            warnings.simplefilter("ignore", PIL.Image.DecompressionBombWarning)
            image = PIL.Image.open(io.BytesIO(data))
    except PIL.UnidentifiedImageError:
        raise UserError("not an image, or cut off in its header") from None
    except PIL.Image.DecompressionBombError:
        raise UserError(f"more than {LARGEST / 1e6:.0f} million pixels, which are not unpacked") from None
    except Exception as error:  # on broken bytes Pillow's readers raise many unrelated types
        raise UserError(f"not a readable image ({one_line(error)})") from None
    if image.format not in FORMATS:  # of Pillow's many readers some run other programs
        raise UserError(f"{image.format} is not read: {', '.join(FORMATS)} wanted")
    _check_size(image)
    _check_depth(image)
    try:
        image.load()
        image = PIL.ImageOps.exif_transpose(image)
    except Exception as error:
        raise UserError(f"truncated or broken ({one_line(error)})") from None
    return plain(image)


def _check_size(image: Image) -> None:
    width, height = image.size
    if min(width, height) < SMALLEST:
        raise UserError(f"{width} x {height} pixels, at least {SMALLEST} x {SMALLEST} wanted")
    if width * height > LARGEST:
        raise UserError(f"{width} x {height} pixels, at most {LARGEST / 1e6:.0f} million are unpacked")
    if max(width, height) > NARROWEST * min(width, height):  # which grows with the shorter side where it is enlarged
        raise UserError(f"{width} x {height} pixels, one side is more than {NARROWEST} times the other")


def _check_depth(image: Image) -> None:
    """ValueError for files whose values Pillow would cut to 8 bits, or return in another range than their mode has."""
    _check_mode(image)
    decoder = str(image.tile[0][3]) if image.tile else ""
    if ";16" in decoder and image.mode not in SIXTEEN_BIT:
        raise UserError(f"16 bits a channel in {image.mode} are not supported: {SUPPORTED}")
    if image.mode in SIXTEEN_BIT and image.has_transparency_data:
        raise UserError(f"16-bit grey with a transparent value is not supported: {SUPPORTED}")
    if image.mode == "I" and image.format not in ("PNG", "PPM"):  # whose "I" is 16 bits; others' is 32
        raise UserError(f"32-bit or signed grey is not supported: {SUPPORTED}")
    if image.format == "TIFF":
        bits, sign = image.tag_v2.get(TIFF_BITS, (1,)), image.tag_v2.get(TIFF_SIGN, (1,))
        if max(bits) not in (1, 2, 4, 8, 16) or not set(sign) <= {1, 4}:  # unsigned, or not said
            raise UserError(f"{max(bits)} bits a channel, or signed ones, are not supported: {SUPPORTED}")
        if image.mode in SIXTEEN_BIT and image.tag_v2.get(TIFF_PHOTOMETRIC) == TIFF_INVERTED:
            raise UserError(f"16-bit grey with white as 0 is not supported: {SUPPORTED}")


def _check_mode(image: Image) -> None:
    if image.mode not in GREY + COLOUR + SIXTEEN_BIT:
        raise UserError(f"pixel mode {image.mode} is not supported: {SUPPORTED}")


def plain(image: Image) -> Image:
    """Any supported mode to 8-bit L or RGB (rule 1). UserError for another mode."""
    _check_mode(image)
    if image.mode in SIXTEEN_BIT:
        return _eight_bit(image)
    mode = "L" if image.mode in GREY else "RGB"
    if image.has_transparency_data:
        image = _on_black(image)
    return image.convert(mode)


def fit(image: Image, size: int, channels: int) -> np.ndarray:
    """A PIL image of mode L or RGB as uint8 `(channels, size, size)` (rules 2 and 3)."""
    import PIL.Image

    image = image.convert("L" if channels == 1 else "RGB")
    shorter = min(image.size)
    if shorter != size:
        scaled = [int(side * size / shorter) for side in image.size]
        image = image.resize(tuple(scaled), PIL.Image.Resampling.BILINEAR)
    pixels = np.asarray(centre_crop(image, size))  # (S, S) or (S, S, 3)
    return pixels[None] if channels == 1 else pixels.transpose(2, 0, 1)


def fit_all(pixels: np.ndarray, size: int, channels: int) -> np.ndarray | None:
    """`fit` of all pictures at once, uint8 (N, H, W) or (N, H, W, 3) -> (N, channels, size, size); None if that
    cannot be done, or would give other pixels than `fit`.

    PyTorch resizes square grey pictures much faster. On some processors its arithmetic differs from Pillow's, so a
    sample of the pictures is resized by both and compared.
    """
    import PIL.Image

    grey, (height, width) = pixels.ndim == 3, pixels.shape[1:3]
    if height != width or grey != (channels == 1):
        return None
    whole = pixels[:, None] if grey else pixels.transpose(0, 3, 1, 2)
    if size == width:
        return np.ascontiguousarray(whole)
    if not grey:
        return None
    some = slice(None, None, max(len(whole) // TRIED, 1))
    exact = np.stack([fit(PIL.Image.fromarray(image), size, 1) for image in pixels[some]])
    images = torch.from_numpy(np.ascontiguousarray(whole))
    resized = F.interpolate(images, (size, size), mode="bilinear", antialias=True).numpy()
    return resized if np.array_equal(resized[some], exact) else None


def centre_crop(image: Image, side: int) -> Image:
    """The central square of `side` pixels."""
    if image.size == (side, side):
        return image
    left, top = round((image.width - side) / 2), round((image.height - side) / 2)
    return image.crop((left, top, left + side, top + side))


def one_line(error: BaseException) -> str:
    """An error's message on one line of at most 160 characters."""
    return " ".join(str(error).split())[:160] or type(error).__name__


def _eight_bit(image: Image) -> Image:
    import PIL.Image

    values = np.asarray(image)
    if values.min() < 0 or values.max() > 65535:
        raise UserError(f"32-bit grey is not supported: {SUPPORTED}")
    return PIL.Image.fromarray(((values.astype(np.uint32) + 128) // 257).astype(np.uint8))


def _on_black(image: Image) -> Image:
    import PIL.Image

    image = image.convert("RGBA")
    black = PIL.Image.new("RGBA", image.size, (0, 0, 0, 255))
    return PIL.Image.alpha_composite(black, image).convert("RGB")
