"""One thread, so that figures do not depend on the machine; and the smallest model that has all parts."""

import pytest
import torch

torch.set_num_threads(1)


@pytest.fixture
def tiny() -> dict:
    """Arguments of a generator of 8 x 8 images with attention, small enough for a step in milliseconds."""
    return {
        "image_size": 8,
        "image_channels": 1,
        "time_steps": 3,
        "encoder": "8C3s2-TCJA-8C3s2-TCJA",
        "latent": 8,
        "k": 4,
    }
