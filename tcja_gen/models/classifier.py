"""The spiking classifier: the generator's encoder, and a head in the same notation.

    x (N, C, H, W) in [-1, 1], or event frames (T, N, 2, H, W) of counts
    s = encoder(x)      (T, N, ...)
    o = head(s)         (T, N, K)      logits, votes or spikes at every step
    class = argmax of the mean of o over time

`NETWORKS` are those of the TCJA paper's code (ridgerchu/TCJA), by name, with its numbers of parameters, and residual
ones for CIFAR, whose layers the paper does not give: MS-ResNet-18 (Hu et al.) with TCJA in every block is our reading.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from ..errors import UserError
from ..nn import Build, Draws, SpikingEncoder, SpikingHead, evaluating, neuron_named
from ..nn.objectives import accuracy, objective
from ..ranges import Range
from .inputs import check_frames, check_images, check_precision, check_tensor
from .vae import chunk_size


class SpikingClassifier(nn.Module):
    """Spiking classifier of images or event frames of `image_size` x `image_width` pixels (0: square).

    encoder, head: notations; the head's last word gives the classes. neuron: a preset's name, with `surrogate` (None:
    the preset's). normalisation: tdbn or bn (see `nn.Build`). objective: ce, tet, smse or rate-mse, with TET's weight
    lambda and mean phi.
    """

    kind = "classifier"

    def __init__(
        self,
        image_size: int = 32,
        image_width: int = 0,
        image_channels: int = 1,
        time_steps: int = 4,
        encoder: str = "32C3s2-TCJA-64C3s2-TCJA-128C3s2-TCJA",
        head: str = "10L",
        neuron: str = "tcja",
        surrogate: str | None = None,
        normalisation: str = "tdbn",
        bias: bool = True,
        objective: str = "ce",
        tet_weight: float = 1e-3,
        tet_mean: float = 1.0,
    ):
        super().__init__()
        if time_steps < 1:
            raise UserError(f"time_steps is {time_steps}, it must be at least 1")
        Range(least=0, most=1).check("tet_weight", tet_weight)
        self.image_size, self.image_width = image_size, image_width or image_size
        self.image_channels, self.time_steps = image_channels, time_steps
        self.objective = {"kind": objective, "tet_weight": tet_weight, "tet_mean": tet_mean}
        self.provenance: dict = {}
        settings = neuron_named(neuron, surrogate)
        sides = (self.image_size, self.image_width)
        self.encoder = SpikingEncoder(encoder, image_channels, time_steps, settings, sides, normalisation, bias)
        self.head = SpikingHead(head, self.encoder.shape, time_steps, Build(settings, normalisation, bias))
        self.classes = self.head.classes
        self.to(memory_format=torch.channels_last)

    def forward(
        self, x: Tensor, draws: Draws | None = None, progress: float = 1.0, *, targets: Tensor
    ) -> dict[str, Tensor]:
        """ "loss" and "accuracy" of a batch. targets: (N, K) of probabilities. Nothing but dropout draws."""
        o = self.outputs(x, draws)
        return {"loss": objective(o=o, g=targets, **self.objective), "accuracy": accuracy(o, targets)}

    def outputs(self, x: Tensor, draws: Draws | None = None) -> Tensor:
        """Outputs (T, N, K), float32, of images (N, C, H, W) in [-1, 1] or frames (T, N, C, H, W). draws: of dropout in
        training."""
        return self.head(self.encoder(x, draws), draws).float()

    @torch.no_grad()
    def classify(self, images: Tensor) -> Tensor:
        """Outputs at every step, (N, T, K), of images (N, C, H, W) in [0, 1] or frames (N, T, C, H, W) of counts."""
        check_precision(self)
        check_tensor(images, "samples")
        shape = (self.image_channels, self.image_size, self.image_width)
        images = check_frames(images, (self.time_steps, *shape)) if images.dim() == 5 else check_images(images, shape)
        device, outputs = next(self.parameters()).device, []
        with evaluating(self):
            for chunk in images.split(chunk_size(self.time_steps, self.image_size, self.image_width)):
                x = chunk.to(device).float()
                x = x * 2 - 1 if x.dim() == 4 else x.transpose(0, 1)
                outputs.append(self.outputs(x).transpose(0, 1))
        return torch.cat(outputs)

    def predict(self, images: Tensor) -> Tensor:
        """Classes (N,), int64, of images or frames as `classify` takes them."""
        return self.classify(images).mean(1).argmax(1)


def _residual(blocks: Sequence[int]) -> str:
    """Encoder of an MS-ResNet for 32 x 32 images: four stages of `blocks` blocks, TCJA in each block."""
    words = ["64C3"]
    for i, count in enumerate(blocks):
        channels = 64 * 2**i
        words += [f"{channels}R3{'s2' if i and not j else ''}[TCJA]" for j in range(count)]
    return "-".join(words) + "-AP4"


_DEEP = "64C3-128C3{}-AP2-256C3-256C3-AP2-512C3-512C3{}-AP2-512C3-512C3{}-AP2"
_WIDE = "64C3-MP2-128C3-MP2-256C3-MP2-256C3-TCJA(4,4)-MP2-512C3-TCJA(4,{})-MP2"
_PAPER = {"normalisation": "bn", "neuron": "tcja", "objective": "rate-mse"}
_EVENTS = {"image_channels": 2}

NETWORKS: dict[str, dict] = {
    "dvs128-gesture": {
        **_PAPER,
        **_EVENTS,
        "time_steps": 20,
        "image_size": 128,
        "encoder": "128C3-MP2-128C3-MP2-128C3-MP2-128C3-TCJA(4,4)-MP2-128C3-TCJA(4,4)-MP2",
        "head": "DP.5-512FC-DP.5-110FC-Voting10",
        "bias": False,
    },
    "n-caltech101": {
        **_PAPER,
        **_EVENTS,
        "time_steps": 14,
        "image_size": 180,
        "image_width": 240,
        "encoder": _WIDE.format(2),
        "head": "DP.5-1024FC-DP.5-101FC",
        "bias": False,
    },
    "cifar10-dvs": {
        **_PAPER,
        **_EVENTS,
        "time_steps": 10,
        "image_size": 128,
        "encoder": "AAP48-" + _DEEP.format("", "-TCJA(4,4)", "-TCJA(4,4)"),
        "head": "10L",
        "surrogate": "triangle",
    },
    "cifar10-dvs-tet": {
        **_PAPER,
        **_EVENTS,
        "time_steps": 10,
        "image_size": 48,
        "encoder": _DEEP.format("-TCJA(2,2)", "", ""),
        "head": "10L",
        "neuron": "tet",
        "objective": "tet",
    },
    "n-caltech101-tet": {
        **_PAPER,
        **_EVENTS,
        "time_steps": 14,
        "image_size": 180,
        "image_width": 240,
        "encoder": _WIDE.format(4),
        "head": "DP.5-1024FC-DP.5-101L",
        "neuron": "tet",
        "objective": "tet",
    },
    "fashion-mnist": {
        **_PAPER,
        "image_size": 28,
        "encoder": "128C3-TCJA-MP2-128C3-TCJA-MP2",
        "head": "2048FC-10FC",
        "bias": False,
    },
    "cifar10": {"image_channels": 3, "encoder": _residual((2, 2, 2, 2)), "head": "10L", "objective": "tet"},
    "cifar100": {"image_channels": 3, "encoder": _residual((2, 2, 2, 2)), "head": "100L", "objective": "tet"},
    "digits": {"image_size": 8, "encoder": "32C3-TCJA-MP2-64C3-TCJA-MP2", "head": "128FC-10L"},
}
