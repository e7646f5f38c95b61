"""A model in a few lines, for a notebook or a terminal; `print(model.encoder)` lists the layers of a part."""

from torch import nn

PARTS = ("encoder", "latent", "decoder", "head")


def overview(model: nn.Module) -> str:
    """Size, data and parts of a generator or a classifier, each part with its notation and number of parameters."""
    height, width = model.image_size, model.image_width
    run = model.provenance
    data = f", trained on {run['data']['name']}, step {run['step']:,}" if {"data", "step"} <= {*run} else ""
    size = f"{model.image_channels} x {height} x {width}, {parameter_count(model):,} parameters"
    lines = [f"{type(model).__name__}: T = {model.time_steps}, {size}{data}"]
    lines += [f"  {name:<8} {parameter_count(part):>10,}  {_words(part)}" for name, part in parts(model).items()]
    return "\n".join(lines)


def parts(model: nn.Module) -> dict[str, nn.Module]:
    """The parts that a model has, by name."""
    return {name: part for name in PARTS if (part := getattr(model, name, None)) is not None}


def _words(part: nn.Module) -> str:
    """The notation of a part, or the name of its class."""
    return getattr(part, "notation", type(part).__name__)


def parameter_count(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())
