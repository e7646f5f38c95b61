"""The report of one run, or of several side by side, as one HTML file."""

import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

from .. import __version__, files
from . import comparison, html
from .sections import sections
from .subject import Subject


def write_page(names: Sequence[str | Path], path: str | Path, data_root: str | Path = "") -> Path:
    """Writes the report of a run, or the comparison of several.

    names: of runs, checkpoints, files or pretrained models. data_root: folder of named data sets; "": the runs' own.
    UserError or OSError if a model cannot be read.
    """
    subjects = [Subject(name, data_root) for name in names]
    if len(subjects) == 1:
        subtitle, parts = f"A report of a {subjects[0].kind}.", sections(subjects[0])
    else:
        subtitle, parts = "A comparison.", comparison.sections(subjects)
    title = " and ".join(Path(name).name or str(name) for name in names)
    command = shlex.join([Path(sys.argv[0]).name, *sys.argv[1:]])
    footer = f"Made by tcja_gen {__version__}: {command}"
    files.write(Path(path), html.page(title, subtitle, parts, footer))
    return Path(path)
