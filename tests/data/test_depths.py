"""Files of every depth of pixels: what comes out is what is in them, or they are refused."""

import io
import struct
import zlib

import numpy as np
import PIL.Image
import pytest

from tcja_gen.data.pictures import decode

VALUES = np.arange(16).reshape(4, 4)
GREY, COLOUR, PALETTE, GREY_ALPHA, COLOUR_ALPHA = 0, 2, 3, 4, 6


def chunk(kind, data):
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(depth, kind, row, extra=b"", side=4):
    head = chunk(b"IHDR", struct.pack(">IIBBBBB", side, side, depth, kind, 0, 0, 0))
    data = chunk(b"IDAT", zlib.compress((b"\0" + row) * 4))
    return b"\x89PNG\r\n\x1a\n" + head + extra + data + chunk(b"IEND", b"")


def tiff(bits, photometric, data, sign=1):
    """A TIFF of 4 x 4 grey values as they stand."""
    tags = {256: 4, 257: 4, 258: bits, 259: 1, 262: photometric, 273: 8, 277: 1, 278: 4, 279: len(data), 339: sign}
    entries = b"".join(struct.pack("<HHII", tag, 3, 1, value) for tag, value in tags.items())
    return b"II*\0" + struct.pack("<I", 8 + len(data)) + data + struct.pack("<H", len(tags)) + entries + bytes(4)


def kept(image, kind):
    file = io.BytesIO()
    image.save(file, kind)
    return file.getvalue()


SIXTEEN = np.array([0, 256, 65279, 65535])
RIGHT = {
    "1-bit grey": (png(1, GREY, b"\xa0"), [255, 0, 255, 0]),
    "2-bit grey": (png(2, GREY, b"\x1b"), [0, 85, 170, 255]),
    "4-bit grey": (png(4, GREY, b"\x1b\xf0"), [17, 187, 255, 0]),
    "16-bit grey": (png(16, GREY, SIXTEEN.astype(">u2").tobytes()), [0, 1, 254, 255]),
    "2-bit palette": (png(2, PALETTE, b"\x1b", chunk(b"PLTE", bytes(range(12)))), [0, 1, 2, 3]),
    "4-bit palette": (png(4, PALETTE, b"\x1b\x02", chunk(b"PLTE", bytes(range(48)))), [3, 4, 5, 33]),
    "grey and alpha": (png(8, GREY_ALPHA, bytes([200, 128] * 4)), [100, 100, 100, 100]),
    "pgm of 4 bits": (b"P5 4 4 15\n" + bytes(range(16)), [0, 17, 34, 51]),
    "pgm of 12 bits": (b"P5 4 4 4095\n" + (VALUES * 273).astype(">u2").tobytes(), [0, 17, 34, 51]),
    "tiff of 16 bits": (tiff(16, 1, (VALUES * 4369).astype("<u2").tobytes()), [0, 17, 34, 51]),
    "tiff, white is 0": (tiff(8, 0, bytes(range(16))), [255, 254, 253, 252]),
    "cmyk": (kept(PIL.Image.new("RGB", (4, 4), (70, 70, 70)).convert("CMYK"), "TIFF"), [70, 70, 70, 70]),
}


@pytest.mark.parametrize("name", RIGHT)
def test_values_of_every_depth_come_out_right(name):
    data, wanted = RIGHT[name]
    assert np.asarray(decode(data)).flatten()[:4].tolist() == wanted


REFUSED = {
    "16-bit colour": (png(16, COLOUR, SIXTEEN.astype(">u2").tobytes() * 3), "16 bits a channel in RGB"),
    "16-bit colour and alpha": (png(16, COLOUR_ALPHA, SIXTEEN.astype(">u2").tobytes() * 4), "16 bits a channel"),
    "16-bit grey and alpha": (png(16, GREY_ALPHA, SIXTEEN.astype(">u2").tobytes() * 2), "16 bits a channel"),
    "16-bit grey, one clear": (png(16, GREY, bytes(8), chunk(b"tRNS", b"\0\0")), "transparent value"),
    "tiff of 12 bits": (tiff(12, 1, bytes(24)), "12 bits"),
    "tiff of 16 signed bits": (tiff(16, 1, bytes(32), 2), "signed"),
    "tiff of 8 signed bits": (tiff(8, 1, bytes(16), 2), "signed"),
    "tiff of 16 bits, white is 0": (tiff(16, 0, bytes(32)), "white as 0"),
    "tiff of 32 bits": (tiff(32, 1, VALUES.astype("<u4").tobytes()), "32-bit"),
    "tiff of floats": (kept(PIL.Image.fromarray(VALUES.astype(np.float32)), "TIFF"), "pixel mode F"),
    "another program's": (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 8 8\n%%EndComments\n", "EPS is not read"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_pillow_would_change_in_silence_is_refused(name):
    data, why = REFUSED[name]
    with pytest.raises(ValueError, match=why):
        decode(data)


@pytest.mark.parametrize("side", [8_500, 10_000, 20_000, 2_000_000])
def test_a_png_bomb_is_refused_before_it_is_unpacked_and_without_a_warning(side, recwarn):
    with pytest.raises(ValueError, match="67 million"):
        decode(png(8, GREY, b"", side=side))
    assert not recwarn.list


def test_a_thread_of_pixels_that_resizing_would_blow_up_is_refused():
    with pytest.raises(ValueError, match="4000 x 4 pixels, one side is more than 100 times the other"):
        decode(kept(PIL.Image.new("L", (4_000, 4)), "PNG"))
