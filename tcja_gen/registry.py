"""Names of parts: the words that a notation, a recipe and a checkpoint may use, from the package or from a plugin.

    @register_attention("SQUASH")     a word of the notation         class of (time_steps, channels), see `nn.Gate`
    @register_latent("mine", Mine)    [model.latent] kind = "mine"   class of (settings, around), see `nn.latents`
    @register_neuron("mine")          [model] neuron = "mine"        function of nothing -> neurons, see `nn.neurons`
    @register_readout("mine")         [model] readout = "mine"       function of T -> weights (T,), see `nn.readouts`
    @register_dataset("mine")         data = "mine"                  function of (split, root) -> images, see `data`

The package registers its own parts in the same way. A plugin is a Python file with such lines: `load_plugin`, on the
command line `--plugin FILE`. Its name and hash go into the checkpoints of what it is used for. A checkpoint never
imports a plugin by itself; it says which one is missing.
"""

import hashlib
import importlib.util
import inspect
import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from .errors import MissingFile, UserError


class Registry:
    """Parts of one kind by name. `what`: the kind, as messages call it."""

    def __init__(self, what: str):
        self.what = what
        self._parts: dict[str, Any] = {}
        self._sources: dict[str, Path] = {}

    def register(self, name: str, part: Any) -> None:
        """UserError if another file has registered the name; the same file may do so again (a notebook's cell)."""
        source = Path(inspect.getsourcefile(part) or "?")
        if name in self._parts and self._sources[name] != source:
            raise UserError(f"{self.what} {name!r} is registered already, by {self._sources[name].name}")
        self._parts[name], self._sources[name] = part, source

    def __getitem__(self, name: str) -> Any:
        """The part of this name. UserError that lists the names there are."""
        if name not in self._parts:
            known = ", ".join(self._parts)
            raise UserError(f"unknown {self.what} {name!r}; known: {known}; --plugin FILE adds those of a file")
        return self._parts[name]

    def __contains__(self, name: str) -> bool:
        return name in self._parts

    def __iter__(self) -> Iterator[str]:
        return iter(self._parts)

    def name_of(self, part: Any) -> str:
        """The name under which a part is registered."""
        return next(name for name, known in self._parts.items() if known is part)

    def from_plugins(self) -> list[str]:
        """Names that do not come from the package itself."""
        own = Path(__file__).parent
        return [name for name, source in self._sources.items() if not source.is_relative_to(own)]

    def source(self, name: str) -> Path:
        """The file that registered the name."""
        return self._sources[name]


ATTENTION = Registry("attention")
LATENTS = Registry("latent")
NEURONS = Registry("neuron")
READOUTS = Registry("readout")
DATASETS = Registry("data set")
REGISTRIES = (ATTENTION, LATENTS, NEURONS, READOUTS, DATASETS)


def _decorator(registry: Registry, name: str) -> Callable:
    def register(part):
        registry.register(name, part)
        return part

    return register


def register_attention(name: str) -> Callable:
    """A block of attention as a word of the notation: a class of (time_steps, channels), with `k_time` and `k_channel`
    if it has kernels, that maps (T, N, C, H, W) to the same shape and draws no random numbers. The name has letters and
    digits, a letter first and last, so that it is none of the other words (MP2, U2, 10L)."""
    if not re.fullmatch("[A-Za-z]([A-Za-z0-9]*[A-Za-z])?", name):
        raise UserError(f"attention {name!r}: the name has letters and digits only, a letter first and last")
    return _decorator(ATTENTION, name)


def register_latent(name: str, settings: type) -> Callable:
    """A latent and the frozen dataclass of its settings, which are the table [model.latent] of a recipe."""

    def register(part: type) -> type:
        part.Settings = settings
        LATENTS.register(name, part)
        return part

    return register


def register_neuron(name: str) -> Callable:
    """Neurons: a function without arguments that makes a `nn.Neuron`, or a module of currents (T, ...) to spikes."""
    return _decorator(NEURONS, name)


def register_readout(name: str) -> Callable:
    """Time weights of the output: a function of T that gives them, (T,)."""
    return _decorator(READOUTS, name)


def register_dataset(name: str) -> Callable:
    """A data set: a function of (split, root) that gives an `ImageSet`, an array (N, C, H, W), or (array, labels)."""
    return _decorator(DATASETS, name)


def load_plugin(file: str | Path) -> None:
    """Runs a Python file that registers parts. UserError, one line, if it is not there or fails."""
    path = Path(file)
    if not path.is_file():
        raise MissingFile(f"{path}: no such plugin; a Python file is wanted")
    name = f"tcja_gen_plugin_{path.stem}"
    spec = importlib.util.spec_from_file_location(name, path.absolute())
    if spec is None:
        raise UserError(f"{path}: a plugin is a Python file, named .py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # dataclasses look their module up
    try:
        spec.loader.exec_module(module)
    except UserError:
        raise
    except Exception as error:
        raise UserError(f"{path}: this plugin fails: {type(error).__name__}: {error}") from error


def plugins() -> dict[str, str]:
    """The files, by name, that registered parts from outside of the package, and the SHA-256 of each."""
    files = {registry.source(name) for registry in REGISTRIES for name in registry.from_plugins()}
    return {file.name: hashlib.sha256(file.read_bytes()).hexdigest() for file in sorted(files) if file.is_file()}
