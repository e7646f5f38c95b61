"""The data room: images and event frames in, batches out that depend on nothing but (seed, step).

`load` reads a built-in set, a folder or a zip of images (`load_images`), or event recordings (`load_events`);
`check_images` names every bad file before training trips over the first; `Batches` serves either kind to a training
loop of one or many processes.
"""

from .batches import Batches
from .builtin import BUILTIN
from .catalogue import even
from .check import Problem, check_data, check_events, check_images
from .event_augmentation import parse_kinds
from .event_layout import KNOWN
from .event_sets import EventSet, load_events, load_recording
from .events import Events, integrate, moving, read_events, record, write_events
from .image_sets import ImageSet, splits_of
from .images import fit_splits, load_images
from .sources import found_again, is_events, is_named, load, place

__all__ = [
    "BUILTIN",
    "KNOWN",
    "Batches",
    "EventSet",
    "Events",
    "ImageSet",
    "Problem",
    "check_data",
    "check_events",
    "check_images",
    "even",
    "fit_splits",
    "found_again",
    "integrate",
    "is_events",
    "is_named",
    "load",
    "load_events",
    "load_images",
    "load_recording",
    "moving",
    "parse_kinds",
    "place",
    "read_events",
    "record",
    "splits_of",
    "write_events",
]
