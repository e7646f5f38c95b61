import pytest
import torch
from torch import nn

from tcja_gen.evaluation import energy
from tcja_gen.models import build
from tcja_gen.nn import ATTENTION, StepDraws, mirror, parse
from tcja_gen.nn.notation import Attention, Conv, Dropout, Linear, Logits, Pool, Residual, Voting
from tcja_gen.registry import register_attention


def test_every_word_of_the_papers_is_read():
    words = parse(
        "128C3-32C3s2-64T3s2-MP2-AP4-DP.5-DP0.25-512FC-TCJA-TCJA(4,3)-10L-Voting10-AAP48-64R3-64R3s2[CLA(2,1)]"
    )
    assert words == (
        Conv(128, 3),
        Conv(32, 3, 2),
        Conv(64, 3, 2, transposed=True),
        Pool("max", 2),
        Pool("average", 4),
        Dropout(0.5),
        Dropout(0.25),
        Linear(512),
        Attention("TCJA"),
        Attention("TCJA", (4, 3)),
        Logits(10),
        Voting(10),
        Pool("adaptive", 48),
        Residual(64, 3),
        Residual(64, 3, 2, Attention("CLA", (2, 1))),
    )
    assert parse("-".join(ATTENTION)) == tuple(Attention(word) for word in ATTENTION)


@pytest.mark.parametrize(
    ("notation", "word", "position"),
    [
        ("32C3s2-TCJ-64C3s2", "'TCJ'", 8),
        ("32c3s2", "'32c3s2'", 1),
        ("32C3s2--64C3s2", "''", 8),
        ("32C3s2-0C3", "'0C3'", 8),
        ("32C3-TCJA(4)", "'TCJA(4)'", 6),
        ("32C3-DP1.5", "'DP1.5'", 6),
        ("32C3-32R3[MP2]", "'32R3[MP2]'", 6),
        ("", "''", 1),
    ],
)
def test_the_error_points_at_the_word_that_cannot_be_read(notation, word, position):
    with pytest.raises(ValueError) as error:
        parse(notation)
    message = str(error.value)
    assert f"cannot read {word} at character {position};" in message
    assert "TCJAadd" in message and "\n" not in message


@pytest.mark.parametrize(
    ("encoder", "decoder"),
    [
        ("32C3s2-TCJA-64C3s2-TCJA", "32T3s2-TCJA-32T3s2-TCJA"),
        ("32C3s2-64C3s2-128C3s2-256C3s2", "128T3s2-64T3s2-32T3s2-32T3s2"),  # FSVAE
        ("8C5-TLA-16C3s2-SE-CLA(2,3)", "8T3s2-SE-CLA(2,3)-8T5-TLA"),
        ("8C3s2", "8T3s2"),
    ],
)
def test_decoder_mirrors_the_encoder(encoder, decoder):
    assert mirror(encoder) == decoder


@pytest.mark.parametrize("notation", ["8C3-MP2", "8C3s2-16FC", "TCJA-8C3", "8C3s2-DP.5", "8C3s2-8R3"])
def test_what_has_no_mirror_image_is_named(notation):
    with pytest.raises(ValueError, match="has no mirror image; write the decoder out"):
        mirror(notation)


@pytest.fixture
def plugin(monkeypatch):
    """A plugin's attention, for one test: no `Gate`, and without kernels."""
    for what in ("_parts", "_sources"):
        monkeypatch.setattr(ATTENTION, what, dict(getattr(ATTENTION, what)))

    @register_attention("HALF")
    class Half(nn.Module):
        def __init__(self, time_steps, channels):
            super().__init__()
            self.gates = nn.Linear(channels, channels)

        def forward(self, x):
            return x * self.gates(x.mean((3, 4))).sigmoid()[..., None, None]

    @register_attention("Wide2D")
    class Wide(nn.Module):
        def __init__(self, time_steps, channels, k_channel):
            super().__init__()
            self.k = k_channel


def test_the_attention_of_a_plugin_is_a_word_like_others(plugin):
    assert parse("4C3-HALF-Wide2D(1,3)-4R3[HALF]")[1:3] == (Attention("HALF"), Attention("Wide2D", (1, 3)))
    with pytest.raises(ValueError, match="HALF has no kernels"):
        parse("4C3-HALF(2,2)")
    torch.manual_seed(0)
    model = build(
        {"image_size": 8, "encoder": "4C3s2-HALF-6C3s2-HALF", "time_steps": 2, "latent": {"channels": 4, "k": 2}}
    )
    model(2 * torch.rand(3, 1, 8, 8) - 1, StepDraws(0, 0, 3))["loss"].backward()
    assert model.encoder.stages[1].gates.weight.grad.any() and model.decoder.stages[-1].gates.weight.grad.any()
    model.sample([0])
    with pytest.raises(ValueError, match="the operations of Half, the attention of a plugin, are not known"):
        energy.count(model, range(64))


def test_what_no_plugin_has_registered_is_unknown():
    with pytest.raises(ValueError, match="cannot read 'HALF' .* TCJA.*--plugin FILE"):
        parse("4C3-HALF")


@pytest.mark.parametrize("name", ["", "MP2", "2X", "A-B", "TCJA(4,2)"])
def test_a_name_that_cannot_be_a_word_is_refused(name):
    with pytest.raises(ValueError, match="letters and digits only"):
        register_attention(name)
