import copy

import pytest
import torch

from tcja_gen.models import Classifier, SpikingClassifier, build
from tcja_gen.nn import SpikingEncoder, StepDraws, set_memory


def step(model: torch.nn.Module, targets: torch.Tensor | None, precision: bool) -> dict[str, torch.Tensor]:
    """Loss, gradients and running statistics of one training step."""
    x = torch.rand(6, 1, 16, 16, generator=torch.Generator().manual_seed(0)) * 2 - 1
    with torch.autocast("cpu", torch.bfloat16, enabled=precision):
        loss = model.train()(x, StepDraws(0, 0, 6), 0.5, targets=targets)["loss"]
    loss.backward()
    gradients = {name: p.grad for name, p in model.named_parameters() if p.grad is not None}
    return {"loss": loss.detach(), **gradients, **dict(model.named_buffers())}


LATENT = {"channels": 8, "k": 4}
MODELS = {
    "generator": {"image_size": 16, "encoder": "8C3s2-TCJA-8C3s2-TCJA", "latent": LATENT},
    "compat": {"image_size": 16, "encoder": "8C3s2-8C3s2", "neuron": "fsvae", "latent": LATENT},
    "classifier": Classifier(16, encoder="8C3-8R3s2[TCJA]-8R3-MP2-8C3-TCJA", head="DP.5-8FC-10L"),
    "dropout last": Classifier(16, encoder="DP.2-8C3s2-8C3s2", head="DP.5-10L"),
}


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("half", [False, True])
def test_a_step_that_keeps_less_is_the_same_step(name, half):
    torch.manual_seed(0)
    model = build(MODELS[name])
    lean = set_memory(copy.deepcopy(model), "recompute")
    targets = torch.eye(10)[:6] if isinstance(model, SpikingClassifier) else None
    plain, ours = step(model, targets, half), step(lean, targets, half)
    assert plain.keys() == ours.keys()
    for key, value in plain.items():
        torch.testing.assert_close(ours[key], value, rtol=1e-5, atol=1e-6 * float(value.abs().max()), msg=key)


class Spare(torch.nn.Module):
    """Attention of which a part is not used."""

    def __init__(self):
        super().__init__()
        self.used, self.spare = (torch.nn.Parameter(torch.ones(())) for _ in range(2))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.used * x


def test_a_weight_that_nothing_uses_is_no_reason_to_keep_more():
    encoder = set_memory(SpikingEncoder("4C3-4C3-4C3", 1, 2, image_size=4), "recompute")
    encoder.stages.insert(1, Spare())
    encoder.train()(torch.rand(2, 1, 4, 4)).sum().backward()
    attention = encoder.stages[1]
    assert attention.used.grad is not None and attention.spare.grad is None


def test_what_is_kept_between_the_passes_is_a_fraction():
    sizes = {}
    for memory in ("speed", "recompute"):
        encoder = set_memory(SpikingEncoder("16C3s2-TCJA-16C3s2-TCJA-16C3", 1, 8, image_size=16), memory)
        storages = {}

        def pack(tensor, storages=storages):
            storages[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
            spikes = encoder(torch.rand(16, 1, 16, 16))
        sizes[memory] = sum(storages.values())
        del spikes
    assert sizes["recompute"] < 0.2 * sizes["speed"]


def test_an_unknown_setting_is_named():
    with pytest.raises(ValueError, match="'little'; known: speed, recompute"):
        set_memory(build({"image_size": 8, "encoder": "8C3s2", "latent": {"channels": 4, "k": 2}}), "little")
