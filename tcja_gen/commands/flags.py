"""Flags of nested settings, such as `--model.latent.channels 64`.

Which flags exist depends on the kinds of the chosen parts: from the recipe, or from a flag such as
`--model.latent.kind codes`. So a command line is read twice. `words.scan` finds the flags in it. Then tyro reads it
with a dataclass that has the flags of these kinds (`flags_of`).
"""

import difflib
from collections.abc import Mapping
from dataclasses import field, fields, is_dataclass, make_dataclass
from typing import Annotated, Any, Literal

from tyro.conf import FlagCreatePairsOff, arg

from ..errors import UserError
from ..settings import kind_of, texts
from ..words import Given


def choices_given(given: Given, settings: Any, path: str = "") -> dict[str, Any]:
    """The kinds and optional parts that flags choose, as nested changes for `settings.update`."""
    changes: dict[str, Any] = {}
    for f in fields(settings):
        name, inner = path + f.name, {}
        if "kinds" in f.metadata and f"{name}.kind" in given.flags:
            changes[f.name] = {"kind": given.flags[f"{name}.kind"]}
        elif "optional" in f.metadata and any(flag.startswith(name + ".") for flag in given.flags):
            changes[f.name] = {}
        elif is_dataclass(value := getattr(settings, f.name)):
            inner = choices_given(given, value, name + ".")
        if inner:
            changes[f.name] = inner
    return changes


def check_known(given: Mapping[str, str | None], settings: Any, hidden: tuple[str, ...] = ()) -> None:
    """UserError for the first flag that these settings do not have. It lists the flags of the same table."""
    for name, value in given.items():
        table, path = settings, ""
        for step in name.split("."):
            known = {f.name: f for f in fields(table) if f.name not in hidden} if is_dataclass(table) else {}
            if step not in [*known, "kind"]:
                near = difflib.get_close_matches(step, known, 1)
                hint = f"did you mean --{_flag(path + near[0])}? " if near else ""
                raise UserError(f"no flag --{_flag(name)}; {hint}known here: {', '.join(map(_flag, known))}")
            absent = known[step].metadata.get("optional") if step in known else None
            table, path = getattr(table, step, None) or absent, f"{path}{step}."
        if is_dataclass(table) and value is not None:
            inner = ", ".join(f"--{_flag(path + f.name)}" for f in fields(table))
            raise UserError(f"--{_flag(name)} is a table of settings: {inner}")


def _flag(name: str) -> str:
    return name.replace("_", "-")


def flags_of(settings: Any, hidden: tuple[str, ...] = ()) -> type:
    """A dataclass for tyro with these settings as fields: their values are the defaults, their texts the help.

    hidden: names of settings without a flag.
    """
    options = []
    for f in fields(settings):
        value, text = getattr(settings, f.name), texts(type(settings)).get(f.name, "")
        if "optional" in f.metadata:
            without = Annotated[FlagCreatePairsOff[bool], arg(help=f"Without {f.name}, though the recipe has it.")]
            options.append((f"no_{f.name}", without, field(default=False)))
        if f.name in hidden or (value is None and "optional" in f.metadata):
            continue
        if is_dataclass(value):
            inner = flags_of(value)
            if "kinds" in f.metadata and f.name != "model":  # the kind of the model follows from --task
                inner = _with_kind(inner, list(f.metadata["kinds"]()), kind_of(f, value), text)
            options.append((f.name, inner, field(default_factory=inner)))
        else:
            options.append((f.name, Annotated[f.type, arg(help=text)], field(default=value)))
    return make_dataclass(type(settings).__name__, options, frozen=True)


def _with_kind(settings: type, kinds: list[str], kind: str, text: str) -> type:
    """The same dataclass with a field `kind`."""
    words = Annotated[Literal[tuple(kinds)], arg(help=text)]
    return make_dataclass(settings.__name__, [("kind", words, field(default=kind))], bases=(settings,), frozen=True)


def changes_of(parsed: Any, given: Given) -> dict[str, Any]:
    """The settings that the command line gives, as a nested table. parsed: the values as tyro has read them."""
    changes: dict[str, Any] = {}
    for name in given.flags:
        *path, last = name.split(".")
        table, values = changes, parsed
        for step in path:
            table, values = table.setdefault(step, {}), getattr(values, step)
        if not hasattr(values, f"no_{last}"):
            table[last] = getattr(values, last)
        elif both := [flag for flag in given.flags if flag.startswith(name + ".")]:
            raise UserError(f"--{_flag(both[0])} and --{_flag('.'.join([*path, 'no_' + last]))}: one of the two")
        else:
            table[last] = None
    return changes
