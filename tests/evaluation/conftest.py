import pytest
import torch

from tcja_gen.models import build
from tcja_gen.nn import ImageDraws, NormLIF


@pytest.fixture
def model(tiny):
    """A generator in evaluation mode whose statistics have settled, so that it fires when it samples."""
    torch.manual_seed(0)
    model = build(tiny)
    for layer in model.modules():
        if isinstance(layer, NormLIF):
            torch.nn.init.constant_(layer.bias, 0.5)
    with torch.no_grad():
        for seed in range(30):
            images = torch.rand(32, 1, 8, 8, generator=torch.Generator().manual_seed(seed))
            model(images * 2 - 1, ImageDraws(range(seed, seed + 32)))
    model.eval()
    model.provenance = {"weights": "EMA", "step": 1}
    return model
