import hashlib

import numpy as np
import pytest
import torch
from torch import nn

from tcja_gen.metrics import DINOv2Features, find_dinov2
from tcja_gen.metrics.dinov2 import to_dinov2


@pytest.fixture
def images() -> torch.Tensor:
    return torch.randint(256, (3, 3, 32, 32), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


def test_it_sees_pils_bicubic_bytes_normalised_as_for_imagenet(images):
    from PIL import Image

    large = Image.fromarray(images[1].permute(1, 2, 0).numpy()).resize((224, 224), Image.Resampling.BICUBIC)
    wanted = (np.asarray(large) / 255 - (0.485, 0.456, 0.406)) / (0.229, 0.224, 0.225)
    assert np.abs(to_dinov2(images)[1].permute(1, 2, 0).numpy() - wanted).max() < 1e-5
    grey = to_dinov2(images[:, :1])
    assert grey.shape == (3, 3, 224, 224)


def test_its_features_are_those_of_torchs_own_transformer(images, dinov2_file):
    state, extract = torch.load(dinov2_file, weights_only=True), DINOv2Features(dinov2_file)
    x = nn.functional.conv2d(
        to_dinov2(images), *(state[f"patch_embed.proj.{n}"] for n in ("weight", "bias")), stride=14
    )
    places = extract._network._places(16)
    x = torch.cat([state["cls_token"].expand(3, -1, -1), x.flatten(2).mT], 1) + places
    for i in range(2):
        layer = nn.TransformerEncoderLayer(128, 2, 512, 0.0, "gelu", 1e-6, batch_first=True, norm_first=True)
        theirs = {"self_attn.in_proj_": "attn.qkv.", "self_attn.out_proj.": "attn.proj."}
        theirs |= {"linear1.": "mlp.fc1.", "linear2.": "mlp.fc2.", "norm1.": "norm1.", "norm2.": "norm2."}
        layer.load_state_dict(
            {a + n: state[f"blocks.{i}.{b}{n}"] for a, b in theirs.items() for n in ("weight", "bias")}
        )
        x = layer.train()(x)
    wanted = nn.functional.layer_norm(x, (128,), state["norm.weight"], state["norm.bias"], 1e-6)[:, 0]
    found = extract(images)
    assert torch.allclose(found, wanted, atol=1e-4) and found.std(0).max() > 1e-3
    assert extract.name == "dinov2-128" and extract.hash == hashlib.sha256(dinov2_file.read_bytes()).hexdigest()


def test_places_of_other_sizes_follow_the_learnt_ones(dinov2_file):
    network = DINOv2Features(dinov2_file)._network
    assert network._places(37) is network.pos_embed and network._places(16).shape == (1, 257, 128)
    with torch.no_grad():
        network.pos_embed[:, 1:] = 3.0
        assert torch.allclose(network._places(16)[:, 1:], torch.tensor(3.0), atol=1e-5)


def test_missing_or_strange_weights_are_one_line_that_says_where_to_fetch_them(tmp_path, monkeypatch):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.delenv("TCJA_GEN_DINOV2", raising=False)
    with pytest.raises(FileNotFoundError, match="fetch https://.*vitl14_pretrain.pth .1217 MB. to .*checkpoints"):
        find_dinov2()
    (tmp_path / "mine.pth").write_bytes(b"nothing")
    monkeypatch.setenv("TCJA_GEN_DINOV2", str(tmp_path / "mine.pth"))
    with pytest.raises(ValueError, match="mine.pth: not the weights of DINOv2 .S, B or L.; wanted a state dict"):
        DINOv2Features(find_dinov2())
