"""Scores of images: those of a generator, of a tensor, or of a folder.

One set of images serves every metric, and one pass every metric of a network. Scores by a network of our own compare
only with scores by the same network; FSVAE's published weights, and Inception's, give the figures of the literature.
Networks of our own look at 32 pixels a side; at images of 48 pixels and more they look at their own size, under another
name (the autoencoder at the next power of 2, up to 128).

Under `torch.distributed` image i is made by process i mod world. Every process then holds all images and computes the
same record, so that none waits while another one works.
"""

from collections.abc import Sequence
from dataclasses import replace

from ..errors import UserError
from .feasible import ASKED, check_metrics, feasible
from .floors import known_floor
from .generate import quantise
from .measures import measure_features, measure_pixels
from .metric_names import IMAGES, METRICS, RECOGNITION
from .protocol import circumstances
from .recognition import recognised
from .references import Reference, References
from .request import Request
from .results import Result, only_finite, over_sets
from .subjects import Subject


def score(model_or_images, names: Sequence[str], request: Request) -> dict:
    """The record of metrics of samples and of reconstructions."""
    request, notes = replace(request, n=request.n or IMAGES), []
    model = model_or_images if hasattr(model_or_images, "sample") else None
    check_metrics(model, names, request)
    subject = Subject.of(model_or_images, request, notes)
    shape = dict(size=request.size or subject.size, channels=request.channels or subject.channels)
    references = References(replace(request, **shape), subject.frames)
    names = feasible(names, subject, references, notes)
    by_network = references.ready(names, notes)  # before images are made: a mistake shows at once
    names = [name for name in names if METRICS[name].network in {None, *by_network}]
    names = _with_known_classes(names, subject, references, by_network, notes)
    sets = request.repeats or 1
    seeds = (subject.seed + i * subject.n for i in range(sets))
    results = over_sets([_results(replace(subject, seed=seed), names, references, by_network, notes) for seed in seeds])
    results = only_finite(results, notes)
    results = {name: results[name] for name in names if name in results}
    return dict(
        scores={name: result.value for name, result in results.items()},
        floor=_floors(results, by_network) if request.held_out else {},
        spread={name: result.spread for name, result in results.items() if result.spread is not None},
        repeats={name: result.sets for name, result in results.items() if result.sets},
        protocol=_protocols(results, subject, references, by_network, sets),
        source=subject.source,
        notes=list(dict.fromkeys([*notes, *_told(by_network)])),
        **_details(results, subject),
    )


def _with_known_classes(
    names: list[str], subject: Subject, references: References, by_network: dict[str, Reference], notes: list[str]
) -> list[str]:
    """The metrics without recognition by a classifier of other classes than the samples'; UserError if it was asked for
    by name."""
    if ASKED not in names:
        return names
    try:
        subject.labels_as(by_network["classifier"].class_names, notes)
    except UserError as error:
        if not references.request.everything:
            raise
        notes.append(f"{ASKED} left out: {error}")
        return [name for name in names if name != ASKED]
    return names


def _details(results: dict[str, Result], subject: Subject) -> dict:
    """What results tell beside their numbers, by part of the record; of several networks the first's."""
    details: dict = {}
    for result in results.values():
        details = (result.details or {}) | details
    if subject.numbers is not None:  # of the images that are scored, to those of all
        for row in details.get("nearest", ()):
            row["image"] = int(subject.numbers[row["image"]])
    return details


def _told(by_network: dict[str, Reference]) -> list[str]:
    """How good the classifier is that scores."""
    accuracy = by_network["classifier"].accuracy if "classifier" in by_network else None
    return [] if accuracy is None else [f"the classifier that scores names {accuracy:.2%} of the real images right"]


def _results(
    subject: Subject, names: Sequence[str], references: References, by_network: dict[str, Reference], notes: list[str]
) -> dict[str, Result]:
    """Results by metric. Samples and reconstructions are made once, and only if a metric needs them."""
    to_recognise = [name for name in names if METRICS[name].measure in RECOGNITION]
    of_samples = [name for name in names if METRICS[name].of == "samples" and name not in to_recognise]
    of_reconstructions = [name for name in names if METRICS[name].of == "reconstructions"]
    results = {}
    if to_recognise:
        results |= recognised(subject, to_recognise, references.request, notes)
    if of_samples:
        labels = None
        if ASKED in of_samples:
            labels = subject.labels_as(by_network["classifier"].class_names, notes)
        results |= measure_features(subject.samples(), of_samples, by_network, notes, labels)
    if of_reconstructions:
        real = references.real.reference
        images = subject.reconstructions(real)
        results |= measure_pixels(images, real, of_reconstructions)
        results |= measure_features(quantise(images), of_reconstructions, by_network, notes)
    return results


def _floors(results: dict[str, Result], by_network: dict[str, Reference]) -> dict[str, float]:
    """The floors of the metrics of samples, where `prepare` has computed one by the same protocol.

    Reconstructions of the reference's own images have no such floor: perfect ones score 0.
    """
    of_samples = {name: result for name, result in results.items() if METRICS[name].of == "samples"}
    of_samples = {name: result for name, result in of_samples.items() if METRICS[name].network}
    floors = {
        name: known_floor(by_network[METRICS[name].network], METRICS[name].measure, result)
        for name, result in of_samples.items()
    }
    return {name: floor for name, floor in floors.items() if floor is not None}


def _protocols(
    results: dict[str, Result], subject: Subject, references: References, by_network: dict[str, Reference], sets: int
) -> dict[str, dict]:
    """The protocol of each result: how the images were made, how they were measured, against which real images."""
    shared = references.facts([*results]) | {"repeats": sets if subject.model else None} | circumstances()
    protocols = {}
    for name, result in results.items():
        rebuilt = METRICS[name].of == "reconstructions"
        made = min(subject.n, len(references.real.reference)) if rebuilt else subject.n
        protocols[name] = subject.facts(made, sets) | result.facts | shared
        if METRICS[name].network == "classifier":
            protocols[name]["classifier_accuracy"] = by_network["classifier"].accuracy
    return protocols
