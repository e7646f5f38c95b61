"""Encoder, decoder and classifier's head, built from a notation (see `nn/notation.py`).

The encoder maps images (N, C, H, W) or event frames (T, N, C, H, W) to spikes. The head maps these to outputs for the
classes. The decoder maps latent spikes to images or event frames, by a linear block, the notation's layers and a
linear readout.
"""

import math
from functools import partial

import torch
from torch import Tensor, nn

from ..errors import UserError
from ..registry import ATTENTION
from . import notation as words
from .attention import Gate, kernel_names
from .currents import CurrentGate
from .draws import Draws
from .layers import (
    Build,
    Flatten,
    Pool,
    Residual,
    SpikingBlock,
    TemporalDropout,
    Upsample,
    Voting,
    conv_block,
    is_watched,
    linear_block,
    transposed_block,
)
from .memory import MEMORY
from .neurons import PRESETS, Neuron
from .nodes import Node, NodeNeuron, NormNode
from .normalisation import NormLIF
from .readouts import Readout, make_readout
from .sequence import FIRING, gives_spikes, mark_dense, run_stages


def set_memory(module: nn.Module, memory: str) -> nn.Module:
    """Sets what every coder inside `module` keeps for the backward pass: "speed" all of it, "recompute" see
    `sequence.run_stages`. Returns the module."""
    if memory not in MEMORY:
        raise UserError(f"unknown memory {memory!r}; known: {', '.join(MEMORY)}")
    if memory == "recompute" and any(isinstance(layer, (Node, NormNode)) for layer in module.modules()):
        raise UserError("memory = 'recompute' runs layers twice, for which only the package's own neurons are made")
    for coder in module.modules():
        if isinstance(coder, Stages):
            coder.memory = memory
    return module


class Stages(nn.Module):
    """The layers of a notation, one after the other, for frames of `shape` (C, H, W) or (F,).

    A static frame passes the layers before the first neurons once. After building, `shape` is that of the output.
    """

    takes_spikes = False  # whether the input is spikes, so that attention may come first
    ends_network = False  # whether the network's output comes from here

    def __init__(self, notation: str, shape: tuple[int, ...], time_steps: int, build: Build):
        super().__init__()
        if build.neuron is None and time_steps != 1:
            raise UserError(f"time_steps is {time_steps}: neuron 'relu' makes an ANN, which has no time; 1 is wanted")
        self.notation, self.shape = notation, tuple(shape)
        self.time_steps, self.build = time_steps, build
        self.memory = "speed"  # set by `set_memory`
        self.stages = nn.ModuleList()
        for text, word in zip(notation.split("-"), words.parse(notation), strict=True):
            try:
                self._add(word)
            except UserError as error:
                raise UserError(f"notation {notation!r} at {text!r}: {error}") from None
        self._fire()
        mark_dense(self.stages, self.takes_spikes)

    def _add(self, word: words.Word) -> None:
        if isinstance(word, words.Residual):
            return self._add_residual(word)
        self._fire()
        if isinstance(word, words.Attention):
            self._add_attention(attention_block(word, self.time_steps, self.shape[0]))
        elif isinstance(word, words.Dropout):
            self.stages.append(TemporalDropout(word.p))
        elif isinstance(word, words.Linear):
            self._flatten()
            self.stages.append(linear_block(self.shape[0], word.features, self.build))
            self.shape = (word.features,)
        elif isinstance(word, (words.Logits, words.Voting)):
            self._add_output(word)
        elif len(self.shape) == 1:
            raise UserError("there are no pixels left after a linear layer")
        elif isinstance(word, words.Upsample):
            self._add_upsampling(word)
        elif isinstance(word, words.Pool):
            self.stages.append(Pool(word.kind, word.size))
            sides = self.shape[1:]
            self._resize(self.shape[0], [word.size if word.kind == "adaptive" else s // word.size for s in sides])
        elif word.transposed:
            self._add_transposed(word)
        else:
            self.stages.append(conv_block(self.shape[0], word.channels, word.kernel, word.stride, self.build))
            self._convolve(word)

    def _add_attention(self, block: nn.Module) -> None:
        if not self.takes_spikes and not any(isinstance(stage, FIRING) for stage in self.stages):
            raise UserError("attention needs spikes: put a layer before it")
        if not isinstance(block, CurrentGate):
            self.stages.append(block)
            return
        before = self.stages[-1] if self.stages else None
        if not isinstance(before, SpikingBlock) or not before.gate_currents(block):
            raise UserError("a gate of currents stands right behind a layer with normalisation, one behind each")

    def _add_residual(self, word: words.Residual) -> None:
        before = self.stages[-1] if self.stages else None
        if len(self.shape) == 1 or not isinstance(before, (SpikingBlock, Residual)):
            raise UserError("a residual block stands behind a convolution or another residual block")
        if word.kernel % 2 == 0:
            raise UserError("a residual block has an odd kernel, so that both of its paths have one size")
        if isinstance(before, SpikingBlock):  # hands over its current
            if before.gate is not None:
                raise UserError("the layer before a residual block has no neurons, so nothing gates its currents")
            before.neurons = self.build.norm(self.shape[0])
        gate = word.attention and attention_block(word.attention, self.time_steps, word.channels)
        self.stages.append(Residual(self.shape[0], word.channels, word.kernel, word.stride, gate, self.build))
        self._convolve(word)

    def _add_output(self, word: words.Logits | words.Voting) -> None:
        raise UserError("logits and votes belong into a classifier's head")

    def _add_transposed(self, word: words.Conv) -> None:
        raise UserError("a transposed convolution belongs into a decoder")

    def _add_upsampling(self, word: words.Upsample) -> None:
        raise UserError("upsampling belongs into a decoder")

    def _fire(self) -> None:
        """Adds the neurons that follow the last residual block."""
        if self.stages and isinstance(self.stages[-1], Residual):
            self.stages.append(self.build.fire())

    def _flatten(self) -> None:
        if len(self.shape) > 1:
            self.stages.append(Flatten())
            self.shape = (math.prod(self.shape),)

    def _convolve(self, word: words.Conv | words.Residual) -> None:
        k = word.kernel
        self._resize(word.channels, [(s + 2 * (k // 2) - k) // word.stride + 1 for s in self.shape[1:]])

    def _resize(self, channels: int, sides: list[int]) -> None:
        if min(sides) < 1:
            raise UserError(f"nothing is left of {min(self.shape[1:])} pixels a side")
        self.shape = (channels, *sides)

    def run(self, x: Tensor, static: bool, binary: bool = False, draws: Draws | None = None) -> Tensor:
        """Output for a stream (T, N, ...), or for one frame (N, ...) if `static`; the rest as in `run_stages`."""
        steps = self.time_steps if static else None
        return run_stages(self.stages, x, self.memory == "recompute", self.ends_network, steps, binary, draws)


class SpikingEncoder(Stages):
    """Layers of a notation for images of `image_size` pixels a side, or of (height, width).

    The input is images (N, C, H, W), each the input of all T steps, or frames (T, N, C, H, W). The output is spikes
    (T, N, C', H', W'), or (T, N, F) after a linear layer; `shape` is then (C', H', W') or (F,).
    """

    def __init__(
        self,
        notation: str,
        in_channels: int,
        time_steps: int,
        neuron: Neuron | NodeNeuron | None = PRESETS["tcja"],
        image_size: int | tuple[int, int] = 32,
        normalisation: str = "tdbn",
        bias: bool = True,
    ):
        sides = (image_size, image_size) if isinstance(image_size, int) else tuple(image_size)
        self.input = (in_channels, *sides)
        super().__init__(notation, self.input, time_steps, Build(neuron, normalisation, bias))
        if not any(isinstance(stage, FIRING) for stage in self.stages):
            raise UserError(
                f"encoder {notation!r} has no neurons: a convolution, residual block or linear layer is wanted"
            )

    def forward(self, x: Tensor, draws: Draws | None = None) -> Tensor:
        """draws: random numbers for dropout in training; None: torch's global generator."""
        static = x.dim() == 4
        if not static and (x.dim() != 5 or x.shape[0] != self.time_steps):
            raise UserError(
                f"the encoder wants images (N, C, H, W) or frames ({self.time_steps}, N, C, H, W), got {tuple(x.shape)}"
            )
        if tuple(x.shape[-3:]) != self.input:
            raise UserError(
                f"the encoder was built for {' x '.join(map(str, self.input))} images, "
                f"got {' x '.join(map(str, x.shape[-3:]))}"
            )
        if not x.numel():
            raise UserError("the encoder wants one image or more, got none")
        weight = next(self.parameters(), x)
        if x.dtype != weight.dtype and not torch.is_autocast_enabled(x.device.type):
            raise UserError(f"the encoder has weights of {weight.dtype}, its input is {x.dtype}: wanted torch.float32")
        return self.run(x, static, draws=draws)


class SpikingHead(Stages):
    """A classifier's layers behind its encoder: spikes (T, N, *shape) -> outputs (T, N, classes).

    The last word of its notation is `10L` (logits), `Voting10` (averaged spikes), or a spiking linear layer.
    """

    def __init__(self, notation: str, shape: tuple[int, ...], time_steps: int, build: Build):
        super().__init__(notation, shape, time_steps, build)
        if len(self.shape) > 1:
            raise UserError(f"head {notation!r} ends with pixels; a linear layer (10L, 10FC) must come last")
        self.classes = self.shape[0]

    def _add_output(self, word: words.Logits | words.Voting) -> None:
        if isinstance(word, words.Voting):
            if len(self.shape) > 1 or self.shape[0] % word.size:
                raise UserError(f"{self.shape[0]} features do not divide by {word.size} voters a class")
            self.stages.append(Voting(word.size))
            self.shape = (self.shape[0] // word.size,)
            return
        self._flatten()
        self.stages.append(nn.Linear(self.shape[0], word.features, bias=self.build.bias))
        self.shape = (word.features,)

    def forward(self, x: Tensor, draws: Draws | None = None) -> Tensor:
        """draws: as for the encoder."""
        return self.run(x, static=False, draws=draws)


class SpikingDecoder(Stages):
    """Latent spikes (T, N, L), or (T, N, L, h, w) of a spatial latent, -> images (N, C, H, W) in (-1, 1).

    A linear block maps the latent to (T, N, *start); a 3 x 3 convolution block does if the latent is `spatial`. The
    notation's layers (convolutions, transposed or not, residual blocks, upsampling, attention) reach `image_size`. The
    last 3 x 3 transposed convolution has no neurons behind it. It is linear, as the readout over time is, so it runs
    once, on the readout's weighted sum of the spikes. This is exact: the bias is multiplied by the sum of the weights.
    A readout of frames gives (T, N, C, H, W), and the last layer runs at every step.
    """

    takes_spikes = ends_network = True

    def __init__(
        self,
        notation: str,
        latent: int,
        start: tuple[int, int, int],
        out_channels: int,
        time_steps: int,
        neuron: Neuron | NodeNeuron | None = PRESETS["tcja"],
        image_size: int = 32,
        readout: str = "membrane",
        spatial: bool = False,
    ):
        build = Build(neuron)
        project = (
            conv_block(latent, start[0], 3, 1, build) if spatial else linear_block(latent, math.prod(start), build)
        )
        self.targets = _sizes(words.parse(notation), image_size)  # pixels a side after each transposed convolution
        super().__init__(notation, start, time_steps, build)
        if self.shape[-1] != image_size:
            raise UserError(
                f"notation {notation!r} ends at {self.shape[-1]} pixels a side, the images have {image_size}"
            )
        self.project, self.start, self.latent = project, tuple(start), latent
        self.last = nn.ConvTranspose2d(self.shape[0], out_channels, 3, 1, 1)
        self.readout = make_readout(readout, time_steps, out_channels)

    def _add(self, word: words.Word) -> None:
        if not isinstance(word, (words.Conv, words.Residual, words.Upsample, words.Attention)):
            raise UserError("a decoder has convolutions, residual blocks, upsampling and attention only")
        if (
            isinstance(word, (words.Conv, words.Residual))
            and not getattr(word, "transposed", False)
            and word.stride > 1
        ):
            raise UserError("a decoder does not make pixels fewer; only a transposed convolution has a stride")
        super()._add(word)

    def _add_transposed(self, word: words.Conv) -> None:
        size, target = self.shape[-1], self.targets.pop(0)
        block = transposed_block(self.shape[0], word.channels, word.kernel, word.stride, size, target, self.build)
        self.stages.append(block)
        self._resize(word.channels, [target, target])

    def _add_upsampling(self, word: words.Upsample) -> None:
        self.stages.append(Upsample(word.factor))
        self._resize(self.shape[0], [side * word.factor for side in self.shape[1:]])

    def spikes(self, z: Tensor) -> Tensor:
        """The spikes (T, N, C, H, W) that the readout sums up."""
        return self.run(self._latent(z), static=False, binary=gives_spikes(self.project))

    def _latent(self, z: Tensor) -> Tensor:
        x = self.project(z)
        return x if x.dim() == 5 else x.unflatten(-1, self.start)

    def forward(self, z: Tensor) -> Tensor:
        x, gate = self._latent(z), None
        run = partial(run_stages, recompute=self.memory == "recompute", binary=gives_spikes(self.project))
        *stages, end = self.stages
        joined = self.training and isinstance(self.readout, Readout) and isinstance(end, Gate) and not is_watched(end)
        if stages and joined:
            gate, (*stages, end) = end, stages
        if not self._sums(end, gate):
            gated = {} if gate is None else {"gate": gate}
            return self.readout(run([*stages, end], x, ends_network=True), self.last, **gated)
        front = stages.pop() if stages and isinstance(stages[-1], Gate) else None
        x = run(stages, x, ends_network=False, following=[end] if front is None else [front, end])
        if front is not None and not end.joins(front, x):
            x, front = front(x), None
        return self.readout.of_sum(end.weighted_sum(x, self.readout.weights, front, gate), self.last)

    def _sums(self, stage: nn.Module, gate: Gate | None) -> bool:
        """Whether the neurons of the last stage can sum up their spikes, behind a gate if there is one. Not if anything
        watches or charges these."""
        if not isinstance(self.readout, Readout) or not isinstance(stage, SpikingBlock) or stage.gate is not None:
            return False
        if not isinstance(stage.neurons, NormLIF) or gate is not None and stage.neurons.path != "native":
            return False
        if stage.neurons.charge_in_training is not None:
            return False
        watched = stage, stage.weights, stage.neurons, self.readout, *([] if gate is None else [gate])
        return not is_watched(*watched)

    def film(self, z: Tensor) -> Tensor:
        """Images read out after the first 1, 2, ... T steps, (T, N, C, H, W)."""
        return self.readout.prefixes(self.spikes(z), self.last)


def attention_block(word: words.Attention, time_steps: int, channels: int) -> nn.Module:
    """The registered block that a word names, with those kernel sizes that it takes."""
    k_time, k_channel = word.kernels or (min(2, time_steps), min(2, channels))
    kernels = {"k_time": k_time, "k_channel": k_channel}
    block = ATTENTION[word.kind](time_steps, channels, **{name: kernels[name] for name in kernel_names(word.kind)})
    if not isinstance(block, nn.Module):
        raise UserError(f"attention {word.kind!r}: it gives a {type(block).__name__}; a module is wanted")
    if word.kind in ATTENTION.from_plugins():
        block.register_forward_hook(_check_shape)
    return _controlled(block, word.control)


def _controlled(block: nn.Module, control: str) -> nn.Module:
    """Attention as a control: "frozen", its weights are buffers, which nothing trains; "shuffled", see `Gate`."""
    if control and not isinstance(block, (Gate, CurrentGate)):
        raise UserError(f"{type(block).__name__} is no nn.Gate, so it cannot be {control}")
    if control == "frozen":
        for part in block.modules():
            for name, weight in [*part.named_parameters(recurse=False)]:
                delattr(part, name)
                part.register_buffer(name, weight.detach())
    if control == "shuffled":
        block.shuffled = True
    return block


def _check_shape(block: nn.Module, inputs: tuple[Tensor], output: Tensor) -> None:
    """UserError if a plugin's attention changes the shape of the spikes."""
    (x,) = inputs
    if not isinstance(output, Tensor) or output.shape != x.shape:
        found = tuple(output.shape) if isinstance(output, Tensor) else f"a {type(output).__name__}"
        raise UserError(f"attention {type(block).__name__} gives {found} for {tuple(x.shape)}; wanted the same shape")


def _sizes(parsed: tuple[words.Word, ...], image_size: int) -> list[int]:
    """Pixels a side after each transposed convolution. Found backwards from the image, as an encoder's strides would
    shrink it: ceil(size / stride)."""
    sizes, size = [], image_size
    for word in reversed(parsed):
        if isinstance(word, words.Upsample):
            size = math.ceil(size / word.factor)
        elif isinstance(word, words.Conv) and word.transposed:
            sizes.append(size)
            size = math.ceil(size / word.stride)
    return sizes[::-1]
