"""What people read about runs: a text, figures, and an HTML page that needs no other file and no network.

A report looks at a `subject`: a run, a checkpoint, a file of weights or a pretrained model. `sections` are the parts of
the page of one of them, `comparison` those of several, `html` what they are made of.
"""

from .comparison import compare
from .figures import confusion, figures
from .page import write_page
from .text import describe

__all__ = ["compare", "confusion", "describe", "figures", "write_page"]
