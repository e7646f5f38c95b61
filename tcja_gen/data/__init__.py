"""The data room: images into uint8 memory, out again as batches that depend on nothing but (seed, step).

`load_images` reads a built-in set, a folder or a zip; `check_images` names every bad file before training
trips over the first; `Batches` serves an `ImageSet` to a training loop of one or many processes.
"""

from .batches import Batches
from .check import Problem, check_images
from .images import ImageSet, load_images

__all__ = ["Batches", "ImageSet", "Problem", "check_images", "load_images"]
