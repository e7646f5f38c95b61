"""The fully spiking variational autoencoder with temporal-channel joint attention.

The architecture is FSVAE's (Kamata, Mukuta, Harada, AAAI 2022): spiking encoder, latent, spiking decoder, linear
readout. TCJA-SNN (Zhu et al., TNNLS 2024) adds its attention but does not say where. Its likely place is the readout,
where the code of a paper that shares an author has it (`nn/readouts.py`, readout "tcja"). Attention is a word of the
notation, too, and by default it follows every convolution of encoder and decoder.

    x (N, C, H, W) in [-1, 1]
    h = entry(encoder(x))              (T, N, L)
    z, divergence = latent.infer(h)    (T, N, L)
    y = decoder(z)                     (N, C, H, W) in (-1, 1)
    loss = mean (y - x)^2 + weight * divergence + further terms

With neuron "relu", T = 1 and a gaussian latent, the same layers are the ordinary VAE that those papers compare with.
Methods for use take and return images in [0, 1].

With a readout of frames it is a generator of event recordings. The encoder sees a stream, one frame of counts at each
step, and the decoder gives a frame at each step: x and y are (T, N, 2, H, W), and the loss is the mean over all frames.
Counts become values in [-1, 1] by x = 2 min(count / full_count, 1) - 1. Methods for use take and return counts
(N, T, 2, H, W), as `SpikingClassifier` takes them; those of a sample are expected counts, no whole numbers.
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
from .inputs import (
    check_alike,
    check_classes,
    check_ends,
    check_frames,
    check_images,
    check_latents,
    check_precision,
    check_seeds,
    check_tensor,
)
from .overview import overview

CHUNK = 64  # images in a forward pass outside training; always full, so an image never depends on the batch size
LARGEST = 2**22  # most numbers per channel in a chunk: 64 images of 64 x 64 pixels at 16 time steps

Term = Callable[[Tensor, Tensor, Draws], Tensor]  # a term of the loss: (reconstruction, image, draws) -> scalar


class SpikingVAE(nn.Module):
    """Spiking VAE, composed of its parts. `models.build` makes one from settings.

    head: if given, it classifies images by the encoder's spikes and is trained with the other parts; `objective` is its
    loss. Image size, channels and T are those of the encoder. The attribute `classes` is the K of a conditional prior,
    0 for an unconditional one. full_count: of a generator of event frames; 0 for one of images.
    """

    kind = "generator"

    def __init__(
        self,
        encoder: SpikingEncoder,
        latent: Latent,
        decoder: SpikingDecoder,
        head: SpikingHead | None = None,
        objective: CrossEntropy | None = None,
        full_count: int = 0,
    ):
        super().__init__()
        steps = {part.time_steps for part in (encoder, latent, decoder, head) if part is not None}
        check_alike("numbers of time steps", steps)
        check_alike("latent channels", {latent.channels, decoder.latent})
        check_alike("channels and sizes of images", {encoder.input, (decoder.last.out_channels, *decoder.shape[1:])})
        self.encoder, self.latent, self.decoder, self.head = encoder, latent, decoder, head
        self.objective, self.classes, self.time_steps = objective or CrossEntropy(), latent.classes, encoder.time_steps
        self.image_channels, self.image_size, self.image_width = encoder.input
        self.full_count = full_count
        self.provenance: dict = {}  # facts about the run that trained the weights, for records
        self.to(memory_format=torch.channels_last)  # fastest for convolutions, neurons and gates

    def __repr__(self) -> str:
        return overview(self)

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
        """Losses for images x (N, C, H, W) in [-1, 1], or event counts x (T, N, 2, H, W): "loss", and its parts
        "reconstruction", "divergence" and `terms`, each by name. A model with a head adds its "accuracy".

        progress: of the training, in [0, 1]. targets: (N, K) one-hot, for a conditional model or one with a head.
        fit: the parts that are trained; losses that train none of them are not computed.
        """
        x = self.as_input(x) if self.full_count else x
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
        """Latent spikes (T, N, L) for images x (N, C, H, W), or frames (T, N, 2, H, W), in [-1, 1]."""
        return self.latent.encode(self.latent.enter(self.encoder(x)), draws)

    @property
    def prior_is_trained(self) -> bool:
        """Whether any stage of the training fitted the prior. True if that is not known."""
        stages = self.provenance.get("stages")
        return stages is None or not {"all", "prior"}.isdisjoint(stages)

    # use: seeds in, images (N, C, H, W) in [0, 1] or counts (N, T, 2, H, W) out, always in evaluation mode

    def sample(self, seeds: Sequence[int] | Tensor, classes: int | Sequence[int] | Tensor | None = None) -> Tensor:
        """One new image (C, H, W) in [0, 1], or counts (T, 2, H, W), per seed, independent of the other seeds.

        classes: for a conditional model, one class for all images or one for each; None: seed i has class i mod K.
        UserError if the prior was never trained, or for seeds or classes that do not fit.
        """
        self.check_prior()
        y = self._classes(seeds, classes)
        return self._chunks(lambda draws, *y: self.as_output(self.decoder(self.latent.sample(draws, *y))), seeds, y)

    def sample_by(self, **changes: float | str | None) -> None:
        """Changes how samples are drawn from now on: for spatial codes rounds, order, sweeps, temperature, guidance and
        guided_rounds. See `Latent.sample_by`."""
        self.latent.sample_by(**changes)

    def reconstruct(self, images: Tensor, seeds: Sequence[int] | Tensor | None = None) -> Tensor:
        """Reconstructions of images (N, C, H, W) in [0, 1], or of event counts (N, T, 2, H, W). Seed i (default: i)
        draws the latent of image i."""
        x = self._in(images)
        return self._chunks(
            lambda draws, x: self.as_output(self.decoder(self.infer(time_first(x), draws))), _own(seeds, x), x
        )

    def encode(self, images: Tensor, seeds: Sequence[int] | Tensor | None = None) -> Tensor:
        """Latent spikes (N, T, L), batch first, of images (N, C, H, W) in [0, 1]. Seeds as for `reconstruct`."""
        x = self._in(images)
        return self._chunks(lambda draws, x: self.infer(time_first(x), draws).transpose(0, 1), _own(seeds, x), x)

    def classify(self, images: Tensor) -> Tensor:
        """Outputs of the head at every time step, (N, T, K), for images (N, C, H, W) in [0, 1]. UserError without a
        head."""
        if self.head is None:
            raise UserError("this generator names no classes; one trained with model.head does")
        x = self._in(images)  # needs no random numbers
        return self._chunks(
            lambda _, x: self.head(self.encoder(time_first(x))).float().transpose(0, 1), range(len(x)), x
        )

    def decode(self, z: Tensor) -> Tensor:
        """Images (N, C, H, W) in [0, 1] of latent spikes (N, T, L), or (N, T, L, h, w) for a spatial latent."""
        sides = self.encoder.shape[1:] if self.latent.spatial else ()
        z = check_latents(z, (self.time_steps, self.latent.channels, *sides), self.latent.spiking)
        return self._chunks(lambda _, z: self.as_output(self.decoder(z.transpose(0, 1))), range(len(z)), z)

    def film(self, seeds: Sequence[int] | Tensor, classes: int | Sequence[int] | Tensor | None = None) -> Tensor:
        """Images of `sample` as they form over the time steps, (N, T, C, H, W). The last frame is the final image. Of a
        generator of event frames, these."""
        if self.full_count:
            return self.sample(seeds, classes)
        self.check_prior()
        y = self._classes(seeds, classes)
        return self._chunks(
            lambda draws, *y: to_unit(self.decoder.film(self.latent.sample(draws, *y))).transpose(0, 1), seeds, y
        )

    def interpolate(self, start: Tensor, end: Tensor, steps: int, seed: int = 0) -> Tensor:
        """Images (steps, C, H, W) between two images (C, H, W) in [0, 1], or counts (steps, T, 2, H, W) between two
        recordings; both ends are included, see `Latent.between`."""
        check_ends(start, end, steps, dims=4 if self.full_count else 3)
        z0, z1 = self.encode(torch.stack([start, end]), [seed, seed])  # (T, L) each
        fractions = torch.linspace(0, 1, steps, device=z0.device)
        return self.decode(self.latent.between(z0, z1, fractions, ImageDraws([seed], z0.device)))

    def check_prior(self) -> None:
        """UserError if the prior was never trained, so that samples would have no meaning."""
        if self.prior_is_trained:
            return
        stage = self.provenance.get("stage", {"of": [], "number": 0})
        missing = stage["of"][stage["number"] :]
        todo = f"train --resume goes on with stage {missing[0]!r}" if missing else "train --fit prior --init-from it"
        trained = " and ".join(self.provenance["stages"])
        raise UserError(
            f"this model's prior was never trained ({trained} only): it reconstructs, but cannot sample; {todo}"
        )

    def _classes(self, seeds: Sequence[int] | Tensor, classes) -> Tensor | None:
        """The classes as one-hot (N, K); None for an unconditional model."""
        if not self.classes:
            if classes is not None:
                raise UserError("this model was trained without classes; model.latent.conditional trains with them")
            return None
        seeds = check_seeds(seeds)
        chosen = [seed % self.classes for seed in seeds] if classes is None else classes
        return nn.functional.one_hot(check_classes(chosen, len(seeds), self.classes), self.classes).float()

    def _in(self, images: Tensor) -> Tensor:
        shape = (self.image_channels, self.image_size, self.image_size)
        if not self.full_count:
            return self.as_input(check_images(images, shape))
        check_tensor(images, "recordings")
        return self.as_input(check_frames(images, (self.time_steps, *shape)))

    def as_input(self, x: Tensor) -> Tensor:
        """What the encoder takes, in [-1, 1], of images in [0, 1] or of event counts, in the same shape."""
        return (x.float() / self.full_count).clamp(max=1) * 2 - 1 if self.full_count else x * 2 - 1

    def as_output(self, y: Tensor) -> Tensor:
        """What the decoder gives, as images (N, C, H, W) in [0, 1] or as event counts (N, T, 2, H, W)."""
        return (to_unit(y) * self.full_count).transpose(0, 1) if self.full_count else to_unit(y)

    @torch.no_grad()
    @without_tf32()
    def _chunks(self, function, seeds: Sequence[int] | Tensor, x: Tensor | None = None) -> Tensor:
        """Concatenated results of `function(draws[, x])` over chunks of equal size. The last chunk is filled up with
        copies, whose results are dropped."""
        check_precision(self)
        device, seeds = next(self.parameters()).device, check_seeds(seeds)
        if x is not None and len(x) != len(seeds):
            raise UserError(f"{len(seeds)} seeds for {len(x)} images; one seed for each image is needed")
        outputs, size = [], chunk_size(self.time_steps, self.image_size, self.image_size)
        with evaluating(self):
            for i in range(0, len(seeds), size):
                rows = [min(r, len(seeds) - 1) for r in range(i, i + size)]
                draws = ImageDraws([seeds[r] for r in rows], device)
                chunk = function(draws) if x is None else function(draws, x[rows].to(device))
                outputs.append(chunk[: len(seeds) - i])
        return torch.cat(outputs)


def _own(seeds: Sequence[int] | Tensor | None, x: Tensor) -> Sequence[int] | Tensor:
    """The seeds that are given, else seed i for image i."""
    return range(len(x)) if seeds is None else seeds


def chunk_size(time_steps: int, height: int, width: int) -> int:
    """Number of images in a forward pass: `CHUNK`, or for large images the largest power of 2 that `LARGEST` allows, at
    least 1."""
    return min(CHUNK, 2 ** max((LARGEST // (time_steps * height * width)).bit_length() - 1, 0))


def time_first(x: Tensor) -> Tensor:
    """Frames (N, T, C, H, W) -> (T, N, C, H, W); images (N, C, H, W) as they are."""
    return x.transpose(0, 1) if x.dim() == 5 else x


def to_unit(x: Tensor) -> Tensor:
    """[-1, 1] -> [0, 1]."""
    return (x + 1) / 2
