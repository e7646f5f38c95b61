"""Training runs: the loop, its folder, its checkpoints."""

from .loop import Diverged, Run, resume, train

__all__ = ["Diverged", "Run", "resume", "train"]
