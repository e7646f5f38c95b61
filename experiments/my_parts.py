"""An example of parts of your own: attention, a latent, a neuron, a readout, a data set and frames of event
recordings, each with a name.

From the shell, name this file with --plugin:

    tcja-gen list --plugin experiments/my_parts.py
    tcja-gen train --plugin experiments/my_parts.py --data bars --out runs/bars --model.time-steps 4 \
        --model.encoder 16C3s2-RATE-32C3s2-RATE --model.neuron eager --model.readout ramp \
        --model.latent.kind independent --model.latent.channels 64 --model.latent.flips 0.05
    tcja-gen sample runs/bars --plugin experiments/my_parts.py --grid
    tcja-gen evaluate runs/bars --plugin experiments/my_parts.py --metrics fad,reconstruction --n 512

From Python, import it (`import my_parts`, or `tg.load_plugin("experiments/my_parts.py")`); the names are then known:

    run = tg.train(data="bars", model=dict(neuron="eager", latent=dict(kind="independent", flips=0.05)))
    tg.evaluate(tg.load(run.folder), "bars", metrics=["fad"])

Shapes have the time first: T time steps, N images, C channels, H x W pixels, L channels of the latent.
"""

import math
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

import tcja_gen as tg
from tcja_gen.nn import Gate, Neuron
from tcja_gen.ranges import setting


# Attention: a word of the notation, here RATE. A `Gate` multiplies each channel by a number in (0, 1); you say which,
# as scores before the sigmoid. It is built for T and C. Any module that maps (T, N, C, H, W) to the same shape will do.
@tg.register_attention("RATE")
class RateGate(Gate):
    """Gates a channel by its firing rate over all time steps: sigmoid(a rate + b), with learned a and b."""

    def __init__(self, time_steps, channels):
        super().__init__(time_steps, channels)
        self.a, self.b = nn.Parameter(torch.zeros(channels)), nn.Parameter(torch.ones(channels))

    def scores(self, z):
        """z (T, N, C), the mean of every channel over its pixels -> scores of the same shape."""
        return (self.a * z.mean(0) + self.b).expand_as(z)


# A neuron: a function that makes one. Here it is the package's own with another setting, which keeps its fast kernels;
# any module that maps currents (T, N, ...) to spikes of the same shape will do, too.
@tg.register_neuron("eager")
def eager():
    """The LIF neuron of the TCJA paper with half its threshold."""
    return Neuron.preset("tcja", v_threshold=0.5)


# A readout: how much each of the T steps counts in the image.
@tg.register_readout("ramp")
def ramp(time_steps):
    """Weights that grow with time, 1 in sum."""
    steps = torch.arange(1, time_steps + 1)
    return steps / steps.sum()


# The settings of a latent: fields with a default, a range, and a text below, which is the help of the flag
# (--model.latent.flips). `channels` and `divergence_weight` come with LatentSettings.
@dataclass(frozen=True)
class IndependentSettings(tg.LatentSettings):
    flips: float = setting(0.02, least=0, most=0.5)
    """Share of the bits that are flipped in training, so that the decoder learns to bear a wrong bit."""
    firing: float = setting(0.2, above=0, below=1)
    """Firing rate that the prior starts from."""


# A latent: what lies between encoder and decoder. It says how z (T, N, L) is made of an image, how far that is from the
# prior, and how z is drawn from the prior. All chance comes from `draws`, so that one seed is always the same image.
@tg.register_latent("independent", IndependentSettings)
class IndependentLatent(tg.Latent):
    """Every bit of the prior fires by itself, with a rate of its own that is learned."""

    def __init__(self, settings, context):
        super().__init__(settings, context)
        self.entry = self.linear_entry(context)  # a spiking layer from the encoder's output to h (T, N, L)
        start = math.log(settings.firing / (1 - settings.firing))
        logits = torch.full((self.time_steps, 1, self.channels), start)
        self.prior = nn.ParameterList([logits])  # called prior, so that a stage of a training may fit it alone

    def encode(self, h, draws):
        return torch.where(self._uniform(draws) < self.settings.flips, 1 - h, h) if self.training else h

    def infer(self, h, draws, progress=1.0, y=None):
        z = self.encode(h, draws)
        return z, F.binary_cross_entropy_with_logits(self.prior[0].expand_as(z), z.float())

    def sample(self, draws, y=None):
        return (self._uniform(draws) < self.prior[0].sigmoid()).float()

    def _uniform(self, draws):
        return draws.uniform(self.time_steps, self.channels).transpose(0, 1)  # (T, N, L) in [0, 1)


# A data set: images, and labels if there are some, of the splits "train", "validation" and "test". `root` is the folder
# of --data-root, for a set that is read from files. The images must be the same at every call.
@tg.register_dataset("bars")
def bars(split, root):
    """Noisy images of 16 x 16 pixels with one bright bar, lying (class 0) or upright (class 1)."""
    if split == "validation":
        return None  # is then held out of the training images
    n, seed = {"train": (2000, 0), "test": (500, 1)}[split]
    draw = np.random.default_rng(seed)
    images, labels = draw.uniform(0, 0.2, (n, 1, 16, 16)), draw.integers(0, 2, n)
    for image, label, row in zip(images[:, 0], labels, draw.integers(0, 14, n), strict=True):
        bar = image.T if label else image
        bar[row : row + 3] += 0.7
    return images, labels  # floats in [0, 1], or uint8


# Frames of event recordings: --events-by surface. A function of a recording's events (arrays t, x, y, p in order of
# time), T and the sensor's (H, W) returns integers (T, 2, H, W).
@tg.register_frames("surface")
def surface(events, time_steps, size):
    """Time surfaces: at the end of each of T equal spans, 255 where an event has just come, and e times less a span
    later (Lagorce et al., HOTS, 2017)."""
    span = max((events.t[-1] - events.t[0]) / time_steps, 1)
    last = np.full((2, *size), -np.inf)  # when a pixel had its last event
    frames = []
    for end in events.t[0] + span * np.arange(1, time_steps + 1):
        seen = events.t <= end
        last[events.p[seen], events.y[seen], events.x[seen]] = events.t[seen]
        frames.append(255 * np.exp((last - end) / span))
    return np.rint(frames).astype(np.int64)
