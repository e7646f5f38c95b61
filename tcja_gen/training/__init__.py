"""Training runs: recipes and their stages, the training loop, the folder of a run, its checkpoints."""

from ..errors import Diverged
from .config import Config
from .loop import Run
from .stages import resume, train

__all__ = ["Config", "Diverged", "Run", "resume", "train"]
