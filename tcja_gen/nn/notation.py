"""Parser of the notation that the papers use for architectures: "32C3s2-TCJA-64C3s2-TCJA" -> typed words.

    32C3s2       convolution, 32 channels, 3 x 3, stride 2 (1 if left out), then tdBN and neurons
    32T3s2       the same with a transposed convolution, which multiplies the size by its stride
    128FC        linear layer, then tdBN (none with plain batch normalisation) and neurons
    10L          linear layer without neurons: logits
    Voting10     mean over groups of ten features: ten voters for each class
    64R3s2[TCJA] residual block of two convolutions (MS-ResNet); [TCJA], if given, is attention between them
    MP2  AP2     max or average pooling over 2 x 2; AAP48: adaptive average pooling to 48 x 48
    U2           upsampling in a decoder: every pixel is repeated twice in each direction
    DP.5         dropout of half of the inputs, the same ones at every time step
    TCJA         attention on spikes: TCJA TLA CLA TCJAadd SE TA FC Conv2d (`attention.py`), or on the currents of the
                 layer before: TCJAC and others (`currents.py`), or a name added by `registry.register_attention`.
                 TCJA(4,2) sets k_time and k_channel. TLA uses only the first and CLA only the second; SE, TA and FC
                 have no kernels.
    frozenTCJA   a control: attention whose weights stay as they start
    shuffledTCJA a control: every image has the gates of the image before it in the batch, in training and in use. One
                 image then depends on another

A convolution with kernel size k is padded by k // 2. Input and output of a residual block are currents, and the block
begins with its own neurons. So the layer before the first block has no neurons, and neurons follow the last block. The
default kernel size of an attention is 2, or 1 if T (or C) is 1.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass, replace

from ..errors import UserError
from ..registry import ATTENTION
from .attention import kernel_names


@dataclass(frozen=True)
class Conv:
    channels: int
    kernel: int
    stride: int = 1
    transposed: bool = False


@dataclass(frozen=True)
class Linear:
    features: int


@dataclass(frozen=True)
class Logits:
    features: int


@dataclass(frozen=True)
class Voting:
    size: int


@dataclass(frozen=True)
class Pool:
    kind: str  # "max", "average" or "adaptive"
    size: int


@dataclass(frozen=True)
class Upsample:
    factor: int


@dataclass(frozen=True)
class Dropout:
    p: float


@dataclass(frozen=True)
class Attention:
    kind: str  # a registered name
    kernels: tuple[int, int] | None = None  # k_time, k_channel
    control: str = ""  # or "frozen", "shuffled"


@dataclass(frozen=True)
class Residual:
    channels: int
    kernel: int
    stride: int = 1
    attention: Attention | None = None


Word = Conv | Linear | Logits | Voting | Pool | Upsample | Dropout | Attention | Residual

_N = r"([1-9]\d*)"


def _patterns() -> dict[str, Callable[..., Word]]:
    """A regular expression for each kind of word, and the function that makes the word from its groups. Built at each
    use, so that attention can be registered at any time."""
    attention = rf"(frozen|shuffled)?({'|'.join(ATTENTION)})(?:\({_N},{_N}\))?"
    return {
        rf"{_N}([CT]){_N}(?:s{_N})?": lambda c, kind, k, s: Conv(int(c), int(k), int(s or 1), kind == "T"),
        rf"{_N}FC": lambda n: Linear(int(n)),
        rf"{_N}L": lambda n: Logits(int(n)),
        rf"Voting{_N}": lambda n: Voting(int(n)),
        rf"{_N}R{_N}(?:s{_N})?(?:\[{attention}\])?": lambda c, k, s, *a: Residual(
            int(c), int(k), int(s or 1), _attention(*a) if a[1] else None
        ),
        rf"(MP|AP|AAP){_N}": lambda kind, k: Pool({"MP": "max", "AP": "average", "AAP": "adaptive"}[kind], int(k)),
        rf"U{_N}": lambda n: Upsample(int(n)),
        r"DP(0?\.\d+)": lambda p: Dropout(float(p)),
        attention: _attention,
    }


def _attention(control: str | None, kind: str, k_time: str | None, k_channel: str | None) -> Attention:
    if k_time and not kernel_names(kind):
        raise UserError(f"{kind} has no kernels, got {kind}({k_time},{k_channel})")
    return Attention(kind, (int(k_time), int(k_channel)) if k_time else None, control or "")


def parse(notation: str) -> tuple[Word, ...]:
    """Words of a notation, in order. UserError, which names the first word that cannot be read, and its position."""
    words, patterns = [], _patterns()
    position = 0
    for text in notation.split("-"):
        word = _parse_word(text, patterns)
        if word is None:
            raise UserError(
                f"notation {notation!r}: cannot read {text!r} at character {position + 1}; "
                f"words look like 32C3s2, 32T3s2, 64R3s2[TCJA], 128FC, 10L, Voting10, MP2, AP2, U2, DP.5, "
                f"{', '.join(ATTENTION)}, TCJA(4,2); --plugin FILE adds the attention of a file"
            )
        words.append(word)
        position += len(text) + 1
    return tuple(words)


def _parse_word(text: str, patterns: dict[str, Callable[..., Word]]) -> Word | None:
    for pattern, build in patterns.items():
        if found := re.fullmatch(pattern, text):
            return build(*found.groups())
    return None


def structure(notation: str) -> tuple[Word, ...]:
    """Words of a notation without the kernel sizes of attention. Two notations of the same structure make the same
    layers if their weights also have the same shapes, which determine these sizes."""
    return tuple(_without_kernels(word) for word in parse(notation))


def _without_kernels(word: Word) -> Word:
    if isinstance(word, Residual) and word.attention:
        return replace(word, attention=_without_kernels(word.attention))
    return replace(word, kernels=None) if isinstance(word, Attention) else word


def mirror(notation: str) -> str:
    """Notation of the decoder that mirrors a convolutional encoder, as in FSVAE.

    Each stage inverts a stage of the encoder, in reverse order, with its kernel, stride and attention. Its channels are
    those of the encoder's stage before that one; the last stage has the channels of the encoder's first. UserError for
    a word that has no mirror image.

    >>> mirror("32C3s2-TCJA-64C3s2-TCJA")
    '32T3s2-TCJA-32T3s2-TCJA'
    """
    stages: list[tuple[Conv, str]] = []  # each convolution and the attention behind it
    for text in notation.split("-"):
        word = parse(text)[0]
        if isinstance(word, Conv):
            stages.append((word, ""))
        elif isinstance(word, Attention) and stages:
            stages[-1] = (stages[-1][0], stages[-1][1] + "-" + text)
        else:
            raise UserError(f"notation {notation!r}: {text!r} has no mirror image; write the decoder out")
    channels = [stage.channels for stage, _ in stages]
    outputs = channels[-2::-1] + channels[:1]  # c_{n-1} ... c_1, c_1
    return "-".join(
        f"{c}T{stage.kernel}" + (f"s{stage.stride}" if stage.stride > 1 else "") + attention
        for c, (stage, attention) in zip(outputs, reversed(stages), strict=True)
    )
