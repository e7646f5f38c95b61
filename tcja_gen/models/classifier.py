"""The spiking classifier: the generator's encoder, and a head in the same notation.

    x (N, C, H, W) in [-1, 1], or event frames (T, N, 2, H, W) of counts
    s = encoder(x)      (T, N, ...)
    o = head(s)         (T, N, K)      logits, votes or spikes at every step
    class = argmax of the mean of o over time

The networks of the TCJA paper's code (ridgerchu/TCJA) are recipes: `tcja-gen list` names them.
"""

import torch
from torch import Tensor, nn

from ..nn import Draws, SpikingEncoder, SpikingHead, evaluating
from ..nn.objectives import CrossEntropy, accuracy
from .inputs import check_alike, check_frames, check_images, check_precision, check_tensor
from .overview import overview
from .vae import chunk_size, time_first


class SpikingClassifier(nn.Module):
    """Spiking classifier of images or event frames, composed of its parts. `models.build` makes one from settings.

    Image size, channels and T are those of the encoder. The number of classes K is that of the head's last word.
    """

    kind = "classifier"

    def __init__(self, encoder: SpikingEncoder, head: SpikingHead, objective: CrossEntropy | None = None):
        super().__init__()
        check_alike("numbers of time steps", {encoder.time_steps, head.time_steps})
        self.encoder, self.head, self.objective = encoder, head, objective or CrossEntropy()
        self.image_channels, self.image_size, self.image_width = encoder.input
        self.time_steps, self.classes = encoder.time_steps, head.classes
        self.provenance: dict = {}  # facts of the run that trained the weights, for records
        self.to(memory_format=torch.channels_last)

    def __repr__(self) -> str:
        return overview(self)

    def forward(
        self, x: Tensor, draws: Draws | None = None, progress: float = 1.0, *, targets: Tensor
    ) -> dict[str, Tensor]:
        """ "loss" and "accuracy" of a batch x, as for `outputs`. targets: (N, K) class probabilities."""
        o = self.outputs(x, draws)
        return {"loss": self.objective.weight * self.objective(o, targets), "accuracy": accuracy(o, targets)}

    def outputs(self, x: Tensor, draws: Draws | None = None) -> Tensor:
        """Outputs (T, N, K), float32, for images (N, C, H, W) in [-1, 1] or event frames (T, N, C, H, W). draws: for
        dropout, in training only."""
        return self.head(self.encoder(x, draws), draws).float()

    @torch.no_grad()
    def classify(self, images: Tensor) -> Tensor:
        """Outputs at every time step, (N, T, K), for images (N, C, H, W) in [0, 1] or event counts (N, T, C, H, W), in
        evaluation mode. UserError for other inputs."""
        check_precision(self)
        check_tensor(images, "samples")
        shape = (self.image_channels, self.image_size, self.image_width)
        images = check_frames(images, (self.time_steps, *shape)) if images.dim() == 5 else check_images(images, shape)
        device, outputs = next(self.parameters()).device, []
        with evaluating(self):
            for chunk in images.split(chunk_size(self.time_steps, self.image_size, self.image_width)):
                x = self.as_input(chunk.to(device).float())
                outputs.append(self.outputs(time_first(x)).transpose(0, 1))
        return torch.cat(outputs)

    def as_input(self, x: Tensor) -> Tensor:
        """What the encoder takes, of images in [0, 1] or of event frames, whose counts stay, in the same shape."""
        return x * 2 - 1 if x.dim() == 4 else x

    def predict(self, images: Tensor) -> Tensor:
        """Classes (N,), int64, of images or event frames as `classify` takes them."""
        return self.classify(images).mean(1).argmax(1)
