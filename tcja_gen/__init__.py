"""Train spiking image generators with temporal-channel joint attention, sample from them, score them.

>>> import tcja_gen as tg
>>> run = tg.train(data="digits", steps=2000)           # doctest: +SKIP
>>> model = tg.load(run.folder)                         # doctest: +SKIP
>>> images = model.sample(seeds=range(64))              # doctest: +SKIP
>>> tg.evaluate(model, "digits", metrics=["fad"])       # doctest: +SKIP

Nothing heavy is imported until one of these is used.
"""

import os as _os

if not {"GOMP_SPINCOUNT", "OMP_WAIT_POLICY"} & _os.environ.keys():
    # libgomp, which reads it when torch is loaded, spins 300,000 times (milliseconds) while a thread waits for another:
    # beside processes that are busy, too, threads then wait for one that is kept from running by those that wait
    _os.environ["GOMP_SPINCOUNT"] = "10000"

__version__ = "0.1.0"
__all__ = ["evaluate", "load", "pretrained", "reference", "resume", "train"]

_ROOMS = {
    "train": "training",
    "resume": "training",
    "load": "models",
    "pretrained": "models",
    "evaluate": "evaluation",
    "reference": "evaluation",
}


def __getattr__(name: str):
    if name not in _ROOMS:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(f".{_ROOMS[name]}", __name__), name)
