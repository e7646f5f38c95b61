"""Switches to evaluation mode and back, for models whose parts differ in mode: frozen parts of a model in training
stay in evaluation mode, so that they normalise by their running statistics."""

from contextlib import contextmanager

from torch import nn


@contextmanager
def evaluating(*modules: nn.Module):
    """Puts the modules into evaluation mode; at the end every part returns to its own mode. Modules in training mode
    belong to one thread; those in evaluation mode may be shared."""
    before = {part: part.training for module in modules for part in module.modules()}
    try:
        for module in modules:
            module.eval()
        yield
    finally:
        for part, training in before.items():
            part.training = training
