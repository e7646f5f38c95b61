"""What a run takes from another one that it starts from (`init_from`), and what the two must have in common.

Weights alone do not tell what they mean: another neuron, time constant, readout or pooling has weights of the same
shapes. So the parts that are adopted are compared by what they are, each difference is named, and the decoder or the
prior of a trained autoencoder is fitted to the data that the autoencoder was trained on.
"""

from dataclasses import replace

from torch import nn

from ..config import Config
from ..errors import UserError
from ..models import store
from ..nn import PRESETS, Neuron
from ..nn.notation import structure


def adopt(model: nn.Module, config: Config, fingerprint: str = "") -> dict:
    """Gives `model` the encoder's weights of the run or checkpoint `config.init_from`, which may be of either task; to
    fit a decoder, all weights; to fit a prior, all but that prior's. Returns that run's provenance.

    fingerprint: of the data that the model will be trained on. UserError that names all that does not fit.
    """
    other, source = store.load(config.init_from), config.init_from
    if config.fit in ("decoder", "prior"):
        _check_data(source, other, fingerprint)
    theirs, own = (_facts(m, config.fit) for m in (other, model))
    _check_alike(source, theirs, own, ("neuron", "time_steps", "normalisation", "latent_kind", "readout"))
    found, wanted = other.state_dict(), model.state_dict()
    adopted = [name for name in sorted({*found, *wanted}) if is_adopted(name, config.fit)]
    for name in adopted:
        a, b = (tuple(state[name].shape) if name in state else None for state in (wanted, found))
        if a != b:
            raise UserError(f"{source}: it does not fit this model: {name} is {b}, wanted {a}")
    _check_alike(source, theirs, own, ("encoder", "decoder"))  # strides and pooling, which no shape tells
    model.load_state_dict({**wanted, **{name: found[name] for name in adopted}})
    return other.provenance


def is_adopted(name: str, fit: str) -> bool:
    """Whether a weight is one that `adopt` takes from the other model."""
    if fit == "prior":
        return not name.startswith("latent.prior.")
    return fit == "decoder" or name.startswith("encoder.")


def stages(config: Config, before: list[str] | None) -> list[str] | None:
    """What was fitted, one after the other, to make the weights of this run; `before`: of the run that it starts from.
    None if that is not known, since older checkpoints do not tell."""
    if config.fit in ("decoder", "prior"):
        return None if before is None else [*before, config.fit]
    trained = config.fit == "all" and config.model.divergence_weight > 0
    return ["all" if trained else "autoencoder"]


def _facts(model: nn.Module, fit: str) -> dict:
    """What an adopted part is, by the names of the settings, beside its weights."""
    build = model.encoder.build
    facts = {"neuron": _name(build.neuron), "time_steps": model.time_steps, "encoder": model.encoder.notation}
    facts["normalisation"] = "bn" if build.plain else build.normalisation
    if fit in ("decoder", "prior") and model.kind == "generator":
        facts |= {"decoder": model.decoder.notation, "readout": model.decoder.readout.kind}
        facts["latent_kind"] = type(model.latent).__name__
    return facts


def _name(neuron: Neuron | None) -> str:
    """A neuron by its preset and surrogate, or all of its settings."""
    if neuron is None:
        return "relu"
    if not isinstance(neuron, Neuron):
        return str(neuron)
    for name, preset in PRESETS.items():
        if replace(preset, surrogate=neuron.surrogate, alpha=neuron.alpha) == neuron:
            return name if preset == neuron else f"{name} with surrogate {neuron.surrogate}"
    return str(neuron)


def _check_data(source: str, other: nn.Module, fingerprint: str) -> None:
    if other.kind != "generator":
        raise UserError(f"{source}: a classifier; a decoder or prior is fitted to the codes of a generator")
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
