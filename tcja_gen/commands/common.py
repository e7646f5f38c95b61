"""What commands share."""

from typing import Annotated

from tyro.conf import Positional, arg

Run = Annotated[Positional[str], arg(metavar="RUN")]
Data = Annotated[Positional[str], arg(metavar="DATA")]
Number = Annotated[int, arg(aliases=["--number"])]  # torchrun mistakes --n for an option of its own


def start(device: str = "auto"):
    """Place of this process, and its device."""
    from .. import process

    return process.start(device)


def sample_by(model, rounds: int | None, temperature: float | None) -> None:
    """Makes `model` draw its samples as the flags --rounds and --temperature have it, if they are given; ValueError if
    it cannot."""
    if rounds is temperature is None:
        return
    if not hasattr(model, "sample_by"):
        raise ValueError("--rounds and --temperature are of a generator's prior, and there is none to sample from")
    model.sample_by(rounds, temperature)


def own_data(model) -> str:
    """What the model was trained on: a name, or the path of a folder or zip."""
    facts = model.provenance["data"]
    return facts.get("source", facts["name"])
