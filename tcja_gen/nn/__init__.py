"""Spiking layers as plain modules. Time is the first axis, and no state is kept between calls."""

from ..registry import ATTENTION
from .attention import CLA, FC, SE, TA, TCJA, TLA, Conv2d, Gate, TCJAAdd
from .coders import SpikingDecoder, SpikingEncoder, SpikingHead, set_memory
from .currents import ChannelGain, CurrentCLA, CurrentGate, CurrentTCJA, CurrentTCJANormed, CurrentTLA, TimeGain
from .draws import Draws, ImageDraws, NotedDraws, PlacedDraws, RepeatedDraws, StepDraws
from .latents import (
    BernoulliLatent,
    BernoulliSettings,
    CodeLatent,
    CodeSettings,
    Context,
    GaussianLatent,
    GaussianSettings,
    Latent,
    LatentSettings,
    PoissonLatent,
    PoissonSettings,
    ScheduledSampling,
    latent_settings,
    make_latent,
)
from .layers import Build, SpikingBlock, neuron_named
from .modes import evaluating
from .neurons import PRESETS, Neuron, lif, lif_step
from .nodes import SPIKING, NodeNeuron
from .normalisation import LIF, NormLIF, NormReLU, ReLU, TDBatchNorm, fuse
from .notation import mirror, parse
from .readouts import FrameReadout, GatedReadout, Readout, makes_frames

__all__ = [
    "ATTENTION",
    "CLA",
    "FC",
    "LIF",
    "PRESETS",
    "SE",
    "TA",
    "TCJA",
    "TLA",
    "BernoulliLatent",
    "BernoulliSettings",
    "Build",
    "CodeLatent",
    "CodeSettings",
    "ChannelGain",
    "CurrentCLA",
    "CurrentGate",
    "CurrentTCJA",
    "CurrentTCJANormed",
    "CurrentTLA",
    "Context",
    "Conv2d",
    "Draws",
    "FrameReadout",
    "Gate",
    "GatedReadout",
    "GaussianLatent",
    "GaussianSettings",
    "ImageDraws",
    "Latent",
    "LatentSettings",
    "Neuron",
    "NodeNeuron",
    "SPIKING",
    "NormLIF",
    "NormReLU",
    "NotedDraws",
    "PlacedDraws",
    "PoissonLatent",
    "PoissonSettings",
    "ReLU",
    "RepeatedDraws",
    "Readout",
    "ScheduledSampling",
    "SpikingBlock",
    "SpikingDecoder",
    "SpikingEncoder",
    "SpikingHead",
    "StepDraws",
    "TCJAAdd",
    "TDBatchNorm",
    "TimeGain",
    "evaluating",
    "fuse",
    "set_memory",
    "latent_settings",
    "lif",
    "lif_step",
    "make_latent",
    "makes_frames",
    "mirror",
    "neuron_named",
    "parse",
]
