"""From a request to its record: which metrics apply, and who computes them."""

from ..errors import UserError
from . import classification, scores
from .metric_names import CLASS_MEASURES, METRICS
from .request import Request


def score(model_or_images, request: Request) -> dict:
    """The record of a request on a model, on images `(N, C, H, W)`, or on the path of images."""
    names = _metrics(model_or_images, request)
    request.refuse_unused(names)
    of_classes = [name for name in names if METRICS[name].of == "classes"]
    of_images = [name for name in names if METRICS[name].of != "classes"]
    record: dict = {"scores": {}, "protocol": {}, "source": {}, "notes": []}
    if of_classes:
        if not of_images:
            _check_seed(request)
        try:
            record = classification.score(model_or_images, of_classes, request)
        except UserError as error:
            if not (request.everything and of_images):
                raise
            record["notes"].append(f"{', '.join(of_classes)} left out: {error}")
    if of_images:
        record = _joined(record, scores.score(model_or_images, of_images, request))
    scored = [name for name in names if name in record["scores"]]
    return record | {part: {name: record[part][name] for name in scored} for part in ("scores", "protocol")}


def _metrics(model_or_images, request: Request) -> list[str]:
    """The metrics that are asked for, by default fad and accuracy; UserError for one that does not apply."""
    images = not hasattr(model_or_images, "provenance") or hasattr(model_or_images, "sample")
    classes = classification.has_head(model_or_images)
    applicable = [name for name in METRICS if (classes if METRICS[name].of == "classes" else images)]
    if request.everything:
        return applicable
    if useless := [name for name in request.metrics if name not in applicable]:
        raise UserError(f"{', '.join(useless)}: {_why_not(useless[0], model_or_images)}")
    return list(request.metrics) or [name for name in ("fad", "accuracy") if name in applicable]


def _why_not(name: str, model_or_images) -> str:
    if METRICS[name].of != "classes":
        return f"a classifier makes no images; it takes {', '.join(CLASS_MEASURES)}"
    if hasattr(model_or_images, "sample"):
        return "this generator names no classes; one trained with model.head does"
    return "images name no classes; a classifier is wanted"


def _check_seed(request: Request) -> None:
    if request.seed and request.n is None:
        unused, n = request.spell("seed"), request.spell("n")
        raise UserError(
            f"{unused} {request.seed} draws nothing where all samples are scored: give {n}, too, or leave it out"
        )


def _joined(a: dict, b: dict) -> dict:
    """One record from two of the same model."""
    both = {name: a[name] | b[name] for name in ("scores", "protocol", "source")}
    return a | b | both | {"notes": [*a["notes"], *b["notes"]]}
