"""Flags of nested settings: those that a command line gives, and the dataclass by which tyro reads and explains them.

Which flags there are depends on the kinds of the parts that are chosen, in the recipe or by a flag like
`--model.latent.kind codes`. So a command line is looked through once for what it gives, and read once by its flags.
"""

import difflib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields, is_dataclass, make_dataclass
from typing import Annotated, Any, Literal

from tyro.conf import FlagCreatePairsOff, arg

from ..errors import UserError
from ..settings import kind_of, texts


@dataclass(frozen=True)
class Given:
    """What a command line gives: words that belong to no flag, and the values of flags by name (`model.latent.kind`);
    None for a switch. `--objective.no-perceptual` is a switch, too: the value None of the setting itself."""

    words: tuple[str, ...]
    flags: Mapping[str, str | None]


def look_through(arguments: Iterable[str], switches: set[str]) -> Given:
    """switches: names of the flags that take no value; --no-NAME switches off."""
    words, flags, left = [], {}, list(arguments)
    while left:
        word = left.pop(0)
        word = "--help" if word == "-h" else word
        if not word.startswith("--"):
            words.append(word)
            continue
        name, equals, value = word[2:].partition("=")
        name = name.replace("-", "_")
        *path, last = name.split(".")
        switch = ".".join([*path, last.removeprefix("no_")])
        if name in switches or switch in switches:
            flags[switch] = None
        else:
            flags[name] = value if equals else (left.pop(0) if left else "")
    return Given(tuple(words), flags)


def switches_of(settings: Any, path: str = "") -> set[str]:
    """Names of the settings that are on or off, of all kinds of all parts; those of optional parts with no_."""
    found = set()
    for f in fields(settings):
        name, kinds, absent = path + f.name, f.metadata.get("kinds"), f.metadata.get("optional")
        if absent:
            found.add(f"{path}no_{f.name}")
        if kinds or absent:
            for kind in kinds().values() if kinds else (absent,):
                found |= switches_of(kind, name + ".")
        elif f.type is bool:
            found.add(name)
        elif isinstance(settings, type):
            found |= switches_of(f.type, name + ".") if is_dataclass(f.type) else set()
        elif is_dataclass(value := getattr(settings, f.name)):
            found |= switches_of(value, name + ".")
    return found


def choices_given(given: Given, settings: Any, path: str = "") -> dict[str, Any]:
    """The nested table of the kinds and optional parts that flags choose, for `settings.update`."""
    found: dict[str, Any] = {}
    for f in fields(settings):
        name, inner = path + f.name, {}
        if "kinds" in f.metadata and f"{name}.kind" in given.flags:
            found[f.name] = {"kind": given.flags[f"{name}.kind"]}
        elif "optional" in f.metadata and any(flag.startswith(name + ".") for flag in given.flags):
            found[f.name] = {}
        elif is_dataclass(value := getattr(settings, f.name)):
            inner = choices_given(given, value, name + ".")
        if inner:
            found[f.name] = inner
    return found


def check_known(given: Mapping[str, str | None], settings: Any, hidden: tuple[str, ...] = ()) -> None:
    """UserError for the first flag that these settings do not have; it tells those of the table it is looked for in."""
    for name, value in given.items():
        table, path = settings, ""
        for step in name.split("."):
            known = {f.name: f for f in fields(table) if f.name not in hidden} if is_dataclass(table) else {}
            if step not in [*known, "kind"]:
                near = difflib.get_close_matches(step, known, 1)
                hint = f"did you mean --{_flag(path + near[0])}? " if near else ""
                raise UserError(f"no flag --{_flag(name)}; {hint}here are: {', '.join(map(_flag, known))}")
            absent = known[step].metadata.get("optional") if step in known else None
            table, path = getattr(table, step, None) or absent, f"{path}{step}."
        if is_dataclass(table) and value is not None:
            inner = ", ".join(f"--{_flag(path + f.name)}" for f in fields(table))
            raise UserError(f"--{_flag(name)} is a table of settings: {inner}")


def _flag(name: str) -> str:
    return name.replace("_", "-")


def flags_of(settings: Any, hidden: tuple[str, ...] = ()) -> type:
    """A dataclass for tyro of these settings, their values as defaults and their texts as help."""
    made = []
    for f in fields(settings):
        value, text = getattr(settings, f.name), texts(type(settings)).get(f.name, "")
        if "optional" in f.metadata:
            without = Annotated[FlagCreatePairsOff[bool], arg(help=f"Without {f.name}, though the recipe has it.")]
            made.append((f"no_{f.name}", without, field(default=False)))
        if f.name in hidden or (value is None and "optional" in f.metadata):
            continue
        if is_dataclass(value):
            inner = flags_of(value)
            if "kinds" in f.metadata and f.name != "model":  # whose kind the task tells
                inner = _with_kind(inner, list(f.metadata["kinds"]()), kind_of(f, value), text)
            made.append((f.name, inner, field(default_factory=inner)))
        else:
            made.append((f.name, Annotated[f.type, arg(help=text)], field(default=value)))
    return make_dataclass(type(settings).__name__, made, frozen=True)


def _with_kind(settings: type, kinds: list[str], kind: str, text: str) -> type:
    words = Annotated[Literal[tuple(kinds)], arg(help=text)]
    return make_dataclass(settings.__name__, [("kind", words, field(default=kind))], bases=(settings,), frozen=True)


def changes_of(parsed: Any, given: Given) -> dict[str, Any]:
    """The nested table of the settings that were given, with the values that tyro has read."""
    found: dict[str, Any] = {}
    for name in given.flags:
        *path, last = name.split(".")
        table, values = found, parsed
        for step in path:
            table, values = table.setdefault(step, {}), getattr(values, step)
        if not hasattr(values, f"no_{last}"):
            table[last] = getattr(values, last)
        elif both := [flag for flag in given.flags if flag.startswith(name + ".")]:
            raise UserError(f"--{_flag(both[0])} and --{_flag('.'.join([*path, 'no_' + last]))}: one of the two")
        else:
            table[last] = None
    return found
