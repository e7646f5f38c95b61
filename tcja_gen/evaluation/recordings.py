"""Event recordings drawn from a generator's frames of expected counts, and written as files.

    poisson    the number of events of a pixel in a frame is drawn from the Poisson distribution with its expected count
    threshold  it is the expected count, rounded

An event's time is uniform within its frame; all frames have the same duration. Cut by time into T frames again, a
recording gives the counts that it was drawn from, if its first and last frame have events. All random numbers follow
from the seed of the film.
"""

import math
import re
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from ..data import Events, write_events
from ..errors import UserError
from ..nn import ImageDraws
from ..process import Process
from ..progress import track
from .generate import BATCH
from .sample_files import claim, facts_of

RECORDINGS, RECORDING = ".recordings.json", re.compile(r"\d{6,}\.(bin|npz)")  # see `sample_files.claim`
WAYS = ("poisson", "threshold")
MILLISECONDS = 300  # of a recording of N-MNIST
LARGEST_MEAN = 500.0  # events that are drawn at once: exp(-mean) must not be 0


def write_recordings(
    model,
    seeds: Sequence[int],
    folder: Path,
    process: Process,
    label: int | None = None,
    way: str = "poisson",
    ending: str = "bin",
    milliseconds: int = MILLISECONDS,
) -> None:
    """Writes the sample of every seed as a recording, folder/CLASS/SEED.bin of a conditional model, else
    folder/SEED.bin: a data set like any other. Each process makes its share.

    label: the class of all of them. ending: a format of `data.write_events`. UserError for a sample without events,
    or if recordings of another model would stay in the folder.
    """
    names = [*model.provenance.get("data", {}).get("classes", ())]
    names += map(str, range(len(names), model.classes))
    facts = facts_of(model) | {"way": way, "milliseconds": milliseconds, "ending": ending}
    there = (file for one in ("*", "*/*") for file in folder.glob(one) if RECORDING.fullmatch(file.name))
    below = {seed: names[seed % model.classes if label is None else label] if model.classes else "" for seed in seeds}
    places = {seed: folder / below[seed] / f"{seed:06d}.{ending}" for seed in seeds}
    process.share(claim(folder, RECORDINGS, facts, there, {*places.values()}) if process.first else None)
    mine = list(seeds)[process.rank :: process.world]
    batches = [mine[i : i + BATCH] for i in range(0, len(mine), BATCH)]
    for batch in track(batches, f"recordings, {BATCH} at a time" if process.first else None):
        frames = model.sample(batch, **({} if label is None else {"classes": label})).cpu()
        for seed, counts in zip(batch, drawn_counts(frames, batch, way), strict=True):
            write_events(places[seed], draw_times(counts, seed, 1000 * milliseconds))


def made_by_a_generator(file: Path) -> bool:
    """Whether a recording lies where `write_recordings` wrote it."""
    return any((folder / RECORDINGS).is_file() for folder in file.resolve().parents[:2])


def drawn_counts(frames: Tensor, seeds: Sequence[int], way: str = "poisson") -> Tensor:
    """Numbers of events (N, T, 2, H, W), int64, for expected counts of the same shape; seed i draws those of film i."""
    if way == "threshold":
        return frames.round().long()
    mean, draws = frames.double(), ImageDraws(seeds, frames.device).stream("events")
    counts = _poisson(mean.clamp(max=LARGEST_MEAN), draws.uniform(*frames.shape[1:]))
    for _ in range(math.ceil(float(mean.max()) / LARGEST_MEAN) - 1):  # a sum of Poisson numbers is one
        mean = (mean - LARGEST_MEAN).clamp(min=0)
        counts += _poisson(mean.clamp(max=LARGEST_MEAN), draws.uniform(*frames.shape[1:]))
    return counts


def _poisson(mean: Tensor, u: Tensor) -> Tensor:
    """The smallest k with P(X <= k) > u, where X has the Poisson distribution with this mean; u in [0, 1)."""
    chance, k = (-mean).exp(), torch.zeros_like(mean, dtype=torch.int64)
    total = chance.clone()
    while (more := u >= total).any():
        k += more
        chance = chance * mean / k.clamp(min=1)
        total = torch.where(more, total + chance, total)
    return k


def draw_times(counts: Tensor, seed: int, duration: int = 1000 * MILLISECONDS) -> Events:
    """A recording with so many events, counts (T, 2, H, W), in `duration` microseconds. UserError if there are none."""
    places, steps = counts.nonzero(), len(counts)
    if not len(places):
        raise UserError(f"seed {seed}: a film without events, of which no recording can be made")
    frame, p, y, x = places.repeat_interleave(counts[tuple(places.T)], 0).T
    length = duration // steps
    u = ImageDraws([seed], "cpu").stream("event times").uniform(len(frame))[0]
    t = frame * length + (u.double() * length).long()
    order = t.argsort(stable=True)
    t, frame, p, y, x = (each[order] for each in (t, frame, p, y, x))
    if frame[0] == 0:
        t[0] = 0
    if frame[-1] == steps - 1:
        t[-1] = steps * length  # so that a T-th of the time from first to last event is a frame
    arrays = {"t": t, "x": x.to(torch.int16), "y": y.to(torch.int16), "p": p.to(torch.uint8)}
    return Events(**{name: array.numpy() for name, array in arrays.items()})
