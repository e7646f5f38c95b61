"""A plugin: one file, no change elsewhere."""

from pathlib import Path

import pytest
import torch

import tcja_gen as tg
from tcja_gen import registry
from tcja_gen.errors import UserError
from tcja_gen.models import Generator, load
from tcja_gen.nn import latent_settings
from tcja_gen.settings import table, texts, update
from tcja_gen.training.config import Config, change
from tcja_gen.training.recipes import load as load_config

LATENT = '''from dataclasses import dataclass
from torch import nn
from tcja_gen.nn import Latent, LatentSettings
from tcja_gen.ranges import setting
from tcja_gen.registry import register_latent

@dataclass(frozen=True)
class RareSettings(LatentSettings):
    rate: float = setting(0.5, above=0, below=1)
    """Share of ones at the start."""
    dropped: float = setting(0.1, least=0, below=1)
    """Share of spikes that are left out in training."""

@register_latent("rare", RareSettings)
class RareLatent(Latent):
    def __init__(self, settings, context):
        super().__init__(settings, context)
        self.entry = self.linear_entry(context)
        self.prior = nn.Linear(1, self.channels)
        nn.init.constant_(self.prior.bias, settings.rate - 0.5)

    def encode(self, h, draws):
        kept = draws.uniform(*h.shape[::2]).transpose(0, 1) >= self.settings.dropped
        return h * kept if self.training else h

    def infer(self, h, draws, progress=1.0, y=None):
        z = self.encode(h, draws)
        return z, (self.prior.bias.sigmoid() - z.detach().mean((0, 1))).square().mean()

    def sample(self, draws, y=None):
        return (draws.uniform(self.time_steps, self.channels).transpose(0, 1) < self.prior.bias.sigmoid()).float()
'''
SETTINGS = {"encoder": "8C3s2-TCJA", "time_steps": 3, "latent": {"kind": "rare", "channels": 6, "rate": 0.25}}


@pytest.fixture
def clean():
    """The registries as they were, afterwards."""
    before = [(dict(each._parts), dict(each._sources)) for each in registry.REGISTRIES]
    yield
    for each, (parts, sources) in zip(registry.REGISTRIES, before, strict=True):
        each._parts, each._sources = parts, sources


@pytest.fixture
def plugin(tmp_path, clean) -> Path:
    """A file with a latent, loaded."""
    file = tmp_path / "rare.py"
    file.write_text(LATENT)
    registry.load_plugin(file)
    return file


@pytest.fixture
def run(plugin, tmp_path):
    settings = {"steps": 4, "checkpoint_every": 2, "batch": 16, "device": "cpu", "compile": "off", "quiet": True}
    return tg.train(out=str(tmp_path / "run"), model=SETTINGS, **settings)


def test_a_latent_is_one_short_file(run, tmp_path):
    assert len(list(filter(None, LATENT.splitlines()))) < 30
    assert run.finished and type(run.model.latent).__name__ == "RareLatent"
    config = load_config(run.folder / "config.toml")
    assert (config.model.latent.rate, config.model.latent.dropped, config.model.latent.channels) == (0.25, 0.1, 6)
    images = run.model.sample(range(3))
    assert images.shape == (3, 1, 8, 8) and torch.equal(images[1:2], run.model.sample([1]))
    assert torch.equal(load(run.folder).sample(range(3)), images)
    assert run.model.reconstruct(images).shape == run.model.interpolate(images[0], images[1], 3).shape == images.shape
    decoder = {**SETTINGS, "latent": {"kind": "rare", "channels": 6}}
    shared = {"steps": 1, "device": "cpu", "compile": "off", "quiet": True, "model": decoder}
    refined = tg.train(out=str(tmp_path / "refined"), fit="decoder", init_from=str(run.folder), **shared)
    assert torch.equal(refined.model.latent.prior.bias, run.model.latent.prior.bias)
    assert tg.resume(run.folder, quiet=True).finished


def test_its_settings_are_like_any_others(plugin):
    assert latent_settings()["rare"].__name__ == "RareSettings"
    made = update(Generator(), {"latent": {"kind": "rare", "dropped": 0.5}})
    assert update(Generator(), table(made)) == made and table(made)["latent"]["kind"] == "rare"
    assert texts(type(made.latent))["rate"] == "Share of ones at the start."
    for latent, says in (
        ({"dropped": 1.0}, "dropped is 1.0, it must lie in"),
        ({"rat": 0.5}, "unknown key 'model.latent.rat'; did you mean 'rate'?"),
        ({"k": 3}, "unknown key 'model.latent.k'"),
        ({"rate": "half"}, "key 'model.latent.rate' is 'half'; float is wanted"),
    ):
        with pytest.raises(UserError) as error:
            change(Config(), {"model": {"latent": {"kind": "rare", **latent}}})
        assert says in str(error.value)


def test_a_plugin_may_say_from_future_import_annotations(clean, tmp_path):
    (tmp_path / "rare.py").write_text("from __future__ import annotations\n" + LATENT)
    registry.load_plugin(tmp_path / "rare.py")
    assert change(Config(), {"model": SETTINGS}).model.latent.rate == 0.25
    with pytest.raises(UserError, match="key 'model.latent.rate' is 'x'; float is wanted"):
        change(Config(), {"model": {"latent": {"kind": "rare", "rate": "x"}}})
