"""Starting from another run (`init_from`): which weights a model takes over, and which settings must agree.

The shapes of weights do not show their meaning: with another neuron, time constant, readout or pooling they are the
same. So the settings of the parts that are taken over are compared, and an error names every difference. A decoder or a
prior that is fitted alone needs the same images as the autoencoder before it.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace

from torch import nn

from ..errors import UserError
from ..models import FITS, store
from ..models.fit import PRIOR, Fit
from ..nn import PRESETS, CodeLatent, Neuron
from ..nn.notation import structure
from .config import Config


def adopt(model: nn.Module, config: Config, fingerprint: str = "") -> tuple[dict, str]:
    """Copies weights from the run, checkpoint or pretrained model `config.init_from` into `model`.

    Returns the provenance of these weights, and a line that says which parts were taken over, which are new and which
    were left out. fingerprint: of the data that the model will be trained on. UserError, which names every difference,
    if the weights do not fit.
    """
    other, source, fit = store.load(config.init_from), config.init_from, FITS[config.fit]
    whole = config.init == "all" or (fit.starts_from_a_run and config.init == "auto")
    _check_kind(source, other, model, config, whole)
    if fit.starts_from_a_run:
        _check_data(source, other, fingerprint)
    takes = _taken_over(config, fit, whole)
    theirs, own = (_facts(m, whole, takes(PRIOR)) for m in (other, model))
    _check_alike(source, theirs, own, [name for name in {**theirs, **own} if name not in ("encoder", "decoder")])
    trained, new = other.state_dict(), model.state_dict()
    adopted = [name for name in sorted({*trained, *new}) if takes(name)]
    for name in adopted:
        a, b = (tuple(state[name].shape) if name in state else None for state in (new, trained))
        if a != b:
            raise UserError(f"{source}: it does not fit this model: {name} is {b}, wanted {a}")
    _check_alike(source, theirs, own, ("encoder", "decoder"))  # strides and pooling, which shapes do not show
    model.load_state_dict({**new, **{name: trained[name] for name in adopted}})
    return other.provenance, _line(source, adopted, {*new} - {*adopted}, {*trained} - {*adopted})


def stages(fit: Fit, model: nn.Module, before: list[str] | None, init: str) -> list[str] | None:
    """Names of the fits that trained the weights of a run, in order. before: those of the run that it starts from.
    None if they are not known, as for older checkpoints."""
    trained = fit.name if not fit.encoder or model.latent.settings.divergence_weight > 0 else "autoencoder"
    if fit.starts_from_a_run or init == "all":
        return None if before is None else [*before, trained]
    return [trained]


def _taken_over(config: Config, fit: Fit, whole: bool) -> Callable[[str], bool]:
    """A function that says whether the weight of a name is taken over."""
    if not whole:
        return lambda name: name.startswith("encoder.")
    return (lambda name: True) if config.init == "all" else fit.takes_over


def _line(source: str, adopted: Iterable[str], new: Iterable[str], left: Iterable[str]) -> str:
    groups = {"takes over": adopted, "new": new, "left": left}
    parts = [f"{title} {', '.join(_parts(names))}" for title, names in groups.items() if names]
    return f"from {source}: {'; '.join(parts)}"


def _parts(names: Iterable[str]) -> list[str]:
    """Names of the parts of a model that weights belong to."""
    return sorted({".".join(name.split(".")[: 2 if name.startswith("latent.") else 1]) for name in names})


def _facts(model: nn.Module, whole: bool, prior: bool) -> dict:
    """The settings of the parts that are taken over, by name. whole: all parts, not only the encoder. prior: this
    one, too."""
    common = model.encoder.build
    facts = {"neuron": _name(common.neuron), "time_steps": model.time_steps, "encoder": model.encoder.notation}
    facts["normalisation"] = "bn" if common.plain else common.normalisation
    if whole and model.kind == "generator":
        facts |= {"decoder": model.decoder.notation, "readout": model.decoder.readout.kind}
        facts["latent"] = type(model.latent).__name__
        facts["full_count"] = model.full_count
        if prior and isinstance(model.latent, CodeLatent):
            facts |= {name: getattr(model.latent.settings, name) for name in ("order", "random_masks", "class_dropout")}
    return facts


def _name(neuron: Neuron | None) -> str:
    """A neuron in words: its preset and surrogate if it has one, else all of its settings."""
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
        raise UserError(f"init = 'encoder': fit = {config.fit!r} needs all weights of the run that it starts from")
    if whole and other.kind != model.kind:
        advice = "" if FITS[config.fit].starts_from_a_run else ": --init encoder takes only its encoder"
        raise UserError(f"{source}: a {other.kind}, and this is a {model.kind}{advice}")


def _check_data(source: str, other: nn.Module, fingerprint: str) -> None:
    facts = other.provenance.get("data", {})
    if fingerprint and facts.get("fingerprint", fingerprint) != fingerprint:
        raise UserError(f"{source}: trained on other images ({facts.get('name')}) than those of this training")


def _check_alike(source: str, theirs: dict, own: dict, names: Sequence[str]) -> None:
    unlike = [name for name in names if _meaning(name, theirs.get(name)) != _meaning(name, own.get(name))]
    if unlike:
        differences = "; ".join(f"{name} is {theirs.get(name)!r} there, {own.get(name)!r} here" for name in unlike)
        raise UserError(f"{source}: it does not fit this model: {differences}")


def _meaning(name: str, value):
    """The value of a setting as it is compared: notations without kernel sizes, which shapes show."""
    return structure(value) if name in ("encoder", "decoder") and value else value
