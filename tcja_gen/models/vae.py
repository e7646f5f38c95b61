"""The fully spiking variational autoencoder with temporal-channel joint attention.

The frame is FSVAE (Kamata, Mukuta, Harada, AAAI 2022): spiking encoder, latent, spiking decoder, linear readout.
TCJA-SNN (Zhu et al., TNNLS 2024) adds its attention to it and does not say where; attention is a word of the notation,
and our default is to place it behind every convolution of encoder and decoder.

    x (N, C, H, W) in [-1, 1]
    h = entry(encoder(x))              (T, N, L)
    z, divergence = latent.infer(h)    (T, N, L)
    y = decoder(z)                     (N, C, H, W) in (-1, 1)
    loss = mean (y - x)^2 + weight * divergence + further terms

With neuron "relu", T = 1 and a gaussian latent the same layers are an ANN, the VAE that those papers compare with.
Images outside of a model are floats in [0, 1].
"""

from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor, nn

from ..errors import UserError
from ..nn import ImageDraws, Latent, SpikingDecoder, SpikingEncoder, SpikingHead, evaluating
from ..nn.draws import Draws
from ..nn.objectives import CrossEntropy, accuracy
from ..process import without_tf32
from .fit import ALL, Fit
from .inputs import check_classes, check_ends, check_images, check_latents, check_precision, check_seeds

CHUNK = 64  # images a forward pass in use; always whole, so that an image never depends on the batch size
ROOM = 2**22  # numbers a channel in a chunk, at most: 64 images of 64 x 64 pixels at 16 time steps

Term = Callable[[Tensor, Tensor, Draws], Tensor]  # of the loss: reconstruction, image, draws -> a scalar


class SpikingVAE(nn.Module):
    """Spiking VAE of its parts; `models.build` makes them of settings.

    head: classifies by the encoder's spikes as well, and is trained with the rest; `objective` is its part of the loss.
    Sizes, channels and T are those of the encoder; `classes` is the K that the prior is told, 0 if it is told none.
    """

    kind = "generator"

    def __init__(
        self,
        encoder: SpikingEncoder,
        latent: Latent,
        decoder: SpikingDecoder,
        head: SpikingHead | None = None,
        objective: CrossEntropy | None = None,
    ):
        super().__init__()
        self.encoder, self.latent, self.decoder, self.head = encoder, latent, decoder, head
        self.objective, self.classes, self.time_steps = objective or CrossEntropy(), latent.classes, encoder.time_steps
        self.image_channels, self.image_size, _ = encoder.input
        self.provenance: dict = {}  # facts of the run that trained the weights, for records
        self.to(memory_format=torch.channels_last)  # what convolutions, neurons and gates all like best

    # training

    def forward(
        self,
        x: Tensor,
        draws: Draws,
        progress: float = 1.0,
        targets: Tensor | None = None,
        fit: Fit = ALL,
        terms: Mapping[str, Term] | None = None,
    ) -> dict[str, Tensor]:
        """Losses of images x (N, C, H, W) in [-1, 1]: "loss", and its parts "reconstruction", "divergence" and `terms`.

        targets: (N, K) one-hot, for a conditional model or one with a head, whose "accuracy" is told as well.
        fit: what is trained; a part of the loss that trains nothing is not computed.
        """
        spikes = self.encoder(x, draws)
        h = self.latent.enter(spikes)
        losses, loss = {}, 0.0
        if fit.prior:
            z, divergence = self.latent.infer(h, draws, progress, targets if self.classes else None)
            losses["divergence"] = divergence.detach()
            loss = loss + self.latent.settings.divergence_weight * divergence
        else:
            z = self.latent.encode(h, draws)
        if not fit.reconstructs:
            return {"loss": loss, **losses}
        y = self.decoder(z)
        reconstruction = (y - x).square().mean()
        loss, losses = loss + reconstruction, {"reconstruction": reconstruction.detach(), **losses}
        for name, term in (terms or {}).items():
            value = term(y, x, draws)
            loss, losses[name] = loss + value, value.detach()
        if self.head is not None and fit.encoder:
            o = self.head(spikes, draws)
            loss = loss + self.objective.weight * self.objective(o, targets)
            losses["accuracy"] = accuracy(o, targets)
        return {"loss": loss, **losses}

    def infer(self, x: Tensor, draws: Draws) -> Tensor:
        """Latent spikes (T, N, L) of images x in [-1, 1]."""
        return self.latent.encode(self.latent.enter(self.encoder(x)), draws)

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
        """How samples are drawn from now on, see `Latent.sample_by`."""
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
        z = check_latents(z, (self.time_steps, self.latent.channels, *sides), self.latent.spiking)
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
        check_ends(start, end, steps)
        z0, z1 = self.encode(torch.stack([start, end]), [seed, seed])  # (T, L) each
        fractions = torch.linspace(0, 1, steps, device=z0.device)
        return self.decode(self.latent.between(z0, z1, fractions, ImageDraws([seed], z0.device)))

    def check_prior(self) -> None:
        """UserError if there is nothing to sample from."""
        if self.prior_is_trained:
            return
        stage = self.provenance.get("stage", {"of": [], "number": 0})
        missing = stage["of"][stage["number"] :]
        todo = f"train --resume goes on with stage {missing[0]!r}" if missing else "train --fit prior --init-from it"
        told = " and ".join(self.provenance["stages"])
        raise UserError(
            f"this model's prior was never trained ({told} only): it reconstructs, but cannot sample; {todo}"
        )

    def _classes(self, seeds: Sequence[int] | Tensor, classes) -> Tensor | None:
        """One-hot (N, K) of the classes asked for, None if the model knows none."""
        if not self.classes:
            if classes is not None:
                raise UserError("this model was trained without classes; one with model.latent.conditional makes them")
            return None
        seeds = check_seeds(seeds)
        chosen = [seed % self.classes for seed in seeds] if classes is None else classes
        return nn.functional.one_hot(check_classes(chosen, len(seeds), self.classes), self.classes).float()

    def _in(self, images: Tensor) -> Tensor:
        return check_images(images, (self.image_channels, self.image_size, self.image_size)) * 2 - 1

    @torch.no_grad()
    @without_tf32()
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
