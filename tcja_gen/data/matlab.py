"""Variables of MATLAB files up to version 7 (save -v6, -v7), for recordings in TD structs.

Specification: MathWorks, "MAT-File Format", Level 5. A header of 128 bytes; then elements, each a tag of 8 bytes with
type and size, its data, and padding to 8 bytes. A variable is an element of elements, often compressed. SciPy's reader
trusts the sizes in a file and may crash on a damaged one, so this one checks each against the bytes that are there.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator

import numpy as np

from ..errors import UserError

NUMBERS = {1: "i1", 2: "u1", 3: "i2", 4: "u2", 5: "i4", 6: "u4", 7: "f4", 9: "f8", 12: "i8", 13: "u8"}  # by type
MATRIX, COMPRESSED = 14, 15
STRUCT, NUMERIC = 2, range(6, 16)  # classes of variables
HEADER, BIGGEST = 128, 2**30  # bytes; of a variable, as a file of 1 MB can hold one of as many

Value = np.ndarray | dict[str, np.ndarray]


def variables(data: bytes) -> dict[str, Value]:
    """Numeric variables, flat, and structs of one element as dicts of their numeric fields; others are left out.

    UserError, without the file's name, if it is no such file or is damaged.
    """
    if data.startswith(b"MATLAB 7.3"):
        raise UserError("MATLAB 7.3 (HDF5): save it with -v7")
    order = {b"IM": "<", b"MI": ">"}.get(data[126:HEADER])
    if not order:
        raise UserError("no MATLAB file of version 5 to 7, or cut off in its header")
    found = {}
    for kind, content in _elements(memoryview(data), HEADER, order):
        if kind == COMPRESSED:
            (kind, content), *_ = [*_elements(memoryview(_unpacked(content)), 0, order), (0, content)]
        if kind == MATRIX:
            name, value = _variable(content, order)
            found |= {name: value} if value is not None else {}
    return found


def _elements(data: memoryview, at: int, order: str) -> Iterator[tuple[int, memoryview]]:
    """Type and data of each element from a byte on."""
    while at < len(data):
        if len(data) - at < 8:
            raise UserError(f"{len(data) - at} bytes are left at byte {at}, where an element is wanted: cut off?")
        kind, size = struct.unpack_from(f"{order}II", data, at)
        start = at + 8
        if kind >> 16:  # up to 4 bytes of data lie in the tag
            kind, size, start = kind & 0xFFFF, kind >> 16, at + 4
        if start + size > len(data) or (start == at + 4 and size > 4):
            left = len(data) - start
            raise UserError(
                f"the element at byte {at} has {size} bytes, {left} are left: cut off, or damaged before it"
            )
        yield kind, data[start : start + size]
        at = start + size + (-(start + size - at) % 8 if kind != COMPRESSED else 0)


def _unpacked(packed: memoryview) -> bytes:
    unpacking = zlib.decompressobj()
    try:
        content = unpacking.decompress(packed, BIGGEST)
    except zlib.error as error:
        raise UserError(f"a variable cannot be unpacked ({error}): damaged") from None
    if not unpacking.eof:
        raise UserError(f"a variable is cut off, or unpacks to more than {BIGGEST / 1e6:,.0f} MB")
    return content


def _variable(content: memoryview, order: str, inner: bool = False) -> tuple[str, Value | None]:
    """Name and value; None for what is not read. inner: of a field, where no struct is read."""
    parts = list(_elements(content, 0, order))
    if len(parts) < 4:
        return "", None
    (flags, shape), name = (_numbers(*part, order) for part in parts[:2]), bytes(parts[2][1]).decode("latin-1")
    kind = int(flags[0]) & 0xFF if len(flags) else 0
    if kind in NUMERIC:
        return name, _numbers(*parts[3], order)
    if kind != STRUCT or inner or len(parts) < 5 or np.prod(shape, dtype=float) != 1:
        return name, None
    length = int(_numbers(*parts[3], order)[:1].sum()) or 1
    text = bytes(parts[4][1]).decode("latin-1")
    names = [text[k : k + length].split("\0")[0] for k in range(0, len(text), length)]
    fields = {field: _variable(part[1], order, inner=True)[1] for field, part in zip(names, parts[5:], strict=False)}
    return name, {field: value for field, value in fields.items() if value is not None}


def _numbers(kind: int, content: memoryview, order: str) -> np.ndarray:
    number = np.dtype(order + NUMBERS.get(kind, "u1"))
    if len(content) % number.itemsize:
        raise UserError(f"{len(content)} bytes of {number.itemsize} a number: damaged")
    return np.frombuffer(content, number)
