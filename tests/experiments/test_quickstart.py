"""The notebook that a newcomer runs first: every cell runs, and what it shows says something."""

import ast
import json
from pathlib import Path

from PIL.Image import Image

NOTEBOOK = Path(__file__).parent.parent.parent / "experiments" / "quickstart.ipynb"


def test_every_cell_runs_and_shows_a_picture_or_words(tmp_path, monkeypatch, quick_networks):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("STEPS", "4")
    cells = json.loads(NOTEBOOK.read_text(encoding="utf-8"))["cells"]
    names, shown = {}, []
    for cell in cells:
        if cell["cell_type"] == "code":
            shown.append(run("".join(cell["source"]), names))
    pictures = [value for value in shown if isinstance(value, Image)]
    words = [repr(value) for value in shown if value is not None and not isinstance(value, Image)]
    assert len(pictures) == 5 and all(picture.width >= 512 for picture in pictures)
    assert any("fid-classifier" in text for text in words) and not any(text.startswith("<") for text in words)


def run(source: str, names: dict):
    """Runs a cell. Returns the value of its last line, which a notebook shows, if that is an expression."""
    tree = ast.parse(source)
    last = tree.body.pop() if isinstance(tree.body[-1], ast.Expr) else None
    exec(compile(tree, "cell", "exec"), names)
    return eval(compile(ast.Expression(last.value), "cell", "eval"), names) if last else None
