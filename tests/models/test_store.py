import json
import os
import pickle
import stat

import pytest
import torch
from latent_kinds import LATENT_KINDS
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from tcja_gen.errors import UserError
from tcja_gen.metrics.weights import save_tensors
from tcja_gen.models import Classifier, Generator, build, load, pretrained, save
from tcja_gen.models.store import find, metadata, save_copy, weights_hash
from tcja_gen.nn.objectives import TET
from tcja_gen.settings import update


@pytest.fixture
def settings(tiny) -> Generator:
    return update(Generator(), tiny)


@pytest.fixture
def kept(tmp_path, settings):
    """A model and its file."""
    torch.manual_seed(0)
    model = build(settings)
    path = tmp_path / "model.safetensors"
    save(path, model, settings, {"step": 7, "data": {"name": "digits"}})
    return model, path


def refused(path, kind=ValueError) -> str:
    """The one line that a user sees."""
    with pytest.raises(kind) as error:
        load(path)
    line = str(error.value)
    assert "\n" not in line and str(path) in line and len(line) < 500 + len(str(path))
    return line


def test_a_kept_model_gives_the_same_images_and_knows_where_it_comes_from(kept):
    model, path = kept
    other = load(path)
    assert not other.training and other.provenance == {"step": 7, "data": {"name": "digits"}}
    for name, tensor in model.state_dict().items():
        assert torch.equal(other.state_dict()[name], tensor), name
    assert torch.equal(other.sample([0, 1]), model.sample([0, 1]))
    assert torch.equal(load(path.parent).sample([0]), model.sample([0]))  # its folder
    assert [p.name for p in path.parent.iterdir()] == ["model.safetensors"]  # nothing half-written


def test_a_model_with_any_kind_of_latent_is_kept(tmp_path, tiny, latent_kind):
    torch.manual_seed(0)
    settings = update(Generator(), {**tiny, **latent_kind})
    model, path = build(settings), tmp_path / "model.safetensors"
    save(path, model, settings, {})
    other, x = load(path), torch.rand(3, 1, 8, 8)
    assert type(other.latent) is type(model.latent)
    assert torch.equal(other.sample([0, 1]), model.sample([0, 1]))
    assert torch.equal(other.reconstruct(x), model.reconstruct(x))


def test_a_run_folder_leads_to_its_last_and_best_checkpoints(kept, tmp_path, settings):
    model, _ = kept
    run = tmp_path / "run"
    for step, loss in ((999_998, 0.3), (999_999, 0.1), (1_000_000, 0.2)):
        facts = {"step": step, "validation": {"loss": loss}}
        save(run / f"checkpoints/step-{step:06d}/model.safetensors", model, settings, facts)
    assert load(run).provenance["step"] == 1_000_000
    assert load(run, which="best").provenance["step"] == 999_999
    with pytest.raises(UserError, match="wanted 'last' or 'best'"):
        load(run, which="Best")
    assert find(run).parent.name == "step-1000000"


def test_the_best_checkpoint_is_one_of_a_run(kept):
    for name in ("digits", kept[1]):
        with pytest.raises(UserError, match="which = 'best' chooses among the checkpoints of a run"):
            load(name, which="best")


def test_a_damaged_checkpoint_does_not_count(kept, tmp_path, settings, capsys):
    run = tmp_path / "run"
    for step in (1, 2, 3):
        save(run / f"checkpoints/step-{step:06d}/model.safetensors", kept[0], settings, {"step": step})
    whole = (run / "checkpoints/step-000003/model.safetensors").read_bytes()
    (run / "checkpoints/step-000003/model.safetensors").write_bytes(whole[: len(whole) // 2])
    (run / "checkpoints/step-000002/model.safetensors").write_bytes(b"")
    assert load(run).provenance["step"] == 1
    assert "step-000003 is damaged; step-000001 is the last whole checkpoint" in capsys.readouterr().err


def test_others_may_read_weights_where_the_umask_lets_them(kept, tmp_path, settings):
    before = os.umask(0o027)
    try:
        save(tmp_path / "made" / "model.safetensors", kept[0], settings, {})
        save_tensors({"w": torch.ones(2)}, tmp_path / "made" / "network.safetensors")
    finally:
        os.umask(before)
    assert [stat.S_IMODE(file.stat().st_mode) for file in (tmp_path / "made").iterdir()] == [0o640, 0o640]


def test_another_format_is_refused(kept, tmp_path):
    model, _ = kept
    path = tmp_path / "future.safetensors"
    weights = {name: value.contiguous() for name, value in model.state_dict().items()}
    save_file(weights, path, {"format": "99", "model": "{}", "provenance": "{}"})
    assert "format 99, this version reads format 2" in refused(path)
    save_file({"weight": torch.zeros(2)}, path)  # another program's
    assert "format unknown" in refused(path)


@pytest.mark.parametrize("size", [0, 4, 1000, -1])
def test_a_damaged_file_is_refused(kept, size):
    path = kept[1]
    path.write_bytes(path.read_bytes()[:size])
    assert "damaged" in refused(path)


def test_a_pickle_under_another_name_is_refused_and_not_run(tmp_path):
    class Bomb:
        def __reduce__(self):
            return open, (str(tmp_path / "ran"), "w")

    path = tmp_path / "model.safetensors"
    path.write_bytes(pickle.dumps(Bomb()))
    assert "not a safetensors file" in refused(path)
    torch.save({"weights": Bomb()}, path)
    assert "not a safetensors file" in refused(path)
    assert not (tmp_path / "ran").exists()


def test_what_is_not_there_is_named(tmp_path):
    assert "no such run or checkpoint" in refused(tmp_path / "none", FileNotFoundError)
    (tmp_path / "empty").mkdir()
    assert "no checkpoint in this folder" in refused(tmp_path / "empty", FileNotFoundError)
    (tmp_path / "run/checkpoints/step-000004").mkdir(parents=True)  # its files were deleted by hand
    refused(tmp_path / "run", FileNotFoundError)


def test_weights_that_do_not_fit_their_settings_are_refused(kept, tmp_path, settings):
    path = tmp_path / "other.safetensors"
    save(path, kept[0], update(settings, {"latent": {"channels": 16}}), {})
    assert "do not fit its own settings" in refused(path)


def rewrite(path, tensors=None, **changes) -> None:
    """Changes what a file says of itself, and its weights."""
    with safe_open(path, "pt") as file:
        facts = file.metadata()
    save_file(tensors or load_file(path), path, {**facts, **changes})


@pytest.mark.parametrize(
    "changes",
    [{"colour": 3}, {"neuron": "plif"}, {"latent": "many"}, {"latent": {"kind": "spline"}}, {"latent": {"colour": 3}}],
)
def test_settings_that_this_version_does_not_know_are_refused(kept, tiny, changes):
    rewrite(kept[1], model=json.dumps({**tiny, **changes}))
    assert "cannot build a model from its settings" in refused(kept[1])


FLAT = {  # settings of generators as format 1 had them, those of every latent side by side
    "k": 4,
    "divergence": "mmd",
    "passes": "steps",
    "scheduled_start": 0.1,
    "scheduled_end": 0.3,
    "scheduled_first": 5,
    "scheduled_replace": "draw",
    "conditional": False,
    "prior": "8C3",
    "rounds": 16,
    "temperature": 1.0,
    "flips": 0.0,
    "divergence_weight": 1.0,
    "objective": "ce",
    "head_weight": 1.0,
    "tet_weight": 1e-3,
    "tet_mean": 1.0,
}
CODES = {"encoder": "8C3s2-TCJA", "latent": {"kind": "codes", "channels": 2, "prior": "8C3-8R3[TCJA]", "rounds": 4}}
CODES["decoder"] = "8T4s2"


def as_format_1(path, flat: dict) -> None:
    """The same file as it was written before settings were tables, and the latent's first layer a part of it."""
    tensors = {name.replace("latent.entry.", "to_latent."): t for name, t in load_file(path).items()}
    rewrite(path, tensors, format="1", model=json.dumps(flat))


@pytest.mark.parametrize("kind", ["bernoulli", "poisson", "gaussian", "codes"])
def test_a_file_of_format_1_gives_the_images_that_it_gave(tmp_path, tiny, kind):
    torch.manual_seed(0)
    table = {**tiny, **LATENT_KINDS.get(kind, CODES)}
    model, path, x = build(table), tmp_path / "model.safetensors", torch.rand(3, 1, 8, 8)
    save(path, model, update(Generator(), table), {"step": 3})
    latent = dict(table["latent"])
    own = {"latent_kind": latent.pop("kind", "bernoulli"), "latent": latent.pop("channels"), **latent}
    as_format_1(path, {**FLAT, **table, **own})
    found = load(path)
    assert found.provenance == {"step": 3} and type(found.latent) is type(model.latent)
    assert torch.equal(found.sample([0, 1]), model.sample([0, 1]))
    assert torch.equal(found.reconstruct(x), model.reconstruct(x))


def test_a_classifier_of_format_1_is_judged_and_trained_by_its_own_objective(tmp_path):
    torch.manual_seed(0)
    settings = Classifier(image_size=8, time_steps=2, encoder="8C3s2", head="4L")
    model, path, x = build(settings, TET(tet_mean=2.0)), tmp_path / "model.safetensors", torch.rand(3, 1, 8, 8)
    save(path, model, settings, {})
    own = {"objective": "tet", "tet_weight": 1e-3, "tet_mean": 2.0, "head_weight": 1.0}
    as_format_1(path, {"image_size": 8, "time_steps": 2, "encoder": "8C3s2", "head": "4L", "bias": True} | own)
    found = load(path)
    assert found.objective == TET(tet_mean=2.0) and torch.equal(found.classify(x), model.classify(x))


def test_the_digits_that_come_with_the_package_are_of_format_1():
    path = pretrained.find("digits")
    assert metadata(path)["format"] == "1" and any(name.startswith("to_latent.") for name in load_file(path))
    assert load(path).sample([0]).std() > 0.1


def test_a_file_in_half_precision_is_half_as_large_and_computes_in_fp32(tmp_path):
    torch.manual_seed(0)
    settings = update(Generator(), {"encoder": "32C3s2-TCJA-32C3s2", "image_size": 8, "latent": {"channels": 32}})
    whole, half, again = (tmp_path / f"{name}.safetensors" for name in ("whole", "half", "again"))
    save(whole, build(settings), settings, {"step": 7})
    save_copy(whole, half, half=True)
    assert half.stat().st_size < 0.6 * whole.stat().st_size
    small, large = load(half), load(whole)
    assert small.provenance == large.provenance == {"step": 7}
    for name, tensor in large.state_dict().items():
        found = small.state_dict()[name]
        assert found.dtype == tensor.dtype
        torch.testing.assert_close(found, tensor, rtol=2**-11 if tensor.dim() > 1 else 0, atol=1e-7)
    assert (small.sample(range(8)) - large.sample(range(8))).abs().mean() < 0.01
    save(again, small, settings, {})
    assert weights_hash(load(again)) == weights_hash(load(half)) == weights_hash(small) != weights_hash(large)


def test_to_halve_a_file_again_or_in_its_place_changes_nothing(kept):
    path = kept[1]
    save_copy(path, path.with_name("half.safetensors"), half=True)
    save_copy(path.with_name("half.safetensors"), path, half=True)
    first, second = load_file(path), load_file(path.with_name("half.safetensors"))
    assert {str(t.dtype) for t in first.values()} >= {"torch.float16", "torch.float32"}
    assert all(torch.equal(first[name], t) and first[name].dtype == t.dtype for name, t in second.items())
    save_copy(path, path, half=True)
    assert all(torch.equal(first[name], t) for name, t in load_file(path).items())


@pytest.mark.parametrize("value", [1e5, -1e5, 1e-7, float("inf"), float("nan")])
def test_weights_that_half_precision_cannot_hold_stay_in_fp32(kept, value):
    path, half = kept[1], kept[1].with_name("half.safetensors")
    tensors = load_file(path)
    name = next(name for name, t in tensors.items() if t.dim() > 1)
    tensors[name] = tensors[name] * 1e-7 if value == 1e-7 else tensors[name].fill_(value)
    rewrite(path, tensors)
    save_copy(path, half, half=True)
    found = load_file(half)
    assert found[name].dtype == torch.float32 and torch.equal(found[name].nan_to_num(), tensors[name].nan_to_num())
    assert [n for n, t in found.items() if t.dim() > 1 and t.dtype == torch.float32] == [name]


def test_a_damaged_file_is_not_halved(kept, tmp_path):
    kept[1].write_bytes(kept[1].read_bytes()[:1000])
    with pytest.raises(UserError, match="damaged"):
        save_copy(kept[1], tmp_path / "half.safetensors", half=True)
    assert not (tmp_path / "half.safetensors").exists()


@pytest.mark.parametrize("provenance", ["no JSON", "[1]", "3"])
def test_facts_that_are_no_table_are_refused_in_one_line(tmp_path, tiny, provenance):
    save(tmp_path / "a.safetensors", build(tiny), update(Generator(), tiny), {})
    with safe_open(tmp_path / "a.safetensors", "pt") as file:
        facts, tensors = file.metadata(), {name: file.get_tensor(name) for name in file.keys()}
    save_file(tensors, tmp_path / "b.safetensors", {**facts, "provenance": provenance})
    with pytest.raises(UserError, match="b.safetensors: cannot build a model from its settings"):
        load(tmp_path / "b.safetensors")
