"""The real images that a request names; loaded when they are first asked for."""

from functools import cached_property

from ..data import ImageSet, load_images
from ..errors import UserError
from .request import Request


class RealImages:
    """Two splits of a data set: the one to score against, and the training split."""

    def __init__(self, request: Request):
        self.request = request

    @cached_property
    def reference(self) -> ImageSet:
        """The split to score against."""
        return self._load(self.request.split)

    @cached_property
    def training(self) -> ImageSet:
        return self._load("train")

    def _load(self, split: str) -> ImageSet:
        asked = self.request
        if not asked.data:
            held = "nothing to compare with"
            if asked.reference is not None:
                held = f"{asked.reference}: has no images of the {split} split"
            raise UserError(f"{held}; name the data set, too: {asked.spell('data')}")
        shape = dict(size=asked.size, channels=asked.channels)
        return load_images(asked.data, split, **shape, root=asked.root, download=asked.download)
