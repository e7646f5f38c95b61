"""Spiking layers as plain modules: arguments in, tensors out, time first, no state kept between calls."""

from .attention import ATTENTION, CLA, FC, SE, TA, TCJA, TLA, Conv2d, Gate, TCJAAdd
from .coders import SpikingDecoder, SpikingEncoder, SpikingHead, keep
from .draws import Draws, ImageDraws, StepDraws
from .latents import BernoulliLatent, ScheduledSampling
from .layers import Build, SpikingBlock
from .neurons import Neuron, lif, lif_step
from .normalisation import LIF, NormLIF, TDBatchNorm, fuse
from .notation import mirror, parse
from .readouts import Readout

__all__ = [
    "ATTENTION",
    "CLA",
    "FC",
    "LIF",
    "SE",
    "TA",
    "TCJA",
    "TLA",
    "BernoulliLatent",
    "Build",
    "Conv2d",
    "Draws",
    "Gate",
    "ImageDraws",
    "Neuron",
    "NormLIF",
    "Readout",
    "ScheduledSampling",
    "SpikingBlock",
    "SpikingDecoder",
    "SpikingEncoder",
    "SpikingHead",
    "StepDraws",
    "TCJAAdd",
    "TDBatchNorm",
    "fuse",
    "keep",
    "lif",
    "lif_step",
    "mirror",
    "parse",
]
