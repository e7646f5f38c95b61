"""Names of parts: the words that a notation, a recipe or a checkpoint may use, from the package or from a plugin.

    @register_attention("SQUASH")     a word of the notation         class of (time_steps, channels), see `nn.Gate`
                                                                     and `nn.CurrentGate`
    @register_latent("mine", Mine)    [model.latent] kind = "mine"   class of (settings, context), see `nn.latents`
    @register_neuron("mine")          [model] neuron = "mine"        function without arguments, see `nn.neurons`
    @register_readout("mine")         [model] readout = "mine"       function of T -> weights (T,), of frames (T, T); or
                                                                     of (T, channels) -> `nn.Gate`, see `nn.readouts`
    @register_dataset("mine")         data = "mine"                  function of (split, root) -> images, see
                                                                     `data.image_sets`
    @register_frames("mine")          events_by = "mine"             function of (events, time_steps, size) -> frames
                                                                     (T, 2, H, W), see `data.events.integrate`

The package registers its own parts in the same way. A plugin is a Python file with such lines. On the command line
`--plugin FILE` runs it. In Python it is imported like any module, or run by `load_plugin`. A checkpoint stores the name
and the SHA-256 of the plugins that it uses. Loading a checkpoint never runs a plugin; an error names a missing one.
"""

import hashlib
import importlib.util
import inspect
import re
import sys
import traceback
import typing
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from .errors import MissingFile, UserError

PACKAGE = Path(__file__).resolve().parent


@dataclass(frozen=True)
class Source:
    """The file that registered a part, and its SHA-256 at that moment ("" for the package's own files)."""

    file: Path
    sha: str

    @classmethod
    def of(cls, part: Any) -> "Source":
        part = inspect.unwrap(getattr(part, "func", part))  # of functools.partial, of functools.cache
        try:
            file = Path(inspect.getsourcefile(part) or "").resolve()
        except (OSError, TypeError):  # a class from an interactive session
            file = Path()
        if not file.is_file():
            return cls(Path("a notebook"), "")
        return cls(file, "" if file.is_relative_to(PACKAGE) else hashlib.sha256(file.read_bytes()).hexdigest())


class Registry:
    """Parts of one kind by name.

    what: the kind, as messages name it. arguments: what a part is called with. optional: arguments it may also take.
    """

    def __init__(self, what: str, arguments: tuple[str, ...], optional: tuple[str, ...] = ()):
        self.what, self.arguments, self.optional = what, arguments, optional
        self._parts: dict[str, Any] = {}
        self._sources: dict[str, Source] = {}

    def register(self, name: str, part: Any) -> None:
        """Adds a part. UserError if another file has registered the name; the same file may replace it (as a notebook
        does when a cell runs again)."""
        source = Source.of(part)
        if name in self._parts and self._sources[name].file != source.file:
            raise UserError(
                f"{source.file.name}: {self.what} {name!r} is registered already, by {self._sources[name].file.name}; "
                "take another name"
            )
        self._parts[name], self._sources[name] = part, source

    def check_arguments(self, name: str, part: Any) -> None:
        """UserError if the part cannot be called with the arguments of this registry."""
        try:
            signature = inspect.signature(part)
            signature.bind(*self.arguments, **{key: key for key in self.optional if key in signature.parameters})
        except TypeError as error:
            raise UserError(f"{self.what} {name!r} is called with ({', '.join(self.arguments)}): {error}") from None

    def __getitem__(self, name: str) -> Any:
        """The part of this name. UserError for an unknown name; it lists the known ones."""
        if name not in self._parts:
            known = ", ".join(self._parts)
            raise UserError(f"unknown {self.what} {name!r}; known: {known}; --plugin FILE adds the parts of a file")
        return self._parts[name]

    def __contains__(self, name: str) -> bool:
        return name in self._parts

    def __iter__(self) -> Iterator[str]:
        return iter(self._parts)

    def name_of(self, part: Any) -> str:
        """The name under which `part` is registered."""
        return next(name for name, known in self._parts.items() if known is part)

    def from_plugins(self) -> list[str]:
        """Names that were registered outside the package."""
        return [name for name, source in self._sources.items() if not source.file.is_relative_to(PACKAGE)]

    def source(self, name: str) -> Source:
        """Where the name was registered."""
        return self._sources[name]


ATTENTION = Registry("attention", ("time_steps", "channels"), optional=("k_time", "k_channel"))
LATENTS = Registry("latent", ("settings", "context"))
NEURONS = Registry("neuron", ())
READOUTS = Registry("readout", ("time_steps",), optional=("channels",))
DATASETS = Registry("data set", ("split", "root"))
FRAMES = Registry("frames", ("events", "time_steps", "size"))
REGISTRIES = (ATTENTION, LATENTS, NEURONS, READOUTS, DATASETS, FRAMES)


def _decorator(registry: Registry, name: str) -> Callable:
    def register(part):
        registry.check_arguments(name, part)
        registry.register(name, part)
        return part

    return register


def register_attention(name: str) -> Callable:
    """Registers an attention block as a word of the notation.

    The decorated class is called with (time_steps, channels), and with `k_time` and `k_channel` if it has kernels. It
    maps (T, N, C, H, W) to the same shape and draws no random numbers; an `nn.CurrentGate` maps mean currents (T, N, C)
    to factors of the currents. The name has letters and digits, and starts and ends with a letter, so that it cannot be
    another word (MP2, U2, 10L). UserError for any other name.
    """
    if not re.fullmatch("[A-Za-z]([A-Za-z0-9]*[A-Za-z])?", name):
        raise UserError(f"attention {name!r}: the name has letters and digits only, a letter first and last")
    return _decorator(ATTENTION, name)


def register_latent(name: str, settings: type) -> Callable:
    """Registers a latent, a subclass of `nn.Latent`, with its settings.

    settings: a frozen dataclass derived from `nn.LatentSettings`. Its fields are the keys of the table [model.latent]
    in a recipe. UserError if the settings are no such dataclass or the class lacks a method of `nn.Latent`.
    """
    if "__dataclass_fields__" not in vars(settings):
        raise UserError(
            f"latent {name!r}: {settings.__name__} is not a dataclass; write @dataclass(frozen=True) above it"
        )
    if lacking := {"channels", "divergence_weight"} - {f.name for f in fields(settings)}:
        problem = f"lacks {' and '.join(sorted(lacking))}; derive it from nn.LatentSettings, which has them"
        raise UserError(f"latent {name!r}: {settings.__name__} {problem}")

    kinds = typing.get_type_hints(settings)
    for f in fields(settings):
        f.type = kinds[f.name]  # a text where the file says `from __future__ import annotations`

    def register(part: type) -> type:
        if abstract := getattr(part, "__abstractmethods__", ()):
            raise UserError(f"latent {name!r}: {part.__name__} lacks {', '.join(sorted(abstract))} of nn.Latent")
        part.Settings = settings
        return _decorator(LATENTS, name)(part)

    return register


def register_neuron(name: str) -> Callable:
    """Registers a neuron: a function without arguments that returns an `nn.Neuron`, or a module that maps currents
    (T, ...) to spikes of the same shape."""
    return _decorator(NEURONS, name)


def register_readout(name: str) -> Callable:
    """Registers a readout: a function of `time_steps` that returns the weights (T,) of the output's time steps, or of
    (time_steps, channels) that returns an `nn.Gate`, which makes them from the output's mean currents (T, N, C).
    Weights (T, T) make event frames: row t has those of frame t, where their training starts."""
    return _decorator(READOUTS, name)


def register_dataset(name: str) -> Callable:
    """Registers a data set: a function of (split, root) that returns the images of "train", "validation" or "test".

    It returns an `ImageSet`, an array (N, C, H, W), or (array, labels). For a split that does not exist it returns
    None; that split is then held out of the training images.
    """
    return _decorator(DATASETS, name)


def register_frames(name: str) -> Callable:
    """Registers a way to make frames of event recordings: a function of (events, time_steps, size).

    events: `data.Events`, in order of time. size: (H, W) of the sensor. It returns T frames of integers from 0 on,
    (T, 2, H, W). Where a model wants fewer pixels, neighbouring values are added up.
    """
    return _decorator(FRAMES, name)


# plugins


def load_plugin(file: str | Path) -> None:
    """Runs a Python file that registers parts. MissingFile if it does not exist, UserError if it fails."""
    path = Path(file)
    if not path.is_file():
        raise MissingFile(f"{path}: no such plugin; give a Python file")
    name = f"plugin {path.resolve()}"  # two files with the same name are two modules
    spec = importlib.util.spec_from_file_location(name, path.resolve())
    if spec is None:
        raise UserError(f"{path}: a plugin is a Python file, its name ends in .py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # `dataclass` looks the module up
    try:
        spec.loader.exec_module(module)
    except UserError:
        raise
    except (Exception, SystemExit) as error:
        raise UserError(f"{path}: this plugin fails: {type(error).__name__}: {error}") from error


def plugins(settings: Mapping[str, Any] | None = None) -> dict[str, str]:
    """The files outside the package that registered parts: {file name: SHA-256}.

    settings: a nested table; if given, only the files whose parts it names.
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
    """All texts in a nested table, and the single words in them."""
    if isinstance(value, Mapping):
        for each in value.values():
            yield from _words(each)
    elif isinstance(value, str):
        yield value
        yield from re.findall("[A-Za-z0-9]+", value)


def missing_plugins(used: Mapping[str, str]) -> str:
    """Advice on plugins that a checkpoint uses but that are not loaded; "" if all are. used: {file name: SHA-256}."""
    files = [name for name in used if name not in plugins()]
    if not files:
        return ""
    return f"it uses parts of {', '.join(files)}: name the file by --plugin, in Python by tg.load_plugin"


def changed_plugins(used: Mapping[str, str]) -> list[str]:
    """A line for each plugin that is loaded in another version than a checkpoint used. used: {file name: SHA-256}."""
    loaded = plugins()
    return [
        f"{name} is another version (SHA-256 {loaded[name][:12]}...) than it was trained with ({sha[:12]}...)"
        for name, sha in used.items()
        if loaded.get(name, sha) != sha
    ]


def plugin_line(error: BaseException) -> str:
    """The last line of a plugin in an error's traceback, as "parts.py, line 12"; "" if there is none."""
    files = {registry.source(name).file for registry in REGISTRIES for name in registry.from_plugins()}
    calls = [call for call in traceback.extract_tb(error.__traceback__) if Path(call.filename).resolve() in files]
    return f"{Path(calls[-1].filename).name}, line {calls[-1].lineno}" if calls else ""
