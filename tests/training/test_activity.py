import torch

from tcja_gen.nn import SpikingEncoder
from tcja_gen.training.activity import summary, watch


def test_every_layer_of_neurons_is_watched_in_residual_networks_too():
    torch.manual_seed(0)
    encoder = SpikingEncoder("4C3-4R3-MP2-6FC", 1, time_steps=3, image_size=4)
    with watch(encoder) as seen:
        encoder(torch.randn(5, 1, 4, 4))
    rates = summary(seen)
    assert {*rates["layers"]} == {"stages.1.fire", "stages.1.first", "stages.2", "stages.5"}
    assert 0 < rates["rate"] < 1 and 0 <= rates["dead"] < 1


def test_a_neuron_that_never_fires_is_dead():
    encoder = SpikingEncoder("4C3", 1, time_steps=3, image_size=4)
    encoder.stages[0].neurons.bias.data[:2] = -100.0  # two of four channels
    with watch(encoder) as seen:
        encoder(torch.randn(50, 1, 4, 4))
    (rate, dead), *_ = summary(seen)["layers"].values()
    assert 0.5 <= dead < 0.7 and rate > 0
