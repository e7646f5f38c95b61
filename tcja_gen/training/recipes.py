"""Recipes: TOML files with the settings of a run (`config`), found by path or by the name of a shipped one."""

import codecs
import difflib
import tomllib
from pathlib import Path
from shlex import quote

from ..errors import MissingFile, UserError
from ..shipped import recipes
from .config import Config, change


def find_recipe(name: str | Path) -> Path:
    """The TOML file of this name, or that of a recipe that ships with the package. MissingFile if there is neither."""
    path = Path(name)
    if path.is_file():
        return path
    if path.is_dir() and path.suffix != ".toml" and str(name) not in recipes():
        raise UserError(f"{path}: a folder is not a recipe; to resume the run in it: --resume {quote(str(path))}")
    if str(name) in recipes():
        return recipes()[str(name)]
    near = difflib.get_close_matches(str(name), recipes(), 1)
    hint = f"did you mean {near[0]!r}? " if near else ""
    raise MissingFile(f"{name}: no such file, and no recipe of this name; {hint}tcja-gen list names them")


def load(name: str | Path) -> Config:
    """The config of a TOML file or of a recipe's name. Settings that it does not name have their defaults. UserError,
    which names file and key, for a mistake in it."""
    path = find_recipe(name)
    settings = read(path)
    try:
        return change(Config(), settings)
    except UserError as error:
        raise UserError(f"{path}: {error}") from None


def read(path: Path) -> dict:
    """The content of a TOML file. A byte order mark, which Windows editors write, is ignored. UserError if it is not
    TOML in UTF-8."""
    data = path.read_bytes()
    if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        raise UserError(f"{path}: text in UTF-16, TOML is UTF-8: save it as UTF-8")
    try:
        return tomllib.loads(data.decode("utf-8-sig"))
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: not UTF-8 ({error.reason} at byte {error.start}): save it as UTF-8") from None
    except (ValueError, RecursionError) as error:  # TOMLDecodeError, or a number that is too long
        raise UserError(f"{path}: not TOML: {error}") from None
