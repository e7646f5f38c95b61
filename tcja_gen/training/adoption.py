"""Starting from another run (`init_from`): which weights a model takes over, and what the two must have in common.

Weights alone do not tell what they mean: another neuron, time constant, readout or pooling has weights of the same
shapes. So the parts that are taken over are compared by their settings, and every difference is named. A decoder or a
prior is fitted to the images that the autoencoder before it was trained on.
"""

from collections.abc import Callable, Iterable
from dataclasses import replace

from torch import nn

from ..errors import UserError
from ..models import FITS, store
from ..models.fit import Fit
from ..nn import PRESETS, Neuron
from ..nn.notation import structure
from .config import Config


def adopt(model: nn.Module, config: Config, fingerprint: str = "") -> tuple[dict, str]:
    """Gives `model` weights of the run, checkpoint or pretrained model `config.init_from`. Returns the provenance of
    those, and a line that tells what was taken over, what is new and what was left.

    fingerprint: of the data that the model will be trained on. UserError that names all that does not fit.
    """
    other, source, fit = store.load(config.init_from), config.init_from, FITS[config.fit]
    whole = config.init == "all" or (fit.starts_from_a_run and config.init == "auto")
    _check_kind(source, other, model, config, whole)
    if fit.starts_from_a_run:
        _check_data(source, other, fingerprint)
    theirs, own = (_facts(m, whole) for m in (other, model))
    _check_alike(source, theirs, own, ("neuron", "time_steps", "normalisation", "latent", "readout"))
    found, wanted = other.state_dict(), model.state_dict()
    takes = _taken_over(config, fit, whole)
    adopted = [name for name in sorted({*found, *wanted}) if takes(name)]
    for name in adopted:
        a, b = (tuple(state[name].shape) if name in state else None for state in (wanted, found))
        if a != b:
            raise UserError(f"{source}: it does not fit this model: {name} is {b}, wanted {a}")
    _check_alike(source, theirs, own, ("encoder", "decoder"))  # strides and pooling, which no shape tells
    model.load_state_dict({**wanted, **{name: found[name] for name in adopted}})
    return other.provenance, _line(source, adopted, {*wanted} - {*adopted}, {*found} - {*adopted})


def stages(fit: Fit, model: nn.Module, before: list[str] | None, init: str) -> list[str] | None:
    """Names of the fits that made the weights of a run, one after the other; `before`: those of the run it starts from.
    None if that is not known, since older checkpoints do not tell."""
    trained = fit.name if not fit.encoder or model.latent.settings.divergence_weight > 0 else "autoencoder"
    if fit.starts_from_a_run or init == "all":
        return None if before is None else [*before, trained]
    return [trained]


def _taken_over(config: Config, fit: Fit, whole: bool) -> Callable[[str], bool]:
    """Whether a weight of a name is taken over."""
    if not whole:
        return lambda name: name.startswith("encoder.")
    return (lambda name: True) if config.init == "all" else fit.takes_over


def _line(source: str, adopted: Iterable[str], new: Iterable[str], left: Iterable[str]) -> str:
    told = {"takes over": adopted, "new": new, "left": left}
    parts = [f"{title} {', '.join(_parts(names))}" for title, names in told.items() if names]
    return f"from {source}: {'; '.join(parts)}"


def _parts(names: Iterable[str]) -> list[str]:
    """The parts of a model that weights belong to."""
    return sorted({".".join(name.split(".")[: 2 if name.startswith("latent.") else 1]) for name in names})


def _facts(model: nn.Module, whole: bool) -> dict:
    """What the parts are that are taken over, by the names of settings."""
    common = model.encoder.build
    facts = {"neuron": _name(common.neuron), "time_steps": model.time_steps, "encoder": model.encoder.notation}
    facts["normalisation"] = "bn" if common.plain else common.normalisation
    if whole and model.kind == "generator":
        facts |= {"decoder": model.decoder.notation, "readout": model.decoder.readout.kind}
        facts["latent"] = type(model.latent).__name__
    return facts


def _name(neuron: Neuron | None) -> str:
    """A neuron by its preset and surrogate, or all of its settings."""
    if neuron is None:
        return "relu"
    if not isinstance(neuron, Neuron):
        return str(neuron)
    for name, preset in PRESETS.items():
        if isinstance(neuron, Neuron) and replace(preset, surrogate=neuron.surrogate, alpha=neuron.alpha) == neuron:
            return name if preset == neuron else f"{name} with surrogate {neuron.surrogate}"
    return str(neuron)


def _check_kind(source: str, other: nn.Module, model: nn.Module, config: Config, whole: bool) -> None:
    if config.fit in ("decoder", "prior") and config.init == "encoder":
        raise UserError(f"init = 'encoder': fit = {config.fit!r} needs all of the run that it starts from")
    if whole and other.kind != model.kind:
        raise UserError(f"{source}: a {other.kind}, and this is a {model.kind}: --init encoder takes its encoder alone")


def _check_data(source: str, other: nn.Module, fingerprint: str) -> None:
    facts = other.provenance.get("data", {})
    if fingerprint and facts.get("fingerprint", fingerprint) != fingerprint:
        raise UserError(
            f"{source}: trained on other images ({facts.get('name')}) than those that it is to be fitted to"
        )


def _check_alike(source: str, theirs: dict, own: dict, names: tuple[str, ...]) -> None:
    unlike = [name for name in names if _meaning(name, theirs.get(name)) != _meaning(name, own.get(name))]
    if unlike:
        told = "; ".join(f"{name} is {theirs.get(name)!r} there, {own.get(name)!r} here" for name in unlike)
        raise UserError(f"{source}: it does not fit this model: {told}")


def _meaning(name: str, value):
    return structure(value) if name in ("encoder", "decoder") and value else value
