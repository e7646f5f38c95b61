"""The fully spiking variational autoencoder with temporal-channel joint attention.

The frame is FSVAE (Kamata, Mukuta, Harada, AAAI 2022): spiking encoder, latent (`nn.latents`: FSVAE's own, ESVAE's),
spiking decoder, linear readout. TCJA-SNN (Zhu et al., TNNLS 2024) adds its attention to it but does not say where;
here it stands behind every convolution of the encoder and of the decoder, which is our choice.

    x (N, C, H, W) in [-1, 1]
    h = encoder(x)                     (T, N, L)    stages of the notation, then a linear block
    z, divergence = latent.infer(h)    (T, N, L)
    y = decoder(z)                     (N, C, H, W) in (-1, 1)
    loss = mean (y - x)^2 + weight * divergence

With neuron "relu", T = 1 and a gaussian latent the same layers are an ANN, the VAE that those papers compare with.
Images outside of a model are floats in [0, 1].
"""

import math
from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor, nn

from ..errors import UserError
from ..nn import (
    ImageDraws,
    ScheduledSampling,
    SpikingDecoder,
    SpikingEncoder,
    SpikingHead,
    evaluating,
    make_latent,
    mirror,
    neuron_named,
)
from ..nn.draws import Draws
from ..nn.layers import Build, Flatten
from ..nn.objectives import accuracy, objective
from ..process import whole_fp32
from ..ranges import Range
from .inputs import check_classes, check_images, check_latents, check_precision, check_seeds, check_tensor

CHUNK = 64  # images a forward pass in use; always whole, so that an image never depends on the batch size
ROOM = 2**22  # numbers a channel in a chunk, at most: 64 images of 64 x 64 pixels at 16 time steps


class SpikingVAE(nn.Module):
    """Spiking VAE of `image_size` pixels a side.

    encoder: a notation of convolutions and attention; decoder: a notation, or "mirror". neuron: a preset's name, with
    `surrogate` (None: the preset's), or "relu". latent_kind: of `nn.LATENTS`; latent: its channels L.
    divergence_weight: of the divergence in the loss. readout: membrane or mean. k, divergence, passes, scheduled_*: of
    a bernoulli latent, see `nn.latents.bernoulli`; prior, rounds, temperature, flips: of codes, see
    `nn.latents.codes`.

    conditional: the prior is told which of `classes` classes to make. head: a notation that classifies by the
    encoder's spikes as well (joint training), its objective in the loss with weight `head_weight`.
    """

    kind = "generator"

    def __init__(
        self,
        image_size: int = 32,
        image_channels: int = 1,
        time_steps: int = 4,
        encoder: str = "32C3s2-TCJA-64C3s2-TCJA-128C3s2-TCJA-256C3s2-TCJA",
        decoder: str = "mirror",
        neuron: str = "tcja",
        surrogate: str | None = None,
        latent_kind: str = "bernoulli",
        latent: int = 128,
        k: int = 20,
        divergence: str = "mmd",
        divergence_weight: float = 1.0,
        readout: str = "membrane",
        passes: str = "steps",
        scheduled_start: float = 0.1,
        scheduled_end: float = 0.3,
        scheduled_first: int = 5,
        scheduled_replace: str = "draw",
        prior: str = "128C3-128R3[TCJA]-128R3[TCJA]-128R3[TCJA]-128R3[TCJA]",
        rounds: int = 16,
        temperature: float = 1.0,
        flips: float = 0.0,
        classes: int = 0,
        conditional: bool = False,
        head: str = "",
        head_weight: float = 1.0,
        objective: str = "ce",
        tet_weight: float = 1e-3,
        tet_mean: float = 1.0,
    ):
        super().__init__()
        if time_steps < 1:
            raise UserError(f"time_steps is {time_steps}, it must be at least 1")
        for name, weight in (("divergence_weight", divergence_weight), ("head_weight", head_weight)):
            Range(least=0).check(name, weight)
        Range(least=0, most=1).check("tet_weight", tet_weight)
        if conditional and classes < 1:
            raise UserError("a conditional generator needs classes, and the data have no labels")
        self.image_size, self.image_channels, self.time_steps = image_size, image_channels, time_steps
        self.divergence_weight, self.head_weight = divergence_weight, head_weight
        self.classes = classes if conditional else 0
        self.objective = {"kind": objective, "tet_weight": tet_weight, "tet_mean": tet_mean}
        self.provenance: dict = {}  # facts of the run that trained the weights, for records
        settings = neuron_named(neuron, surrogate)
        self.encoder = SpikingEncoder(encoder, image_channels, time_steps, settings, image_size)
        shape = self.encoder.shape
        self.latent = make_latent(
            latent_kind,
            latent,
            time_steps,
            neuron=settings,
            sides=shape[1:],
            prior=prior,
            rounds=rounds,
            temperature=temperature,
            flips=flips,
            k=k,
            divergence=divergence,
            passes=passes,
            scheduled=ScheduledSampling(scheduled_start, scheduled_end, scheduled_first, scheduled_replace),
            classes=self.classes,
        )
        spatial = self.latent.spatial
        self.flatten = nn.Identity() if spatial else Flatten()
        self.to_latent = self.latent.entry(shape[0] if spatial else math.prod(shape), Build(settings))
        decoder = mirror(encoder) if decoder == "mirror" else decoder
        self.decoder = SpikingDecoder(
            decoder, latent, shape, image_channels, time_steps, settings, image_size, readout, spatial
        )
        self.head = SpikingHead(head, shape, time_steps, Build(settings)) if head else None
        self.to(memory_format=torch.channels_last)  # what convolutions, neurons and gates all like best

    # training

    def forward(
        self,
        x: Tensor,
        draws: Draws,
        progress: float = 1.0,
        targets: Tensor | None = None,
        fit: str = "all",
        distances: Mapping[str, Callable[[Tensor, Tensor, Draws], Tensor]] | None = None,
    ) -> dict[str, Tensor]:
        """Losses of images x (N, C, H, W) in [-1, 1]: "loss", and its parts "reconstruction" and "divergence".

        targets: (N, K) one-hot, for a conditional model or one with a head (whose "accuracy" comes with the losses).
        fit: see `frozen`; the part of the loss that has no say in what is trained is not computed.
        distances: of reconstruction and image, beside the squared error; each is added to the loss, under its name.
        """
        spikes = self.encoder(x, draws)
        h = self.to_latent(self.flatten(spikes))
        losses, loss = {}, 0.0
        if fit in ("autoencoder", "decoder"):
            z = self.latent.encode(h, draws)
        else:
            z, divergence = self.latent.infer(h, draws, progress, targets if self.classes else None)
            losses["divergence"] = divergence.detach()
            loss = loss + self.divergence_weight * divergence
        if fit == "prior":
            return {"loss": loss, **losses}
        y = self.decoder(z)
        reconstruction = (y - x).square().mean()
        loss = loss + reconstruction
        losses = {"reconstruction": reconstruction.detach(), **losses}
        for name, distance in (distances or {}).items():
            d = distance(y, x, draws)
            loss = loss + d
            losses[name] = d.detach()
        if self.head is not None:
            o = self.head(spikes, draws)
            loss = loss + self.head_weight * objective(o=o, g=targets, **self.objective)
            losses["accuracy"] = accuracy(o, targets)
        return {"loss": loss, **losses}

    def frozen(self, fit: str) -> list[nn.Module]:
        """The modules that stay as they are, by what is to be fitted: "all"; "autoencoder", all but the prior;
        "decoder" or "prior", that part of a model whose codes stand still. ValueError if the prior has no weights."""
        prior = getattr(self.latent, "prior", None)
        if prior is None and fit != "all":
            raise UserError(f"fit = {fit!r}: the prior of this latent has no weights, there are no two stages")
        coders = [part for part in (self.encoder, self.to_latent, self.head) if part is not None]
        coders += [part for part in self.latent.children() if part is not prior]
        return {
            "all": [],
            "autoencoder": [prior],
            "decoder": [*coders, prior],
            "prior": [*coders, self.decoder],
        }[fit]

    def infer(self, x: Tensor, draws: Draws) -> Tensor:
        """Latent spikes (T, N, L) of images x in [-1, 1]."""
        return self.latent.encode(self.to_latent(self.flatten(self.encoder(x))), draws)

    @property
    def prior_is_trained(self) -> bool:
        """Whether any stage of the training fitted the prior; True where that is not known."""
        stages = self.provenance.get("stages")
        return stages is None or not {"all", "prior"}.isdisjoint(stages)

    # use: seeds in, images (N, C, H, W) in [0, 1] out, in evaluation mode whatever mode the model is in

    def sample(self, seeds: Sequence[int] | Tensor, classes: int | Sequence[int] | Tensor | None = None) -> Tensor:
        """One new image per seed, the same whatever the other seeds are. UserError if the prior was never trained.

        classes: of a conditional model, one for all images or one each; None: seed i has class i mod K.
        """
        self.check_prior()
        y = self._classes(seeds, classes)
        return self._chunks(lambda draws, *y: to_unit(self.decoder(self.latent.sample(draws, *y))), seeds, y)

    def sample_by(self, rounds: int | None = None, temperature: float | None = None) -> None:
        """Another way to draw from a prior of spatial codes, from now on: passes of it a sample, and what its logits
        are divided by. None: as before. ValueError for other latents, or if it cannot be so."""
        self.latent.sample_by(rounds, temperature)

    def reconstruct(self, images: Tensor, seeds: Sequence[int] | Tensor | None = None) -> Tensor:
        """Images (N, C, H, W) in [0, 1] through the latent and back; seed i (default: i) draws the bits of image i."""
        x = self._in(images)
        return self._chunks(lambda draws, x: to_unit(self.decoder(self.infer(x, draws))), _own(seeds, x), x)

    def encode(self, images: Tensor, seeds: Sequence[int] | Tensor | None = None) -> Tensor:
        """Latent spikes (N, T, L) of images (N, C, H, W) in [0, 1]: batch first, to be kept and sliced."""
        x = self._in(images)
        return self._chunks(lambda draws, x: self.infer(x, draws).transpose(0, 1), _own(seeds, x), x)

    def classify(self, images: Tensor) -> Tensor:
        """Outputs of the head at every step, (N, T, K), of images (N, C, H, W) in [0, 1]."""
        if self.head is None:
            raise UserError("this generator names no classes; one trained with model.head does")
        x = self._in(images)  # nothing is drawn
        return self._chunks(lambda _, x: self.head(self.encoder(x)).float().transpose(0, 1), range(len(x)), x)

    def decode(self, z: Tensor) -> Tensor:
        """Images of latent spikes (N, T, L), or (N, T, L, h, w) of a spatial latent."""
        sides = self.encoder.shape[1:] if self.latent.spatial else ()
        z = check_latents(z, (self.time_steps, self.latent.latent, *sides), self.latent.spiking)
        return self._chunks(lambda _, z: to_unit(self.decoder(z.transpose(0, 1))), range(len(z)), z)

    def film(self, seeds: Sequence[int] | Tensor, classes: int | Sequence[int] | Tensor | None = None) -> Tensor:
        """The images of `sample` as they form over the time steps, (N, T, C, H, W); the last frame is the image."""
        self.check_prior()
        y = self._classes(seeds, classes)
        return self._chunks(
            lambda draws, *y: to_unit(self.decoder.film(self.latent.sample(draws, *y))).transpose(0, 1), seeds, y
        )

    def interpolate(self, start: Tensor, end: Tensor, steps: int, seed: int = 0) -> Tensor:
        """Images (steps, C, H, W) between two images (C, H, W) in [0, 1], as the latent has it (`Latent.between`)."""
        if not isinstance(steps, int) or steps < 2:
            raise UserError(f"steps is {steps!r}, at least 2 images are made, the ends")
        for image in (start, end):
            check_tensor(image, "the ends")
        if start.dim() != 3 or start.shape != end.shape:
            found = f"{tuple(start.shape)} and {tuple(end.shape)}"
            raise UserError(f"the ends are {found}, wanted one image (C, H, W) each")
        z0, z1 = self.encode(torch.stack([start, end]), [seed, seed])  # (T, L) each
        fractions = torch.linspace(0, 1, steps, device=z0.device)
        return self.decode(self.latent.between(z0, z1, fractions, ImageDraws([seed], z0.device)))

    def check_prior(self) -> None:
        """UserError if there is nothing to sample from."""
        if not self.prior_is_trained:
            told = " and ".join(self.provenance["stages"])
            raise UserError(
                f"this model's prior was never trained ({told} only): it reconstructs, but samples want a stage more, "
                f"train --fit prior --init-from this run"
            )

    def _classes(self, seeds: Sequence[int] | Tensor, classes) -> Tensor | None:
        """One-hot (N, K) of the classes asked for, None if the model knows none."""
        if not self.classes:
            if classes is not None:
                raise UserError("this model was trained without classes; one with model.conditional makes them")
            return None
        seeds = check_seeds(seeds)
        chosen = [seed % self.classes for seed in seeds] if classes is None else classes
        return nn.functional.one_hot(check_classes(chosen, len(seeds), self.classes), self.classes).float()

    def _in(self, images: Tensor) -> Tensor:
        return check_images(images, (self.image_channels, self.image_size, self.image_size)) * 2 - 1

    @torch.no_grad()
    @whole_fp32()
    def _chunks(self, function, seeds: Sequence[int] | Tensor, x: Tensor | None = None) -> Tensor:
        """`function(draws[, x])` over chunks of equal size, the last one filled up and cut again."""
        check_precision(self)
        device, seeds = next(self.parameters()).device, check_seeds(seeds)
        if x is not None and len(x) != len(seeds):
            raise UserError(f"{len(seeds)} seeds for {len(x)} images; one each is wanted")
        outputs, size = [], chunk_size(self.time_steps, self.image_size, self.image_size)
        with evaluating(self):
            for i in range(0, len(seeds), size):
                rows = [min(r, len(seeds) - 1) for r in range(i, i + size)]
                draws = ImageDraws([seeds[r] for r in rows], device)
                chunk = function(draws) if x is None else function(draws, x[rows].to(device))
                outputs.append(chunk[: len(seeds) - i])
        return torch.cat(outputs)


def _own(seeds: Sequence[int] | Tensor | None, x: Tensor) -> Sequence[int] | Tensor:
    """Seed i of image i, unless others are given."""
    return range(len(x)) if seeds is None else seeds


def chunk_size(time_steps: int, height: int, width: int) -> int:
    """Images a forward pass: a power of 2, `CHUNK` or, of large ones, as many as there is `ROOM` for, at least 1."""
    return min(CHUNK, 2 ** max((ROOM // (time_steps * height * width)).bit_length() - 1, 0))


def to_unit(x: Tensor) -> Tensor:
    """[-1, 1] -> [0, 1]."""
    return (x + 1) / 2
