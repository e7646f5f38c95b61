"""The published sets of event recordings, by name: what they are, and where to get them."""

from dataclasses import dataclass

CIFAR10 = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")


@dataclass(frozen=True)
class Known:
    """A published set: SpikingJelly's folder, sensor (H, W), number of classes, and where to get it.

    published: folders of the files as published, each of which may be a zip of its name
    transposed: SpikingJelly exchanges x and y, and so do we
    """

    folder: str
    sensor: tuple[int, int]
    classes: int
    origin: str
    published: tuple[str, ...]
    transposed: bool = False


KNOWN = {
    "dvs128-gesture": Known(
        "DVS128Gesture",
        (128, 128),
        11,
        "https://ibm.ent.box.com/s/3hiq58ww1pbbjrinh367ykfdf60xsfm8/folder/50167556794",
        ("DvsGesture",),
    ),
    "cifar10-dvs": Known(
        "CIFAR10DVS",
        (128, 128),
        10,
        "https://figshare.com/articles/dataset/CIFAR10-DVS_New/4724671",
        CIFAR10,
        transposed=True,
    ),
    "n-caltech101": Known(
        "NCaltech101",
        (180, 240),
        101,
        "https://www.garrickorchard.com/datasets/n-caltech101",
        ("Caltech101",),
    ),
    "n-mnist": Known(
        "NMNIST",
        (34, 34),
        10,
        "https://www.garrickorchard.com/datasets/n-mnist",
        ("Train", "Test"),
    ),
}


def known_as(name: str) -> Known | None:
    """The published set of this name, or whose folder has it."""
    return next((known for key, known in KNOWN.items() if name in (key, known.folder)), None)
