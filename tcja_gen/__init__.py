"""Train spiking image generators with temporal-channel joint attention, sample from them, score them.

>>> import tcja_gen as tg
>>> run = tg.train(data="digits", steps=2000)           # doctest: +SKIP
>>> model = tg.load(run.folder)                         # doctest: +SKIP
>>> images = model.sample(seeds=range(64))              # doctest: +SKIP
>>> tg.evaluate(model, "digits", metrics=["fad"])       # doctest: +SKIP

Nothing heavy is imported until one of these is used.
"""

__version__ = "0.1.0"
__all__ = ["evaluate", "load", "pretrained", "reference", "resume", "train"]

_ROOMS = {
    "train": "training",
    "resume": "training",
    "load": "models",
    "pretrained": "models.pretrained",
    "evaluate": "evaluation",
    "reference": "evaluation",
}


def __getattr__(name: str):
    if name not in _ROOMS:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(f".{_ROOMS[name]}", __name__), name)
