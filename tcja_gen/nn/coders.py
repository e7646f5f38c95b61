"""Spiking encoder and decoder from a notation (`nn/notation.py`).

The encoder is the trunk of every model: images (N, C, H, W) or event frames (T, N, C, H, W) to spikes. The decoder
turns latent spikes into images: a linear block, the notation's transposed convolutions, and the linear readout.
"""

import math

from torch import Tensor, nn

from . import notation as words
from .attention import ATTENTION
from .layers import Flatten, Pool, SpikingBlock, TemporalDropout, conv_block, linear_block, transposed_block
from .neurons import PRESETS, Neuron
from .readouts import Readout


class SpikingEncoder(nn.Module):
    """Stages of a notation over images of `image_size` pixels a side.

    A static image (N, C, H, W) meets everything before the first neurons once and then T times the neurons' leak;
    frames (T, N, C, H, W) run through as they are. Output (T, N, C', H', W'), or (T, N, F) after a linear layer.
    `shape` is the output's (C', H', W') or (F,).
    """

    def __init__(
        self,
        notation: str,
        in_channels: int,
        time_steps: int,
        neuron: Neuron = PRESETS["tcja"],
        image_size: int = 32,
    ):
        super().__init__()
        self.in_channels, self.time_steps, self.image_size = in_channels, time_steps, image_size
        self.stages = nn.ModuleList()
        self.shape: tuple[int, ...] = (in_channels, image_size, image_size)
        for text, word in zip(notation.split("-"), words.parse(notation), strict=True):
            try:
                self._add(word, neuron)
            except ValueError as error:
                raise ValueError(f"notation {notation!r} at {text!r}: {error}") from None

    def _add(self, word: words.Word, neuron: Neuron) -> None:
        c, size = self.shape[0], self.shape[-1]
        if isinstance(word, words.Attention):
            if not any(isinstance(stage, SpikingBlock) for stage in self.stages):
                raise ValueError("attention needs spikes: put a layer before it")
            self.stages.append(attention(word, self.time_steps, c))
        elif isinstance(word, words.Dropout):
            self.stages.append(TemporalDropout(word.p))
        elif isinstance(word, words.Linear):
            if len(self.shape) == 3:
                self.stages.append(Flatten())
            self.stages.append(linear_block(math.prod(self.shape), word.features, neuron))
            self.shape = (word.features,)
        elif len(self.shape) == 1:
            raise ValueError("there are no pixels left after a linear layer")
        elif isinstance(word, words.Pool):
            self.stages.append(Pool(word.kind, word.size))
            self._resize(c, size // word.size)
        elif word.transposed:
            raise ValueError("a transposed convolution belongs into a decoder")
        else:
            self.stages.append(conv_block(c, word.channels, word.kernel, word.stride, neuron))
            self._resize(word.channels, (size + 2 * (word.kernel // 2) - word.kernel) // word.stride + 1)

    def _resize(self, channels: int, size: int) -> None:
        if size < 1:
            raise ValueError(f"nothing is left of {self.shape[-1]} pixels a side")
        self.shape = (channels, size, size)

    def forward(self, x: Tensor) -> Tensor:
        static = x.dim() == 4
        if not static and (x.dim() != 5 or x.shape[0] != self.time_steps):
            raise ValueError(
                f"the encoder wants images (N, C, H, W) or frames ({self.time_steps}, N, C, H, W), got {tuple(x.shape)}"
            )
        if tuple(x.shape[-3:]) != (self.in_channels, self.image_size, self.image_size):
            raise ValueError(
                f"the encoder was built for {self.in_channels} x {self.image_size} x {self.image_size} images, "
                f"got {' x '.join(map(str, x.shape[-3:]))}"
            )
        for stage in self.stages:
            if static and isinstance(stage, SpikingBlock):
                x, static = stage(x, steps=self.time_steps), False
            else:
                x = stage(x)
        return x


class SpikingDecoder(nn.Module):
    """Latent spikes (T, N, L) -> images (N, C, H, W) in (-1, 1).

    A linear block makes (T, N, *start) of the latent, the notation's transposed convolutions bring it to
    `image_size`, and the last transposed convolution (3 x 3, no neurons behind it) is linear, like the readout over
    time: it runs once, on the readout's weighted sum of the spikes (exact, its bias times the sum of the weights).
    """

    def __init__(
        self,
        notation: str,
        latent: int,
        start: tuple[int, int, int],
        out_channels: int,
        time_steps: int,
        neuron: Neuron = PRESETS["tcja"],
        image_size: int = 32,
        readout: str = "membrane",
    ):
        super().__init__()
        self.start = start
        self.project = linear_block(latent, math.prod(start), neuron)
        self.stages = nn.ModuleList()
        c, size = start[0], start[-1]
        parsed = words.parse(notation)
        sizes = iter(_sizes(parsed, image_size))
        for text, word in zip(notation.split("-"), parsed, strict=True):
            try:
                if isinstance(word, words.Attention):
                    self.stages.append(attention(word, time_steps, c))
                elif isinstance(word, words.Conv) and word.transposed:
                    target = next(sizes)
                    block = transposed_block(c, word.channels, word.kernel, word.stride, size, target, neuron)
                    self.stages.append(block)
                    c, size = word.channels, target
                else:
                    raise ValueError("a decoder has transposed convolutions and attention only")
            except ValueError as error:
                raise ValueError(f"notation {notation!r} at {text!r}: {error}") from None
        if size != image_size:
            raise ValueError(f"notation {notation!r} ends at {size} pixels a side, the images have {image_size}")
        self.last = nn.ConvTranspose2d(c, out_channels, 3, 1, 1)
        self.readout = Readout(readout, time_steps)

    def spikes(self, z: Tensor) -> Tensor:
        """Stream (T, N, C, H, W) that the readout sees."""
        x = self.project(z).unflatten(-1, self.start)
        for stage in self.stages:
            x = stage(x)
        return x

    def forward(self, z: Tensor) -> Tensor:
        return self.readout(self.spikes(z), self.last)

    def film(self, z: Tensor) -> Tensor:
        """The image as it forms: readouts of the first 1, 2, ... T steps, (T, N, C, H, W)."""
        return self.readout.prefixes(self.spikes(z), self.last)


def attention(word: words.Attention, time_steps: int, channels: int) -> nn.Module:
    k_time, k_channel = word.kernels or (min(2, time_steps), min(2, channels))
    return ATTENTION[word.kind](time_steps, channels, k_time, k_channel)


def _sizes(parsed: tuple[words.Word, ...], image_size: int) -> list[int]:
    """Sizes after each transposed convolution, from the last one back: an encoder's ceil(s / stride) undone."""
    sizes = [image_size]
    strides = [word.stride for word in parsed if isinstance(word, words.Conv)]
    for stride in reversed(strides[1:]):
        sizes.append(math.ceil(sizes[-1] / stride))
    return sizes[::-1]
