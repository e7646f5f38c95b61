"""What the package declares is what it uses."""

import ast
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import tcja_gen as tg
from tcja_gen.nn.latents import LATENTS

ROOT = Path(__file__).parent.parent
NAMES = {"PIL": "pillow", "sklearn": "scikit-learn", "torch_fidelity": "torch-fidelity"}
TOOLS = ("test", "docs")  # extras for those who change the package


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
    extras = [line for name, lines in project["optional-dependencies"].items() if name not in TOOLS for line in lines]
    declared = {re.split(r"[\[<>=~ ;]", line)[0] for line in [*project["dependencies"], *extras]}
    assert imported() - {"triton"} == declared  # Triton comes with torch where there is a GPU


def test_torch_fidelity_is_one_whose_precision_is_known_to_be_right():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert "torch-fidelity>=0.4,<0.5" in project["dependencies"]


def python(code: str) -> str:
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, encoding="utf-8", check=True)
    return done.stdout.strip()


def test_the_package_alone_imports_no_torch_and_names_all_it_has():
    told = python("import sys, tcja_gen as tg; print(*dir(tg)); assert 'torch' not in sys.modules")
    assert {"train", "load", "SpikingVAE", "TCJA", "register_latent", "load_plugin"} <= set(told.split())


def test_every_name_of_the_package_is_there():
    for name in tg.__all__:
        assert getattr(tg, name).__name__ == name
    assert {LATENTS[name].__name__ for name in LATENTS if name not in LATENTS.from_plugins()} <= {*tg.__all__}


@pytest.mark.parametrize("first", ["tg.pretrained", "m"])
def test_the_function_pretrained_is_not_its_module(first):
    code = f"import tcja_gen as tg, tcja_gen.models.pretrained as m; {first}; print(callable(tg.pretrained), m.find)"
    assert python(code).startswith("True <function find")


def test_every_file_of_the_package_comes_with_its_wheel():
    packages = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["setuptools"]
    folder, patterns = ROOT / "tcja_gen", packages["package-data"]["tcja_gen"]
    shipped = {file for pattern in patterns for file in folder.glob(pattern)}
    files = {file for file in folder.rglob("*") if file.is_file() and file.suffix not in (".py", ".pyc")}
    assert files == shipped and folder / "py.typed" in shipped
    assert all((file.parent / "__init__.py").is_file() for file in folder.rglob("*.py"))
