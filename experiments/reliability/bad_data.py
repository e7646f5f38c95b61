"""Files, folders, zips and event recordings, sound and not."""

import io
import os
import struct
import zipfile
import zlib
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import numpy as np
from cases import SENSOR, SIDE, SMALL, Case, Tools
from PIL import Image

from tcja_gen.data import check_data, load, load_images, moving, read_events, record, write_events

# files: one picture among sound ones


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(depth: int, kind: int, row: bytes, extra: bytes = b"", side: int = SIDE) -> bytes:
    head = chunk(b"IHDR", struct.pack(">IIBBBBB", side, side, depth, kind, 0, 0, 0))
    pixels = chunk(b"IDAT", zlib.compress((b"\0" + row) * SIDE))
    return b"\x89PNG\r\n\x1a\n" + head + extra + pixels + chunk(b"IEND", b"")


def kept(image: Image.Image, kind: str, **how) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **how)
    return file.getvalue()


def bad_files(t: Tools) -> Iterator[tuple[str, bytes | str]]:
    """Endless: what a file is, and its bytes (or what else stands in its place)."""
    while True:
        grey = Image.fromarray(t.pixels(SIDE, SIDE))
        colour = Image.fromarray(t.pixels(SIDE, SIDE, 3))
        whole = {kind: kept(colour, kind, **how) for kind, how in {"PNG": {}, "BMP": {}, "TIFF": {}}.items()}
        kind = t.draw.choice([*whole])
        yield f"{kind} cut off", whole[kind][: t.draw.randrange(1, len(whole[kind]) * 3 // 4)]
        yield "JPEG cut off in its header", kept(colour, "JPEG")[: t.draw.randrange(1, 150)]
        yield "random bytes", t.draw.randbytes(t.draw.randrange(1, 4000))
        yield "empty", b""
        yield "text", t.draw.choice([b"<html>404</html>", b"version https://git-lfs.github.com/spec/v1\n", b"{}"])
        damaged = bytearray(whole["PNG"])
        damaged[t.draw.randrange(16, 29)] ^= 1 << t.draw.randrange(8)
        yield "PNG with a damaged header", bytes(damaged)
        yield "too small", kept(Image.new("L", (t.draw.randrange(1, 4), SIDE)), "PNG")
        yield "too many pixels", png(8, 0, b"", side=t.draw.choice([8300, 9000, 13000, 40000, 10**6]))
        yield "a thread of pixels", kept(Image.new("L", (t.draw.randrange(801, 3000), 8)), "PNG")
        yield "16-bit colour", png(16, 2, t.draw.randbytes(6 * SIDE))
        yield "16-bit grey and alpha", png(16, 4, t.draw.randbytes(4 * SIDE))
        yield "32-bit grey", kept(Image.fromarray(t.pixels(SIDE, SIDE).astype(np.int32)), "TIFF")
        yield "floats", kept(Image.fromarray(t.pixels(SIDE, SIDE).astype(np.float32)), "TIFF")
        yield "LAB", kept(colour.convert("LAB"), "TIFF")
        yield "PostScript", b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 16 16\n%%EndComments\nshowpage\n"
        yield "an icon", kept(grey, "ICO")
        yield "a link to nothing", "link"
        yield "a pipe", "pipe"


def good_files(t: Tools) -> Iterator[tuple[str, bytes]]:
    while True:
        grey, colour = Image.fromarray(t.pixels(SIDE, SIDE)), Image.fromarray(t.pixels(SIDE, SIDE, 3))
        for depth in (1, 2, 4, 16):
            yield f"{depth}-bit grey", png(depth, 0, t.draw.randbytes(SIDE * depth // 8))
        yield "4-bit palette", png(4, 3, t.draw.randbytes(SIDE // 2), chunk(b"PLTE", t.draw.randbytes(48)))
        for mode in ("1", "LA", "RGBA", "P"):
            yield f"mode {mode}", kept(colour.convert(mode), "PNG")
        yield "CMYK", kept(colour.convert("CMYK"), "JPEG")
        yield "16-bit grey", kept(Image.fromarray(t.pixels(SIDE, SIDE).astype(np.uint16) * 257), "TIFF")
        yield "an animation", kept(grey, "GIF", save_all=True, append_images=[grey.rotate(90)])
        yield "under another ending", kept(colour, t.draw.choice(["JPEG", "BMP", "WEBP", "PPM"]))


def files(t: Tools) -> Iterator[Case]:
    bad, good = bad_files(t), good_files(t)
    for i in range(10**9):
        refuse = i % 4 != 3
        name, data = next(bad if refuse else good)
        folder = t.folder(n=3)
        place = folder / f"odd{i}.png"
        if isinstance(data, bytes):
            place.write_bytes(data)
        else:
            place.symlink_to("nowhere") if data == "link" else os.mkfifo(place)
        if refuse and i % 3 == 0:  # the other command that must name it
            yield Case(f"check: {name}", False, partial(named, folder, place))
        else:
            yield Case(name, refuse, ["reconstruct", t.run, "--images", folder, "--n", "2", "--out", t.here / "out"])


def named(folder: Path, place: Path) -> bool:
    return str(place) in [problem.file for problem in check_data(folder, size=SIDE, channels=1)]


# folders and zips


def splits(source: Path, counts: tuple[int, int], classes: tuple[str, ...] | None, **how) -> bool:
    train, test = (load_images(source, part, **how) for part in ("train+validation", "test"))
    return (len(train), len(test), train.classes) == (*counts, classes)


STRAY = ("README.txt", "labels.csv", "Thumbs.db", ".DS_Store", "__MACOSX/._0.png", "a/notes.md", "docs/how.pdf")


def folders(t: Tools) -> Iterator[Case]:
    ab = ("a", "b")

    def train(data: object) -> list:
        return ["train", "--task", "classify", *SMALL, "--out", t.here / "run", "--data", data]

    halves = "train/a train/b test/a test/b"
    while True:
        stray = t.draw.choice(STRAY)
        folder = t.folder(" ".join(f"data/{part}" for part in halves.split()))
        (folder / stray).parent.mkdir(exist_ok=True)
        (folder / stray).write_bytes(b"no picture")
        yield Case(f"a stray {stray}", False, partial(splits, folder, (8, 8), ab))
        folder = t.folder(halves)
        (folder / t.draw.choice(["train/a", "test", "."]) / "loop").symlink_to(folder / t.draw.choice([".", "train"]))
        yield Case("a link that leads back", False, partial(splits, folder, (8, 8), ab))
        folder = t.folder(halves)
        (folder / "train/c").mkdir()
        yield Case("an empty class", False, partial(splits, folder, (8, 8), ab))
        yield Case("upper-case splits", False, partial(splits, t.folder("Train/a Train/b TEST/a TEST/b"), (8, 8), ab))
        yield Case("sound", False, train(t.folder("a b", n=8)))
        t.picture(t.folder(f"data/{halves.replace(' ', ' data/')}") / t.draw.choice(["x.png", "more/x.png"]))
        yield Case("a picture beside the set", True, train(t.here / "set"))
        yield Case("classes with splits in them", True, train(t.folder("a/train a/test b/train b/test")))
        yield Case("a class called train", True, train(t.folder("bus car train")))
        t.picture(t.folder("a b") / "stray.png")
        yield Case("a picture beside classes", True, train(t.here / "set"))
        yield Case("no classes", True, train(t.folder()))
        (t.here / "empty").mkdir()
        yield Case("empty", True, train(t.here / "empty"))
        (t.here / "text").mkdir()
        (t.here / "text" / "a.txt").write_bytes(b"no picture")
        yield Case("only text", True, train(t.here / "text"))
        t.picture(t.folder("a b") / "a" / "large.png", SIDE + t.draw.randrange(1, 9), SIDE)
        yield Case("sizes that differ", True, train(t.here / "set"))
        t.picture(t.folder("a b") / "b" / "colour.png", SIDE, SIDE, 3)
        yield Case("grey and colour", True, train(t.here / "set"))
        yield Case("a single picture", True, train(t.folder("a", n=1)))
        yield Case("not there", True, train(t.here / f"no{t.draw.random()}" / "where"))
        yield Case("a file", True, train(t.picture(t.here / "one.png")))
        yield Case("a name with a slip", True, train(t.draw.choice(["mnits", "cifar", "digit", "MNIST "])))
        name = t.here / os.fsdecode(b"gr\xfcn")
        t.folder("a b").rename(name)
        yield Case("a name that is not UTF-8", True, train(name))


def zips(t: Tools) -> Iterator[Case]:
    names = [f"{part}/{label}/{i}.png" for part in ("train", "test") for label in "ab" for i in range(4)]

    def command(data: Path) -> list:
        return ["reconstruct", t.run, "--n", "2", "--out", t.here / "out", "--images", data]

    def made(**how) -> Path:
        path = t.here / "set.zip"
        with zipfile.ZipFile(path, "w", how.pop("method", zipfile.ZIP_DEFLATED)) as archive:
            for name in how.pop("names", names):
                archive.writestr(name, how.get("data") or kept(Image.fromarray(t.pixels(SIDE, SIDE)), "PNG"))
        return path

    def changed(path: Path, change: Callable[[bytearray], object]) -> Path:
        data = bytearray(path.read_bytes())
        data = change(data) or data
        path.write_bytes(data)
        return path

    def flip(data: bytearray) -> None:
        first = 30 + len(names[0])
        data[t.draw.randrange(first + 20, first + 200)] ^= 0xFF

    right = partial(partial, splits, counts=(8, 8), classes=("a", "b"))
    while True:
        prefix = t.draw.choice(["", "./", "/", "top/", "top\\", ".\\"])
        slash = t.draw.choice("/\\")
        spelt = [(prefix + name).replace("/", slash).replace("\\", slash) for name in names]
        yield Case(f"names like {spelt[0]}", False, right(made(names=spelt)))
        yield Case("stray members", False, right(made(names=[*names, "README.txt", "__MACOSX/train/a/._0.png", "x/"])))
        yield Case("a comment", False, right(changed(made(), lambda data: data[:-2] + b"\x04\0note")))
        yield Case("stored", False, right(made(method=zipfile.ZIP_STORED)))
        yield Case("cut off", True, command(changed(made(), lambda data: data[: t.draw.randrange(len(data) - 30)])))
        yield Case("random bytes", True, command(changed(made(), lambda data: t.draw.randbytes(500))))
        yield Case("empty", True, command(changed(made(), lambda data: data.clear())))
        yield Case("no members", True, command(made(names=[])))
        yield Case("no pictures", True, command(made(names=["a.txt", "b/c.csv"])))
        yield Case("a damaged member", True, command(changed(made(method=zipfile.ZIP_STORED), flip)))
        yield Case("a bomb", True, command(made(names=["a/1.png"], data=bytes(2**28 + t.draw.randrange(1, 2**20)))))
        method = t.draw.choice([zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
        yield Case("another packing", True, command(made(method=method)))
        bad = next(data for _, data in bad_files(t) if isinstance(data, bytes))
        yield Case("a bad picture", True, command(made(data=bad or b" ")))
        yield Case("not there", True, command(t.here / "gone.zip"))


# event recordings


def events(t: Tools) -> Iterator[Case]:
    def predict(name: str = "r.npz") -> list:
        return ["predict", t.events_run, t.here / name]

    def saved(**changes) -> list:
        found = t.arrays() | changes
        np.savez(t.here / "r.npz", **{key: value for key, value in found.items() if value is not None})
        return predict()

    def written(data: bytes) -> list:
        (t.here / "r.npz").write_bytes(data)
        return predict()

    def sorted_again() -> bool:
        a, b = (read_events(path) for path in (t.recording, t.here / "r.npz"))
        return bool(np.array_equal(a.t, b.t))

    while True:
        whole, sound = t.recording.read_bytes(), t.arrays()
        n, key = len(sound["t"]), t.draw.choice("txyp")
        yield Case("sound", False, saved())
        yield Case("other types", False, saved(x=sound["x"].astype(np.uint16), t=sound["t"].astype(np.uint32)))
        order = np.random.RandomState(t.draw.randrange(99)).permutation(n)
        saved(**{name: values[order] for name, values in sound.items()})
        yield Case("out of order", False, sorted_again)
        (t.here / "up.NPZ").write_bytes(whole)
        yield Case("an upper-case ending", False, predict("up.NPZ"))
        yield Case("cut off", True, written(whole[: t.draw.randrange(len(whole) - 30)]))
        yield Case("random bytes", True, written(t.draw.randbytes(300)))
        yield Case("empty file", True, written(b""))
        yield Case(f"no {key}", True, saved(**{key: None}))
        yield Case(f"{key} of floats", True, saved(**{key: sound[key] * 1.0}))
        yield Case(f"{key} too short", True, saved(**{key: sound[key][: t.draw.randrange(n)]}))
        yield Case(f"{key} of two axes", True, saved(**{key: np.stack([sound[key]] * 2)}))
        yield Case(f"{key} of objects", True, saved(**{key: sound[key].astype(object)}))
        yield Case("no events", True, saved(**{name: values[:0] for name, values in sound.items()}))
        axis = t.draw.choice("xy")
        moved = sound[axis].astype(np.int64) + t.draw.choice([SENSOR, -SENSOR, 10**5])
        yield Case("outside of the sensor", True, saved(**{axis: moved}))
        yield Case("another polarity", True, saved(p=sound["p"].astype(np.int8) * 2 - t.draw.choice([0, 1])))
        late = sound["t"] + 2**32 - t.draw.randrange(int(sound["t"][0]) + 1, int(sound["t"][-1]))
        yield Case("a clock that ran over", True, saved(t=late.astype(np.uint32)))
        yield Case("times of 64 bits", True, saved(t=sound["t"].astype(np.uint64) + np.uint64(2**63)))
        yield Case("other frames", True, saved(t=None, frames=np.zeros((t.draw.randrange(3, 9), 2, SENSOR, SENSOR))))
        for part in ("train", "test"):
            for label in "ab":
                place = t.here / "set/events_np" / part / label / "0.npz"
                write_events(place, record(moving(t.pixels(8, 8), (SENSOR, SENSOR), reach=2)))
        (t.here / "set/events_np/test/b/0.npz").write_bytes((t.here / "set/events_np/train/b/0.npz").read_bytes())
        found = partial(lambda: "share a recording" in check_data(t.here / "set")[0].reason)
        yield Case("a recording in two splits", False, found)
        (t.here / "none/events_np/a").mkdir(parents=True)
        yield Case("an empty class", True, lambda: load(t.here / "none", time_steps=2, size=SENSOR))
