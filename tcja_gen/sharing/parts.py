"""The parts of a model that can be exported. Each is a module from tensors to a tensor, batch first.

    encoder      images [, numbers]  -> z          (N, T, L), or (N, T, L, h, w) of a spatial latent; `model.encode`
    decoder      z                   -> images     `model.decode`
    sampler      numbers [, classes] -> images     new ones from the prior; `model.sample`
    prior        z, known [, classes] -> logits    (N, P, G, 2^bits), of spatial codes; `model.latent.logits`
    classifier   images              -> scores     (N, K), the mean over time of `model.classify`
    all          a generator: images [, numbers] -> reconstructions, `model.reconstruct`; a classifier: as `classifier`

Images are (N, C, H, W) in [0, 1]. A model of event recordings has frames in their place, event counts (N, T, 2, H, W).
A graph cannot draw numbers that belong to a seed. Whoever runs it gives them, uniform in [0, 1) or from N(0, 1): any
numbers will do, and those of `nn.draws.ImageDraws(seeds)` give what the model gives for these seeds.

The prior of spatial codes fills in tokens round by round, each from those that were drawn before. That is a loop around
a graph, so its part is one pass of it, and the file says which places each round fills in.
"""

from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from ..errors import UserError
from ..models import SpikingClassifier, SpikingVAE
from ..models.vae import time_first
from ..nn import CodeLatent, ImageDraws
from ..nn.draws import GivenDraws, NotedDraws

PARTS = ("all", "encoder", "decoder", "sampler", "prior", "classifier")
EXAMPLES = 2  # images in the pass that is traced


@dataclass(frozen=True)
class Part:
    """A part with examples of its inputs. inputs: tensors by name; meanings: a line of text for each of them and for
    the output; facts: what else its user must know, as JSON can hold it."""

    module: nn.Module
    inputs: dict[str, Tensor]
    output: str
    meanings: dict[str, str]
    facts: dict = field(default_factory=dict)


class _Function(nn.Module):
    """A function of some modules as a module. Only these modules' weights are exported."""

    def __init__(self, function: Callable[..., Tensor], **modules: nn.Module):
        super().__init__()
        self.function = function
        for name, module in modules.items():
            self.add_module(name, module)

    def forward(self, *inputs: Tensor) -> Tensor:
        return self.function(*inputs)


SAMPLES = {"images": "float32 in [0, 1], (N, C, H, W)", "frames": "event counts, float32, (N, T, 2, H, W)"}
LATENTS = {True: "spikes, 0 or 1, float32, (N, T, L) or (N, T, L, h, w)", False: "float32, (N, T, L)"}
SCORES = "float32, (N, K): mean over time of the outputs; the class is that of the largest"
KNOWN = "bool, (N, h, w): places whose codes may be looked at"
LOGITS = "float32, (N, P, G, 2^bits), of every group of bits at the places, row by row, given the earlier groups in z"
NUMBERS = {"uniform": "uniform in [0, 1), float32", "normal": "from N(0, 1), float32"}


def make_part(model: nn.Module, name: str) -> Part:
    """A part of a model by name, see `PARTS`. UserError if the model has no such part."""
    if name not in PARTS:
        raise UserError(f"unknown part {name!r}; known: {', '.join(PARTS)}")
    if isinstance(model, SpikingClassifier):
        if name not in ("all", "classifier"):
            raise UserError(f"a classifier has no {name}; --part classifier is the whole of it")
        return _classifier(model, model.head)
    if name == "classifier" and model.head is None:
        raise UserError("this generator names no classes; one trained with model.head does")
    if name == "classifier":
        return _classifier(model, model.head)
    makers = {"all": _reconstructor, "encoder": _encoder, "decoder": _decoder, "sampler": _sampler, "prior": _prior}
    return makers[name](model)


def _encoder(model: SpikingVAE) -> Part:
    return _with_numbers(
        lambda draws, x: model.infer(_input(model, x), draws).transpose(0, 1),
        {"encoder": model.encoder, "latent": model.latent},
        _samples(model),
        ("z", LATENTS[model.latent.spiking]),
    )


def _decoder(model: SpikingVAE) -> Part:
    [(name, examples)] = _samples(model).items()
    module = _Function(lambda z: model.as_output(model.decoder(z.transpose(0, 1))), decoder=model.decoder)
    return Part(module, {"z": model.encode(examples)}, name, {"z": LATENTS[model.latent.spiking], name: SAMPLES[name]})


def _reconstructor(model: SpikingVAE) -> Part:
    return _with_numbers(
        lambda draws, x: model.as_output(model.decoder(model.infer(_input(model, x), draws))),
        {"model": model},
        _samples(model),
        ("reconstructions", SAMPLES[_name(model)]),
    )


def _sampler(model: SpikingVAE) -> Part:
    model.check_prior()
    if isinstance(model.latent, CodeLatent):
        raise UserError(
            "the prior of spatial codes fills in tokens round by round, which is a program and no graph; "
            "export --part prior and --part decoder: the guide's page on export has the loop"
        )

    def sample(draws, classes: Tensor | None = None) -> Tensor:
        y = None if classes is None else _one_hot(classes, model)
        return model.as_output(model.decoder(model.latent.sample(draws, y)))

    classes, name = {"classes": torch.arange(EXAMPLES) % model.classes} if model.classes else {}, _name(model)
    return _with_numbers(sample, {"latent": model.latent, "decoder": model.decoder}, classes, (name, SAMPLES[name]))


def _prior(model: SpikingVAE) -> Part:
    latent = model.latent
    model.check_prior()
    if not isinstance(latent, CodeLatent):
        raise UserError("this prior draws its latent at once: --part sampler has the whole of it")

    def logits(z: Tensor, known: Tensor, classes: Tensor | None = None) -> Tensor:
        y = None if classes is None else _one_hot(classes.clamp(min=0), model) * (classes >= 0)[:, None]
        return latent.logits(z.transpose(0, 1), known.flatten(1), y)

    z = model.encode(*_samples(model).values())
    known, classes = torch.zeros(EXAMPLES, *latent.sides, dtype=torch.bool), torch.arange(EXAMPLES) - 1
    inputs = {"z": z, "known": known} | ({"classes": classes} if model.classes else {})
    words = {"z": LATENTS[True], "known": KNOWN} | ({"classes": "int64, (N,); -1: none"} if model.classes else {})
    facts = latent.sampling | {"rounds": [places.tolist() for places in latent.places_of_rounds()]}
    facts |= {"first_guided_round": latent.first_guided_round} if model.classes else {}
    return Part(_Function(logits, latent=latent), inputs, "logits", words | {"logits": LOGITS}, {"sampling": facts})


def _classifier(model: SpikingVAE | SpikingClassifier, head: nn.Module) -> Part:
    def scores(x: Tensor) -> Tensor:
        return head(model.encoder(_input(model, x))).float().mean(0)

    module = _Function(scores, encoder=model.encoder, head=head)
    return Part(module, _samples(model), "scores", {_name(model): SAMPLES[_name(model)], "scores": SCORES})


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

    words = {name: SAMPLES.get(name, "class of each image, int64, (N,)") for name in names}
    words |= {name: NUMBERS[name.rstrip("0123456789")] for name in numbers}
    return Part(_Function(computed, **modules), inputs | numbers, output[0], words | {output[0]: output[1]})


def _one_hot(classes: Tensor, model: SpikingVAE) -> Tensor:
    return nn.functional.one_hot(classes, model.classes).float()


def _name(model: nn.Module) -> str:
    """What a model takes, or makes, by its name in `SAMPLES`."""
    return "frames" if model.image_channels == 2 else "images"


def _samples(model: nn.Module) -> dict[str, Tensor]:
    """Examples of these by their name."""
    name, time = _name(model), (model.time_steps,) if model.image_channels == 2 else ()
    return {name: torch.rand(EXAMPLES, *time, model.image_channels, model.image_size, model.image_width)}


def _input(model: nn.Module, x: Tensor) -> Tensor:
    return time_first(model.as_input(x))
