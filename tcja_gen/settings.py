"""Settings of parts: frozen dataclasses that can be written as tables of TOML, and read back.

A part's settings are a dataclass beside the part's class. A field is a setting: its type, default and range (`setting`)
and the text below it, which is its help. What a field may be, beside a number, a flag or a word:

    latent: LatentSettings = part(kinds, Bernoulli())       one of several parts, by its kind:  [latent] kind = "codes"
    perceptual: Perceptual | None = optional(Perceptual)    a part that is there if it is named: [perceptual] weight = 1
    scheduled: Scheduled = field(default=Scheduled())       a group of settings:                 [scheduled] start = 0.1
"""

import ast
import difflib
import inspect
import json
import textwrap
import types
import typing
from collections.abc import Callable, Mapping
from dataclasses import field, fields, is_dataclass, replace
from functools import cache
from typing import Any, Literal

from .errors import UserError

Kinds = Callable[[], Mapping[str, type]]


def part(kinds: Kinds, default: Any):
    """Field that holds the settings of one of several parts; kinds(): the classes of settings by name."""
    return field(default=default, metadata={"kinds": kinds})


def optional(kind: type):
    """Field that holds the settings of a part, or None where there is no such part."""
    return field(default=None, metadata={"optional": kind})


def kind_of(f, value: Any) -> str:
    """The name of the kind that a `part` field holds."""
    return next(name for name, kind in f.metadata["kinds"]().items() if kind is type(value))


def update(settings, changes: Mapping[str, Any], path: str = ""):
    """`settings` with some changed, nested as in a file. UserError for an unknown key or an unlike type; path: of the
    table, for messages.

    A part of another kind starts from that kind's defaults.
    """
    known = {f.name: f for f in fields(settings)}
    changed = {}
    for key, value in changes.items():
        if key not in known:
            raise UserError(f"unknown key {path + key!r}; {_near(key, known)}known: {', '.join(known)}")
        changed[key] = _changed(known[key], getattr(settings, key), value, path + key)
    return replace(settings, **changed)


def _near(key: str, known: Mapping) -> str:
    near = difflib.get_close_matches(key, known, 1)
    return f"did you mean {near[0]!r}? " if near else ""


def _changed(f, old: Any, value: Any, path: str) -> Any:
    """The new value of a field."""
    kinds, absent = f.metadata.get("kinds"), f.metadata.get("optional")
    if is_dataclass(value) or (absent and value is None):
        return value
    if not (kinds or absent or is_dataclass(old)):
        return typed(path, value, f.type)
    if not isinstance(value, Mapping):
        raise UserError(f"key {path!r} is a table of settings, got {value!r}")
    value = dict(value)
    if kinds:
        old = _of_kind(kinds(), old, value.pop("kind", None), path)
    return update(absent() if old is None else old, value, path + ".")


def _of_kind(kinds: Mapping[str, type], old: Any, name: str | None, path: str) -> Any:
    if name is None or type(old) is kinds.get(name):
        return old
    if name not in kinds:
        raise UserError(f"key '{path}.kind' is {name!r}; known: {', '.join(kinds)}")
    return kinds[name]()


def typed(key: str, value: Any, wanted: Any) -> Any:
    """The value of a setting of this type: an int for a float will do. UserError for any other."""
    choices = choices_of(wanted)
    if choices:
        if value not in choices:
            raise UserError(f"key {key!r} is {value!r}; known: {', '.join(filter(None, choices))}")
        return value
    if wanted is float and type(value) is int:
        return float(value)
    types_wanted = typing.get_args(wanted) or (wanted,)  # of `str | None`
    if type(value) not in types_wanted:
        raise UserError(f"key {key!r} is {value!r}; {types_wanted[0].__name__} is wanted")
    return value


def choices_of(wanted: Any) -> list:
    """The words of a Literal, with None where that is allowed; nothing for other types."""
    if typing.get_origin(wanted) is Literal:
        return [*typing.get_args(wanted)]
    if isinstance(wanted, types.UnionType):
        parts = typing.get_args(wanted)
        words = [word for each in parts for word in choices_of(each)]
        return [*words, None] if words and types.NoneType in parts else words
    return []


def table(settings) -> dict[str, Any]:
    """Settings as a nested table, with the kinds of parts. `update` of the defaults by it gives the settings again."""
    made = {}
    for f in fields(settings):
        value = getattr(settings, f.name)
        if "kinds" in f.metadata:
            made[f.name] = {"kind": kind_of(f, value)} | table(value)
        else:
            made[f.name] = table(value) if is_dataclass(value) else value
    return made


def dump(settings: Mapping[str, Any]) -> str:
    """TOML of a nested table; None is left out."""
    return "\n".join(_lines(settings, "")).strip("\n") + "\n"


def _lines(values: Mapping[str, Any], path: str) -> list[str]:
    lines = [f"{key} = {_value(value)}" for key, value in values.items() if value is not None and not _nested(value)]
    for key, value in values.items():
        name = path + key
        if isinstance(value, Mapping):
            inner = _lines(value, name + ".")
            only_tables = value and all(map(_nested, value.values()))  # whose titles have this name, too
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
    """Strings, numbers, flags and lists are alike in JSON and TOML, but for escaped surrogates and a bare DEL."""
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")


def differences(a: Mapping, b: Mapping, ignore: tuple[str, ...] = ()) -> list[str]:
    """Lines "key: a's -> b's" of the values in which two tables differ."""
    found = []
    for key in {**a, **b}:
        x, y = a.get(key), b.get(key)
        if isinstance(x, Mapping) and isinstance(y, Mapping):
            found += [f"{key}.{line}" for line in differences(x, y)]
        elif x != y and key not in ignore:
            found.append(f"{key}: {x!r} -> {y!r}")
    return found


def shortened(lines: list[str], most: int = 3) -> str:
    """The first of many lines, as one."""
    return "; ".join(lines[:most]) + (f" and {len(lines) - most} more" if len(lines) > most else "")


@cache
def texts(settings: type) -> dict[str, str]:
    """The text below every field of a dataclass, by name, from its source: Python itself does not keep them."""
    found = {}
    for base in reversed(settings.__mro__):
        if not is_dataclass(base):
            continue
        body = ast.parse(textwrap.dedent(inspect.getsource(base))).body[0].body
        for name, text in zip(body, body[1:], strict=False):
            if isinstance(name, ast.AnnAssign) and isinstance(text, ast.Expr) and isinstance(text.value, ast.Constant):
                found[name.target.id] = " ".join(str(text.value.value).split())
    return found
