"""Settings of parts: frozen dataclasses that are written as TOML tables and read back.

A part's settings are a dataclass in the same file as the part's class. Each field is a setting with its type, default
and range (`ranges.setting`). The text below a field is its help. A field is a number, a flag, a word, or one of these:

    latent: LatentSettings = part(kinds, Bernoulli())       one of several kinds of a part:      [latent] kind = "codes"
    perceptual: Perceptual | None = optional(Perceptual)    a part that exists only if named:    [perceptual] weight = 1
    scheduled: Scheduled = field(default=Scheduled())       a group of settings:                 [scheduled] start = 0.1
"""

import ast
import difflib
import inspect
import json
import math
import textwrap
import types
import typing
from collections.abc import Callable, Iterable, Mapping
from dataclasses import field, fields, is_dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any, Literal

from .errors import UserError
from .ranges import LARGEST

Kinds = Callable[[], Mapping[str, type]]


def part(kinds: Kinds, default: Any):
    """A field for the settings of one of several kinds of a part. kinds(): the settings classes by the kind's name."""
    return field(default=default, metadata={"kinds": kinds})


def optional(kind: type):
    """A field for the settings of a part that may be absent (None). kind: its settings class."""
    return field(default=None, metadata={"optional": kind})


def kind_of(f, value: Any) -> str:
    """The name of the kind whose settings `value` are. f: a field made by `part`."""
    return next(name for name, kind in f.metadata["kinds"]().items() if kind is type(value))


def update(settings, changes: Mapping[str, Any], path: str = ""):
    """A copy of `settings` with changes, which are nested as in a TOML file.

    If a part changes its kind, its other settings start from the defaults of the new kind. path: prefix of the keys in
    messages, such as "model.". UserError for an unknown key or a value of the wrong type.
    """
    known = {f.name: f for f in fields(settings)}
    changed = {}
    for key, value in changes.items():
        if key not in known:
            raise UserError(f"unknown key {f'{path}{key}'!r}; {_near(str(key), known)}known: {', '.join(known)}")
        changed[key] = _changed(known[key], getattr(settings, key), value, path + key)
    return replace(settings, **changed)


def _near(key: str, known: Mapping) -> str:
    near = difflib.get_close_matches(key, known, 1)
    return f"did you mean {near[0]!r}? " if near else ""


def _changed(f, old: Any, value: Any, path: str) -> Any:
    """The new value of a field."""
    kinds, absent = f.metadata.get("kinds"), f.metadata.get("optional")
    if absent and value is None:
        return value
    if is_dataclass(value):
        return _part(kinds().values() if kinds else [absent or type(old)], value, path)
    if not (kinds or absent or is_dataclass(old)):
        return typed(path, value, f.type)
    if not isinstance(value, Mapping):
        raise UserError(f"key {path!r} must be a table of settings, got {value!r}")
    value = dict(value)
    if kinds:
        old = _of_kind(kinds(), old, value.pop("kind", None), path)
    return update(absent() if old is None else old, value, path + ".")


def _part(kinds: Iterable[type], value: Any, path: str) -> Any:
    """The settings of a part that Python hands over."""
    if type(value) not in kinds:
        found = f"the class {value.__name__}" if isinstance(value, type) else f"a {type(value).__name__}"
        raise UserError(f"key {path!r} is {found}; wanted: {', '.join(f'{kind.__name__}(...)' for kind in kinds)}")
    return value


def _of_kind(kinds: Mapping[str, type], old: Any, name: str | None, path: str) -> Any:
    if name is None:
        return old
    if name not in [*kinds]:
        raise UserError(f"key '{path}.kind' is {name!r}; known: {', '.join(kinds)}")
    return old if type(old) is kinds[name] else kinds[name]()


def typed(key: str, value: Any, kind: Any) -> Any:
    """`value` as a setting of type `kind`: an int becomes a float, a path a string. UserError for any other type."""
    choices = choices_of(kind)
    if choices:
        if value not in choices:
            raise UserError(f"key {key!r} is {value!r}; known: {', '.join(filter(None, choices))}")
        return value
    if kind is float and type(value) is int:
        return float(value) if abs(value) < LARGEST else math.inf
    if kind is str and isinstance(value, Path):
        return str(value)
    allowed = typing.get_args(kind) or (kind,)  # of `str | None`: both
    if type(value) not in allowed:
        raise UserError(f"key {key!r} is {value!r}; {allowed[0].__name__} is wanted")
    return value


def choices_of(kind: Any) -> list:
    """The words of a Literal, and None if that is allowed; [] for other types."""
    if typing.get_origin(kind) is Literal:
        return [*typing.get_args(kind)]
    if isinstance(kind, types.UnionType):
        parts = typing.get_args(kind)
        words = [word for each in parts for word in choices_of(each)]
        return [*words, None] if words and types.NoneType in parts else words
    return []


def table(settings) -> dict[str, Any]:
    """Settings as a nested table, with the kinds of parts. `update` turns it back into the same settings."""
    nested = {}
    for f in fields(settings):
        value = getattr(settings, f.name)
        if "kinds" in f.metadata:
            nested[f.name] = {"kind": kind_of(f, value)} | table(value)
        else:
            nested[f.name] = table(value) if is_dataclass(value) else value
    return nested


def dump(settings: Mapping[str, Any]) -> str:
    """A nested table as TOML text, without the keys whose value is None."""
    return "\n".join(_lines(settings, "")).strip("\n") + "\n"


def _lines(values: Mapping[str, Any], path: str) -> list[str]:
    lines = [f"{key} = {_value(value)}" for key, value in values.items() if value is not None and not _nested(value)]
    for key, value in values.items():
        name = path + key
        if isinstance(value, Mapping):
            inner = _lines(value, name + ".")
            only_tables = value and all(map(_nested, value.values()))  # their titles contain this name already
            title = [] if only_tables else ["", f"[{name}]"]
            lines += [*title, *inner]
        elif _nested(value):
            for each in value:
                lines += ["", f"[[{name}]]", *_lines(each, name + ".")]
    return lines


def _nested(value: Any) -> bool:
    return (
        isinstance(value, Mapping) or isinstance(value, list | tuple) and bool(value) and isinstance(value[0], Mapping)
    )


def _value(value: Any) -> str:
    """A string, number, flag or list in TOML: as in JSON, but without escaped surrogates and with DEL escaped."""
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")


def merged(old: Mapping, new: Mapping) -> dict:
    """Two nested tables merged into one; if both have a key, the value of `new` is used."""
    both = {**old, **new}
    for key in old:
        if isinstance(old[key], Mapping) and isinstance(new.get(key), Mapping):
            both[key] = merged(old[key], new[key])
    return both


def differences(a: Mapping, b: Mapping, ignore: tuple[str, ...] = ()) -> list[str]:
    """Lines "key: value in a -> value in b" for the values in which two nested tables differ. ignore: keys of the
    outer tables that are not compared."""
    lines = []
    for key in (key for key in {**a, **b} if key not in ignore):
        x, y = a.get(key), b.get(key)
        if isinstance(x, Mapping) and isinstance(y, Mapping):
            lines += [f"{key}.{line}" for line in differences(x, y)]
        elif x != y:
            lines.append(f"{key}: {x!r} -> {y!r}")
    return lines


def shortened(lines: list[str], most: int = 3) -> str:
    """The first of many lines, as one."""
    return "; ".join(lines[:most]) + (f" and {len(lines) - most} more" if len(lines) > most else "")


@cache
def texts(settings: type) -> dict[str, str]:
    """The text below each field of a dataclass, by the field's name. Read from the source, as Python drops it."""
    found = {}
    for base in reversed(settings.__mro__):
        if not is_dataclass(base):
            continue
        body = ast.parse(textwrap.dedent(inspect.getsource(base))).body[0].body
        for name, text in zip(body, body[1:], strict=False):
            if isinstance(name, ast.AnnAssign) and isinstance(text, ast.Expr) and isinstance(text.value, ast.Constant):
                found[name.target.id] = " ".join(str(text.value.value).split())
    return found
