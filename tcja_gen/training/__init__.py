"""Training runs: the loop, its folder, its checkpoints."""

from ..errors import Diverged
from .loop import Run, resume, train

__all__ = ["Diverged", "Run", "resume", "train"]
