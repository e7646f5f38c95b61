"""Names of parts: the words that a notation, a recipe and a checkpoint may use, from the package or from a plugin.

    @register_attention("SQUASH")     a word of the notation         class of (time_steps, channels), see `nn.Gate`
    @register_latent("mine", Mine)    [model.latent] kind = "mine"   class of (settings, context), see `nn.latents`
    @register_neuron("mine")          [model] neuron = "mine"        function of nothing -> neurons, see `nn.neurons`
    @register_readout("mine")         [model] readout = "mine"       function of T -> weights (T,), see `nn.readouts`
    @register_dataset("mine")         data = "mine"                  function of (split, root) -> images, see
                                                                     `data.image_sets`

The package registers its own parts in the same way. A plugin is a Python file with such lines. On the command line
`--plugin FILE` runs it; in Python it is imported like any module, or run by `load_plugin`. A checkpoint keeps the name
and the hash of the plugins that it uses. Loading it never runs a plugin; an error names the one that is missing.
"""

import hashlib
import importlib.util
import inspect
import re
import sys
import traceback
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from .errors import MissingFile, UserError

PACKAGE = Path(__file__).resolve().parent


@dataclass(frozen=True)
class Source:
    """The file that registered a part, and its SHA-256 at that moment; "" for the package's own files."""

    file: Path
    sha: str

    @classmethod
    def of(cls, part: Any) -> "Source":
        try:
            file = Path(inspect.getsourcefile(part) or "").resolve()
        except (OSError, TypeError):  # a class of an interactive session
            file = Path()
        if not file.is_file():
            return cls(Path("a notebook"), "")
        return cls(file, "" if file.is_relative_to(PACKAGE) else hashlib.sha256(file.read_bytes()).hexdigest())


class Registry:
    """Parts of one kind by name.

    what: the kind, as messages call it. arguments: what a part is called with; optional: what it may take beside them.
    """

    def __init__(self, what: str, arguments: tuple[str, ...], optional: tuple[str, ...] = ()):
        self.what, self.arguments, self.optional = what, arguments, optional
        self._parts: dict[str, Any] = {}
        self._sources: dict[str, Source] = {}

    def register(self, name: str, part: Any) -> None:
        """UserError if another file has registered the name; the same file may do so again (a notebook's cell)."""
        source = Source.of(part)
        if name in self._parts and self._sources[name].file != source.file:
            raise UserError(
                f"{source.file.name}: {self.what} {name!r} is registered already, by {self._sources[name].file.name}; "
                "take another name"
            )
        self._parts[name], self._sources[name] = part, source

    def check_arguments(self, name: str, part: Any) -> None:
        """UserError for a part that cannot be called as it will be."""
        try:
            signature = inspect.signature(part)
            signature.bind(*self.arguments, **{key: key for key in self.optional if key in signature.parameters})
        except TypeError as error:
            raise UserError(f"{self.what} {name!r} is called with ({', '.join(self.arguments)}): {error}") from None

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
        return [name for name, source in self._sources.items() if not source.file.is_relative_to(PACKAGE)]

    def source(self, name: str) -> Source:
        """Where the name was registered."""
        return self._sources[name]


ATTENTION = Registry("attention", ("time_steps", "channels"), optional=("k_time", "k_channel"))
LATENTS = Registry("latent", ("settings", "context"))
NEURONS = Registry("neuron", ())
READOUTS = Registry("readout", ("time_steps",))
DATASETS = Registry("data set", ("split", "root"))
REGISTRIES = (ATTENTION, LATENTS, NEURONS, READOUTS, DATASETS)


def _decorator(registry: Registry, name: str) -> Callable:
    def register(part):
        registry.check_arguments(name, part)
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
    """A latent, a subclass of `nn.Latent`, and its settings, a frozen dataclass derived from `nn.LatentSettings`, which
    are the table [model.latent] of a recipe."""
    if "__dataclass_fields__" not in vars(settings):
        raise UserError(f"latent {name!r}: {settings.__name__} is no dataclass; write @dataclass(frozen=True) above it")
    if lacking := {"channels", "divergence_weight"} - {f.name for f in fields(settings)}:
        told = f"lacks {' and '.join(sorted(lacking))}; derive it from nn.LatentSettings, which has them"
        raise UserError(f"latent {name!r}: {settings.__name__} {told}")

    def register(part: type) -> type:
        if abstract := getattr(part, "__abstractmethods__", ()):
            raise UserError(f"latent {name!r}: {part.__name__} lacks {', '.join(sorted(abstract))} of nn.Latent")
        part.Settings = settings
        return _decorator(LATENTS, name)(part)

    return register


def register_neuron(name: str) -> Callable:
    """Neurons: a function without arguments that makes a `nn.Neuron`, or a module of currents (T, ...) to spikes."""
    return _decorator(NEURONS, name)


def register_readout(name: str) -> Callable:
    """Time weights of the output: a function of T that gives them, (T,)."""
    return _decorator(READOUTS, name)


def register_dataset(name: str) -> Callable:
    """A data set: a function of (split, root) that gives the images of "train", "validation" or "test", an `ImageSet`,
    an array (N, C, H, W) or (array, labels); None for a split that is to be held out of the training images."""
    return _decorator(DATASETS, name)


# plugins


def load_plugin(file: str | Path) -> None:
    """Runs a Python file that registers parts. UserError, one line, if it is not there or fails."""
    path = Path(file)
    if not path.is_file():
        raise MissingFile(f"{path}: no such plugin; a Python file is wanted")
    name = f"plugin {path.resolve()}"  # two files of one name are two modules
    spec = importlib.util.spec_from_file_location(name, path.resolve())
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


def plugins(settings: Mapping[str, Any] | None = None) -> dict[str, str]:
    """The files, by name, that registered parts from outside of the package, and the SHA-256 of each.

    settings: a nested table; only the files whose parts are named in it.
    """
    words = None if settings is None else set(_words(settings))
    sources = [
        registry.source(name)
        for registry in REGISTRIES
        for name in registry.from_plugins()
        if words is None or name in words
    ]
    return {source.file.name: source.sha for source in sorted(sources, key=lambda source: source.file)}


def _words(value: Any) -> Iterator[str]:
    """The texts in a nested table, and the words of those that are notations."""
    if isinstance(value, Mapping):
        for each in value.values():
            yield from _words(each)
    elif isinstance(value, str):
        yield value
        yield from re.findall("[A-Za-z0-9]+", value)


def missing(wanted: Mapping[str, str]) -> str:
    """What to do about plugins that a checkpoint uses, {file: SHA-256}, and that are not there; nothing if all are."""
    files = [name for name in wanted if name not in plugins()]
    if not files:
        return ""
    return f"it uses parts of {', '.join(files)}: name the file by --plugin, in Python by tg.load_plugin"


def changed(wanted: Mapping[str, str]) -> list[str]:
    """Those of the plugins, {file: SHA-256}, that are there in another version, in words."""
    here = plugins()
    return [
        f"{name} is another version (SHA-256 {here[name][:12]}...) than it was trained with ({sha[:12]}...)"
        for name, sha in wanted.items()
        if here.get(name, sha) != sha
    ]


def place_of(error: BaseException) -> str:
    """The line of a plugin that raised an error, or called what raised it: "parts.py, line 12"; "" if there is none."""
    files = {registry.source(name).file for registry in REGISTRIES for name in registry.from_plugins()}
    calls = [call for call in traceback.extract_tb(error.__traceback__) if Path(call.filename).resolve() in files]
    return f"{Path(calls[-1].filename).name}, line {calls[-1].lineno}" if calls else ""
