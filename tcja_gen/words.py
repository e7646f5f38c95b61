"""The words and flags of a command line, and which flags of nested settings have no value."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields, is_dataclass
from typing import Any


@dataclass(frozen=True)
class Given:
    """The words and flags of a command line. `--objective.no-perceptual` is a switch as well: the value None."""

    words: tuple[str, ...]
    """Words that belong to no flag."""
    flags: Mapping[str, str | None]
    """Values of the flags by name (`model.latent.kind`); None for a switch."""


def scan(arguments: Iterable[str], switches: set[str]) -> Given:
    """The words and flags of a command line. switches: names of the flags without a value; --no-NAME turns one off."""
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
    """Names of all boolean settings, for all kinds of all parts, and no_NAME of optional parts. path: prefix of the
    names."""
    found = set()
    for f in fields(settings):
        name, kinds, absent = path + f.name, f.metadata.get("kinds"), f.metadata.get("optional")
        if absent:
            found.add(f"{path}no_{f.name}")
        if kinds or absent:
            for kind in kinds().values() if kinds else (absent,):
                found |= switches_of(kind(), name + ".")
        elif f.type is bool:
            found.add(name)
        elif is_dataclass(value := getattr(settings, f.name)):
            found |= switches_of(value, name + ".")
    return found
