"""Training and evaluation mode of a model whose parts need not be in the same one: frozen parts of a model that is
trained normalise by their running statistics, and must go on to do so."""

from contextlib import contextmanager

from torch import nn


@contextmanager
def evaluating(*modules: nn.Module):
    """Inside, all of the modules are in evaluation mode; afterwards every part is in the mode that it was in."""
    before = {part: part.training for module in modules for part in module.modules()}
    try:
        for module in modules:
            module.eval()
        yield
    finally:
        for part, training in before.items():
            part.training = training
