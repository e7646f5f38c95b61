"""What an input is, and what inputs are made from."""

import random
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

SIDE, SENSOR = 16, 12
FLAGS = ["--steps", "1", "--batch", "8", "--compile", "off", "--device", "cpu", "--sample-every", "0"]
SMALL = [*FLAGS, "--model.encoder", "4C3s2-TCJA", "--model.time-steps", "2"]
GENERATOR = [*SMALL, "--model.latent.channels", "4", "--model.latent.k", "2", "--data", "digits"]


@dataclass
class Case:
    """An input: what it is called, whether it must be refused, and what is done with it.

    do: arguments of the command line, or a function; what the function returns is false if it is not as it should be
    """

    name: str
    refuse: bool
    do: list | Callable


@dataclass
class Tools:
    """What the cases are made from: chance, an empty folder, and sound runs and data."""

    draw: random.Random
    here: Path
    run: Path
    events_run: Path
    recording: Path

    def pixels(self, *shape: int) -> np.ndarray:
        return np.random.RandomState(self.draw.randrange(2**31)).randint(0, 256, shape).astype(np.uint8)

    def picture(self, path: Path, *shape: int, mode: str | None = None) -> Path:
        path.parent.mkdir(parents=True, exist_ok=True)
        image = Image.fromarray(self.pixels(*(shape or (SIDE, SIDE))))
        (image.convert(mode) if mode else image).save(path)
        return path

    def folder(self, layout: str = "", n: int = 4) -> Path:
        """Pictures in the folders of a layout, such as "train/a test/a"."""
        for place in layout.split() or [""]:
            for i in range(n):
                self.picture(self.here / "set" / place / f"{i}.png")
        return self.here / "set"

    def arrays(self) -> dict[str, np.ndarray]:
        with np.load(self.recording) as found:
            return dict(found)
