"""Which metrics can be computed. One that was asked for by name and cannot be is refused, in a line that tells why; if
all were asked for, it is left out with a note.
"""

from collections.abc import Sequence

from ..errors import UserError
from .metric_names import METRICS, RECOGNITION
from .recognition import check_recogniser
from .references import References
from .request import Request
from .subjects import Subject

ASKED = "recognition-classifier"  # needs to know which class a sample was made for


def check_metrics(model, names: Sequence[str], request: Request) -> None:
    """UserError for what can be told before any file is read. model: None where images are scored."""
    if request.repeats is not None and model is None:
        told = f"{request.spell('repeats')} {request.repeats}: images are one set"
        raise UserError(f"{told}; only a model makes others by other seeds")
    if getattr(model, "full_count", 0) and (request.size or request.channels or request.reference):
        given = [request.spell(name) for name in ("size", "channels", "reference") if getattr(request, name)]
        raise UserError(f"{given[0]}: a generator of event frames is scored at its own size, against recordings")
    if shape := _other_shape(model, request):
        raise UserError(shape)
    if request.everything:
        return
    if reason := _unrecognised(model, names, request):
        raise UserError(reason)
    if model is None and (rebuilt := [name for name in names if _of_reconstructions(name)]):
        raise UserError(f"{', '.join(rebuilt)}: only a model reconstructs; images take fad or fad-official")
    if not _prior_is_trained(model) and not all(map(_of_reconstructions, names)):
        model.check_prior()
    _check_number(names, request.n, f"{request.spell('n')} is {request.n}", request)


def _other_shape(model, request: Request) -> str:
    """Why a model is not scored at the size and channels that are asked for, in a line; "" if it is."""
    own = {"size": getattr(model, "image_size", None), "channels": getattr(model, "image_channels", None)}
    asked = {name: getattr(request, name) for name in own}
    if unlike := [name for name, value in own.items() if value and asked[name] not in (None, value)]:
        told = "; these resize images of a folder or zip, a model is scored as it is"
        return f"{request.spell(unlike[0])} {asked[unlike[0]]}: the model's own is {own[unlike[0]]}{told}"
    return ""


def feasible(names: Sequence[str], subject: Subject, references: References, notes: list[str]) -> list[str]:
    """The metrics that can be computed: all that are asked for by name, or UserError; of "all" those that can be."""
    request = references.request
    if request.everything:
        names = [name for name in _of_model(names, subject.model, notes) if name != ASKED or subject.labels is not None]
        if reason := _unrecognised(subject.model, names, request):
            notes += [f"left out: {reason}"] * bool(subject.model)
            names = [name for name in names if METRICS[name].measure not in RECOGNITION]
        if not subject.frames:
            names = [name for name in names if name != "recognition-events"]
        names = enough_images(names, subject.n, references.n, request, notes)
        return _referenced(names, references, notes)
    _check_number(names, subject.n, f"only {subject.n} images to score", request)
    _check_real(names, references)
    if any(map(_of_reconstructions, names)) and (reason := references.other_images):
        raise UserError(reason)
    if ASKED in names and subject.labels is None:
        wanted = "a conditional model, or images with a folder for each class"
        raise UserError(f"{ASKED} needs to know which class a sample was made for: {wanted}")
    return list(names)


def _unrecognised(model, names: Sequence[str], request: Request) -> str:
    """Why recognition by a classifier of one's own cannot be computed, in a line; "" if it can be, or is not asked
    for."""
    wanted = [name for name in names if METRICS[name].measure in RECOGNITION]
    if not wanted:
        return ""
    if not request.everything and not getattr(model, "full_count", 0) and "recognition-events" in wanted:
        return "recognition-events is for generators of event frames; take recognition"
    reason = check_recogniser(model, request)
    return f"{', '.join(wanted)}: {reason}" if reason else ""


def _of_model(names: Sequence[str], model, notes: list[str]) -> list[str]:
    """Without a model no metric of reconstructions; without a trained prior no other one."""
    if model is None:
        return [name for name in names if not _of_reconstructions(name)]
    if _prior_is_trained(model):
        return list(names)
    notes.append("scores of samples are left out: the model's prior was never trained")
    return [name for name in names if _of_reconstructions(name)]


def enough_images(names: Sequence[str], n: int, n_real: int, request: Request, notes: list[str]) -> list[str]:
    """The metrics for which n images, and n_real to compare with, suffice; a note names each of the others."""
    found = f"{n} to score" if n <= n_real else f"{n_real} to compare with"
    short = {name: _fewest(name, request) for name in names if min(n, n_real) < _fewest(name, request)}
    notes += [f"{name} is left out: it needs at least {fewest} images, {found}" for name, fewest in short.items()]
    return [name for name in names if name not in short]


def _referenced(names: Sequence[str], references: References, notes: list[str]) -> list[str]:
    """The metrics that have everything to compare with; a note names the others, and what is missing."""
    missing = {name: _missing(name, references) for name in names}
    for reason in dict.fromkeys(filter(None, missing.values())):
        notes.append(f"{', '.join(name for name in names if missing[name] == reason)} left out: {reason}")
    return [name for name in names if missing[name] is None]


def _missing(name: str, references: References) -> str | None:
    metric = METRICS[name]
    if metric.of == "reconstructions" and references.file:
        try:
            if reason := references.other_images:
                return reason
        except UserError as error:
            return str(error)
    return references.missing(metric.network, metric.measure) if metric.network else None


def _check_number(names: Sequence[str], n: int, found: str, request: Request) -> None:
    if short := [name for name in names if n < _fewest(name, request)]:
        needed = max(_fewest(name, request) for name in short)
        raise UserError(f"{found}; {', '.join(short)} needs at least {needed} images")


def _check_real(names: Sequence[str], references: References) -> None:
    if short := [name for name in names if METRICS[name].fewest_real > references.n]:
        needed = max(METRICS[name].fewest_real for name in short)
        raise UserError(f"{', '.join(short)} needs at least {needed} images to compare with, found {references.n}")


def _fewest(name: str, request: Request) -> int:
    return METRICS[name].fewest(request.is_splits)


def _of_reconstructions(name: str) -> bool:
    return METRICS[name].of == "reconstructions"


def _prior_is_trained(model) -> bool:
    return getattr(model, "prior_is_trained", True)
