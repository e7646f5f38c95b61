"""Data sets of images and of event recordings, and the batches that a training takes from them.

    load             one split of any set, by name or path: images (`load_images`) or event frames (`load_events`)
    check_data       every bad file of a set, by name
    Batches          batches by step number; a batch depends on (seed, step) alone, whatever the number of processes
    splits_of        images that Python hands over: arrays, tensors, torch Datasets

`registry.register_dataset` adds sets of your own (`image_sets`).
"""

from .batches import Batches
from .builtin import BUILTIN
from .catalogue import even
from .check import Problem, check_data, check_events, check_images
from .event_augmentation import parse_kinds
from .event_files import read_events
from .event_layout import is_recording
from .event_names import KNOWN
from .event_sets import EventSet, first_of_each_class, full_count, load_events, load_recording
from .events import Events, integrate, moving, record, write_events
from .folders import has_images
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
    "first_of_each_class",
    "fit_splits",
    "full_count",
    "found_again",
    "has_images",
    "integrate",
    "is_events",
    "is_named",
    "is_recording",
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
