"""The parts of a model that can be exported. Each is a module from tensors to a tensor, batch first.

    encoder      images [, numbers]  -> z          (N, T, L), or (N, T, L, h, w) of a spatial latent; `model.encode`
    decoder      z                   -> images     (N, C, H, W) in [0, 1]; `model.decode`
    sampler      numbers [, classes] -> images     new ones from the prior; `model.sample`
    classifier   images or frames    -> scores     (N, K), the mean over time of `model.classify`
    all          a generator: images [, numbers] -> reconstructions, `model.reconstruct`; a classifier: as `classifier`

Images are (N, C, H, W) in [0, 1], frames (N, T, 2, H, W) are event counts. A graph cannot draw numbers that belong to a
seed. Whoever runs it gives them, uniform in [0, 1) or from N(0, 1): any numbers will do, and those of
`nn.draws.ImageDraws(seeds)` give what the model gives for these seeds.

The prior of spatial codes fills in tokens round by round. What it computes depends on what was drawn, which is a
program and no graph, so there is no sampler of it.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ..errors import UserError
from ..models import SpikingClassifier, SpikingVAE
from ..models.vae import to_unit
from ..nn import CodeLatent, ImageDraws
from ..nn.draws import GivenDraws, NotedDraws

PARTS = ("all", "encoder", "decoder", "sampler", "classifier")
EXAMPLES = 2  # images in the pass that is traced


@dataclass(frozen=True)
class Part:
    """A part with examples of its inputs. inputs: tensors by name; meanings: a line of text for each of them and for
    the output."""

    module: nn.Module
    inputs: dict[str, Tensor]
    output: str
    meanings: dict[str, str]


class _Function(nn.Module):
    """A function of some modules as a module. Only these modules' weights are exported."""

    def __init__(self, function: Callable[..., Tensor], **modules: nn.Module):
        super().__init__()
        self.function = function
        for name, module in modules.items():
            self.add_module(name, module)

    def forward(self, *inputs: Tensor) -> Tensor:
        return self.function(*inputs)


IMAGES = "float32 in [0, 1], (N, C, H, W)"
FRAMES = "event counts, float32, (N, T, 2, H, W)"
LATENTS = {True: "spikes, 0 or 1, float32, (N, T, L) or (N, T, L, h, w)", False: "float32, (N, T, L)"}
SCORES = "float32, (N, K): mean over time of the outputs; the class is that of the largest"
NUMBERS = {"uniform": "uniform in [0, 1), float32", "normal": "from N(0, 1), float32"}


def make_part(model: nn.Module, name: str) -> Part:
    """A part of a model by name, see `PARTS`. UserError if the model has no such part."""
    if name not in PARTS:
        raise UserError(f"unknown part {name!r}; known: {', '.join(PARTS)}")
    if isinstance(model, SpikingClassifier):
        if name not in ("all", "classifier"):
            raise UserError(f"a classifier has no {name}; --part classifier is the whole of it")
        return _classifier(model, model.head)
    if model.full_count:
        raise UserError("a generator of event frames has no part that can be exported: all of them are of images")
    if name == "classifier" and model.head is None:
        raise UserError("this generator names no classes; one trained with model.head does")
    if name == "classifier":
        return _classifier(model, model.head)
    return {"all": _reconstructor, "encoder": _encoder, "decoder": _decoder, "sampler": _sampler}[name](model)


def _encoder(model: SpikingVAE) -> Part:
    return _with_numbers(
        lambda draws, x: model.infer(2 * x - 1, draws).transpose(0, 1),
        {"encoder": model.encoder, "latent": model.latent},
        {"images": _images(model)},
        ("z", LATENTS[model.latent.spiking]),
    )


def _decoder(model: SpikingVAE) -> Part:
    z = model.encode(_images(model))
    module = _Function(lambda z: to_unit(model.decoder(z.transpose(0, 1))), decoder=model.decoder)
    return Part(module, {"z": z}, "images", {"z": LATENTS[model.latent.spiking], "images": IMAGES})


def _reconstructor(model: SpikingVAE) -> Part:
    return _with_numbers(
        lambda draws, x: to_unit(model.decoder(model.infer(2 * x - 1, draws))),
        {"model": model},
        {"images": _images(model)},
        ("reconstructions", IMAGES),
    )


def _sampler(model: SpikingVAE) -> Part:
    model.check_prior()
    if isinstance(model.latent, CodeLatent):
        raise UserError(
            "the prior of spatial codes fills in tokens round by round, which is a program and no graph; "
            "export encoder and decoder, and sample with tcja_gen"
        )

    def sample(draws, classes: Tensor | None = None) -> Tensor:
        y = None if classes is None else nn.functional.one_hot(classes, model.classes).float()
        return to_unit(model.decoder(model.latent.sample(draws, y)))

    classes = {"classes": torch.arange(EXAMPLES) % model.classes} if model.classes else {}
    return _with_numbers(sample, {"latent": model.latent, "decoder": model.decoder}, classes, ("images", IMAGES))


def _classifier(model: SpikingVAE | SpikingClassifier, head: nn.Module) -> Part:
    events = model.image_channels == 2

    def scores(x: Tensor) -> Tensor:
        return head(model.encoder(x.transpose(0, 1) if events else 2 * x - 1)).float().mean(0)

    module = _Function(scores, encoder=model.encoder, head=head)
    x = {"frames": _frames(model)} if events else {"images": _images(model)}
    return Part(module, x, "scores", {"frames" if events else "images": FRAMES if events else IMAGES, "scores": SCORES})


def _with_numbers(
    function: Callable[..., Tensor], modules: dict[str, nn.Module], inputs: dict[str, Tensor], output: tuple[str, str]
) -> Part:
    """The part that computes function(draws, *inputs). Every call of the draws becomes an input."""
    noted, names = NotedDraws(ImageDraws(range(EXAMPLES))), list(inputs)
    function(noted, *inputs.values())
    drawn, numbers = ImageDraws(range(EXAMPLES)), {}
    for stream, kind, shape in noted.calls:
        name = kind if kind not in numbers else f"{kind}{len(numbers)}"
        numbers[name] = getattr(drawn.stream(stream) if stream else drawn, kind)(*shape)

    def computed(*given: Tensor) -> Tensor:
        return function(GivenDraws(given[len(names) :]), *given[: len(names)])

    words = {name: IMAGES if name == "images" else "class of each image, int64, (N,)" for name in names}
    words |= {name: NUMBERS[name.rstrip("0123456789")] for name in numbers}
    return Part(_Function(computed, **modules), inputs | numbers, output[0], words | {output[0]: output[1]})


def _images(model: nn.Module) -> Tensor:
    return torch.rand(EXAMPLES, model.image_channels, model.image_size, model.image_width)


def _frames(model: nn.Module) -> Tensor:
    return torch.rand(EXAMPLES, model.time_steps, model.image_channels, model.image_size, model.image_width)
