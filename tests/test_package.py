"""What the package declares is what it uses."""

import ast
import re
import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).parent.parent
NAMES = {"PIL": "pillow", "sklearn": "scikit-learn", "torch_fidelity": "torch-fidelity"}


def imported() -> set[str]:
    """Distributions that modules of the package import, at their top or inside of a function, or take files of."""
    modules = set()
    for file in (ROOT / "tcja_gen").rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                modules |= {name.name for name in node.names}
            elif isinstance(node, ast.ImportFrom) and not node.level:
                modules.add(node.module)
            elif isinstance(node, ast.Call) and getattr(node.func, "id", "") == "find_spec":
                modules.add(node.args[0].value)
    named = {"tensorboard" if name == "torch.utils.tensorboard" else name.split(".")[0] for name in modules}
    return {NAMES.get(name, name) for name in named - sys.stdlib_module_names}


def test_every_dependency_is_imported_and_every_import_is_a_dependency():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = [line for name, lines in project["optional-dependencies"].items() if name != "test" for line in lines]
    declared = {re.split(r"[\[<>=~ ;]", line)[0] for line in [*project["dependencies"], *extras]}
    assert imported() - {"triton"} == declared  # Triton comes with torch where there is a GPU


def test_torch_fidelity_is_one_whose_precision_is_known_to_be_right():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert "torch-fidelity>=0.4,<0.5" in project["dependencies"]
