"""Preparing a reference: networks, statistics and features of a data set, and the floor of every score."""

from dataclasses import replace
from pathlib import Path

from torch import Tensor

from ..errors import UserError
from ..metrics import Part, identity, write_reference
from ..process import this_process
from .feasible import enough_images
from .floors import floor_name, keep_floor
from .measures import measure
from .metric_names import IMAGES, METRICS, WITHOUT_FLOOR, by_measure
from .references import Reference, References
from .request import Request
from .results import only_finite
from .subjects import few_images


def prepare(request: Request, out: str | Path | None = None) -> dict:
    """Compute and cache all of it. `api.reference` explains the record that is returned, and `out`."""
    if out is not None and Path(out).suffix != ".npz":
        raise UserError(f"{out}: a reference is an .npz; give it that ending")
    request, notes = replace(request, n=request.n or IMAGES), []
    references = References(request)
    real, networks = references.real.reference, references.networks
    if len(real) < 2:
        raise UserError(
            f"{real.name}: {len(real)} image in split {request.split}; at least 2 are needed to compare with"
        )
    training = references.real.training.images
    images = training[request.draw(len(training))]
    notes += few_images(len(training), request)
    record = dict(data=real.name, split=request.split, n_reference=len(real), fingerprint=real.fingerprint)
    record |= _network_facts("autoencoder", networks.autoencoder) | dict(statistics={}, floor={})
    of_samples = {name: metric for name, metric in METRICS.items() if metric.of == "samples" and metric.network}
    names = [name for name, metric in of_samples.items() if metric.measure not in WITHOUT_FLOOR]
    by_network = references.ready(names, notes)
    if "classifier" in by_network:
        record |= _network_facts("classifier", networks.classifier)
        record["classifier_accuracy"] = by_network["classifier"].accuracy
    if request.held_out:
        scorable = enough_images(names, len(images), len(real), request, notes)
    else:
        scorable = []
        notes.append(f"no floors: the split {request.split} has training images, which would be scored against it")
    floors: dict[str, float] = {}
    for network, reference in by_network.items():
        if fid := by_measure(names, network).get("fid"):
            record["statistics"][fid] = str(reference.statistics_file[1])
        record["floor"] |= _floors(images, by_measure(scorable, network), reference, floors, notes)
    if out is not None:
        _write(out, references, by_network, floors)
        record["file"] = str(out)
    return record | dict(notes=list(dict.fromkeys(notes)))


def _network_facts(name: str, network_and_file: tuple) -> dict:
    network, file = network_and_file
    return {name: str(file), f"{name}_hash": network.hash}


def _floors(
    images: Tensor, names: dict[str, str], reference: Reference, floors: dict[str, float], notes: list[str]
) -> dict[str, dict]:
    """Score, n and spread of real training images, by metric; kept in the cache, and in `floors` by their names there.

    names: of the metrics, by their measures
    """
    results = measure(images, list(names), reference, notes) if names else {}
    told = {}
    for measured, result in only_finite(results, notes).items():
        keep_floor(reference, measured, result)
        floors[floor_name(reference, measured, result)] = result.value
        spread = {} if result.spread is None else {"spread": result.spread}
        told[names[measured]] = dict(score=result.value, n=result.facts["n"]) | spread
    return told


def _write(out: str | Path, references: References, by_network: dict[str, Reference], floors: dict[str, float]) -> None:
    """The first process writes one file with all that scores compare with, and the weights of our own networks."""
    if not this_process(references.request.device).first:
        return
    real, parts, weights = references.real.reference, {}, {}
    for network, reference in by_network.items():
        if network != "torchvision":  # its IS compares with nothing
            features = None if network == "autoencoder-official" else reference.features
            parts[network] = Part(identity(reference.extractor), reference.statistics, features)
        if network in ("autoencoder", "classifier"):
            weights[network] = getattr(references.networks, network)[0].state_dict()
    facts = dict(data=real.name, split=real.split, n=len(real), fingerprint=real.fingerprint, floors=floors)
    facts |= dict(size=real.images.shape[-1], channels=real.images.shape[1], classes=real.classes)
    if "classifier" in by_network:
        facts["classifier_accuracy"] = by_network["classifier"].accuracy
    write_reference(out, facts, parts, weights)
