"""Event recordings byte by byte, from the formats' specifications: lists of (t, x, y, p) to files."""

import struct


def bin_file(events):
    """40 bits, most significant first: x 8, y 8, polarity 1, t 23."""
    return b"".join((x << 32 | y << 24 | p << 23 | t).to_bytes(5, "big") for t, x, y, p in events)


AEDAT2_HEADER = b"#!AER-DAT2.0\r\n# This is a raw AE data file - do not edit\r\n# Timestamps tick is 1 us\r\n"


def aedat2_file(events, header=AEDAT2_HEADER):
    """Address and time, big-endian: polarity (0 is brighter), x from the right, y from below, 7 bits each."""
    address = lambda x, y, p: (1 - p) | (127 - x) << 1 | (127 - y) << 8  # noqa: E731
    return header + b"".join(struct.pack(">Ii", address(x, y, p), t) for t, x, y, p in events)


AEDAT3_HEADER = b"#!AER-DAT3.1\r\n#Format: RAW\r\n#Source 1: DVS128\r\n#!END-HEADER\r\n"


def packet(events, overflow=0, kind=1, valid=1, capacity=None, number=None):
    """A header of 28 bytes, then x 15, y 15, polarity 1, valid 1, and the time, little-endian."""
    head = (kind, 1, 8, 4, overflow, len(events) if capacity is None else capacity, number or len(events), len(events))
    body = b"".join(struct.pack("<Ii", x << 17 | y << 2 | p << 1 | valid, t) for t, x, y, p in events)
    return struct.pack("<HHIIIIII", *head) + body


def events_in(*columns):
    return list(zip(*columns, strict=True))


def dat_file(events, header=b"% Data file containing CD events\n% Version 2\n% Width 34\n% Height 34\n", kind=12):
    """Text, type and size, then t and polarity 4, y 14, x 14, little-endian."""
    return header + bytes([kind, 8]) + b"".join(struct.pack("<II", t, p << 28 | y << 14 | x) for t, x, y, p in events)


DESCRIPTION = """<dv version="2.0"><node name="outInfo"><node name="0">
<attr key="typeIdentifier" type="string">EVTS</attr><node name="info"><attr key="sizeX" type="int">34</attr>
<attr key="sizeY" type="int">33</attr></node></node></node></dv>"""


def aedat4_file(*packets):
    """A header and packets as FlatBuffers, not compressed: a table with the text of the streams, one with events."""
    text = DESCRIPTION.encode()
    fields = struct.pack("<HHHHH", 10, 8, 0, 0, 4) + bytes(2)  # which the table has: the third, at its byte 4
    header = struct.pack("<I4s", 20, b"IOHE") + fields + struct.pack("<iII", 12, 4, len(text)) + text + bytes(1)
    return b"#!AER-DAT4.0\r\n" + _with_size(header) + b"".join(map(_aedat4_packet, packets))


def _aedat4_packet(events):
    fields = struct.pack("<HHH", 6, 8, 4) + bytes(2)
    records = b"".join(struct.pack("<qhhB3x", t, x, y, p) for t, x, y, p in events)
    table = struct.pack("<iI4xI", 8, 8, len(events))
    packet = _with_size(struct.pack("<I4s", 16, b"EVTS") + fields + table + records)
    return struct.pack("<II", 0, len(packet)) + packet


def _with_size(content):
    return struct.pack("<I", len(content)) + content


def mat_file(order, **fields):
    """A struct of doubles: a header of 128 bytes, then elements of type, size and data padded to 8 bytes."""

    def element(kind, data):
        return struct.pack(f"{order}II", kind, len(data)) + data + bytes(-len(data) % 8)

    def matrix(kind, shape, name, *contents):
        head = element(6, struct.pack(f"{order}II", kind, 0)) + element(5, struct.pack(f"{order}ii", *shape))
        return element(14, head + element(1, name) + b"".join(contents))

    length = struct.pack(f"{order}Ii", 4 << 16 | 5, 8)  # an int32 of 4 bytes, within its tag
    names = element(1, b"".join(name.encode().ljust(8, b"\0") for name in fields))
    values = (matrix(6, (1, len(v)), b"", element(9, struct.pack(f"{order}{len(v)}d", *v))) for v in fields.values())
    end = b"\0\1IM" if order == "<" else b"\1\0MI"
    return b"MATLAB 5.0 MAT-file".ljust(124) + end + matrix(2, (1, 1), b"TD", length, names, *values)
