import pytest
import torch

from tcja_gen.models import build
from tcja_gen.nn import SpikingEncoder, StepDraws, fuse
from tcja_gen.nn.kernels import cpu
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


@pytest.mark.skipif(not cpu.compiler(), reason="there is no C++ compiler")
def test_watching_the_neurons_changes_no_bit_of_a_step():
    torch.manual_seed(0)
    sizes = {"image_size": 16, "time_steps": 3, "encoder": "16C3s2-TCJA-32C3s2-TCJA", "latent": {"channels": 16}}
    model, found = fuse(build(sizes), "native").train(), []
    state = {name: value.clone() for name, value in model.state_dict().items()}
    for watched in (False, True):
        model.load_state_dict(state)
        model.zero_grad()
        x = torch.rand(4, 1, 16, 16, generator=torch.Generator().manual_seed(1)) * 2 - 1
        with watch(model) if watched else torch.enable_grad() as seen:
            loss = model(x, StepDraws(0, 0, 4), 0.5)["loss"]
            loss.backward()
        found.append([loss.detach(), *(p.grad for p in model.parameters()), *model.buffers()])
        found[-1] = [None if tensor is None else tensor.clone() for tensor in found[-1]]
    assert all(a is b or torch.equal(a, b) for a, b in zip(*found, strict=True))
    last = model.decoder.stages[-2].neurons
    assert len(seen) == 12 and seen["decoder.stages.2"][0] > 0 and last.seen_by is None
