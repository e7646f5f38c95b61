"""Train spiking image generators with temporal-channel joint attention, sample from them, score them.

>>> import tcja_gen as tg
>>> run = tg.train(data="digits", steps=2000)           # doctest: +SKIP
>>> model = tg.load(run.folder)                         # doctest: +SKIP
>>> tg.grid(model.sample(seeds=range(64)))              # doctest: +SKIP
>>> tg.evaluate(model, "digits", metrics=["fad"])       # doctest: +SKIP

Every name is imported when it is first used, so `import tcja_gen` alone does not import torch.
"""

from importlib import import_module

__version__ = "0.1.0"

_ROOMS = {
    "training": ("Config", "resume", "train"),
    "training.loop": ("Run",),
    "models": ("SpikingClassifier", "SpikingVAE", "build", "load"),
    "models.pretrained": ("pretrained",),
    "evaluation": ("evaluate", "reference"),
    "evaluation.notebook": ("grid",),
    "sharing": ("export", "push"),
    "data": ("ImageSet", "load_images"),
    "nn": (
        "TCJA",
        "BernoulliLatent",
        "BernoulliSettings",
        "CodeLatent",
        "CodeSettings",
        "GaussianLatent",
        "GaussianSettings",
        "Latent",
        "LatentSettings",
        "Neuron",
        "PoissonLatent",
        "PoissonSettings",
        "SpikingDecoder",
        "SpikingEncoder",
        "lif",
        "lif_step",
    ),
    "registry": (
        "load_plugin",
        "register_attention",
        "register_dataset",
        "register_frames",
        "register_latent",
        "register_neuron",
        "register_readout",
    ),
}
_ROOM_OF = {name: room for room, names in _ROOMS.items() for name in names}
__all__ = sorted(_ROOM_OF)


def __getattr__(name: str):
    if name not in _ROOM_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f".{_ROOM_OF[name]}", __name__), name)


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
