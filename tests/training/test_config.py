"""Settings as they are written in recipes and given as changes: what is read, what is refused, what is kept."""

import pytest

from tcja_gen.errors import UserError
from tcja_gen.models import Classifier
from tcja_gen.nn import CodeSettings, latent_settings
from tcja_gen.nn.objectives import OBJECTIVES, TET
from tcja_gen.settings import table, update
from tcja_gen.training import recipes, train
from tcja_gen.training.adversary import Adversarial
from tcja_gen.training.config import Config, Objective, Stage, change, check, one_by_one, scaled, text
from tcja_gen.training.perceptual import Perceptual
from tcja_gen.training.recipes import load

STAGES = [
    {"name": "autoencoder", "fit": "autoencoder", "steps": 30},
    {"name": "decoder", "fit": "decoder", "objective": {"perceptual": {"weight": 0.25}, "adversarial": {}}},
    {"name": "prior", "fit": "prior", "lr": 3e-3},
]
STAGED = {"model": {"latent": {"kind": "codes", "flips": 0.1}}, "batch": 16, "stage": STAGES}


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"step": 3}, "unknown key 'step'; did you mean 'steps'? known: fit, steps,"),
        ({"zzz": 3}, "unknown key 'zzz'; known: fit"),
        ({"model": {"encodr": "4C3"}}, "unknown key 'model.encodr'; did you mean 'encoder'?"),
        ({"model": {"latent": {"chanels": 4}}}, "unknown key 'model.latent.chanels'; did you mean 'channels'?"),
        ({"model": {"latent": {"scheduled": {"frist": 4}}}}, "unknown key 'model.latent.scheduled.frist'; did you"),
        ({"objective": {"perceptul": {}}}, "unknown key 'objective.perceptul'; did you mean 'perceptual'?"),
        ({"steps": 3.5}, "key 'steps' is 3.5; int is wanted"),
        ({"steps": True}, "key 'steps' is True; int is wanted"),
        ({"steps": "many"}, "key 'steps' is 'many'; int is wanted"),
        ({"flip": 1}, "key 'flip' is 1; bool is wanted"),
        ({"schedule": "linear"}, "key 'schedule' is 'linear'; known: cosine, constant"),
        ({"model": {"surrogate": 3}}, "key 'model.surrogate' is 3; str is wanted"),
        ({"model": {"latent": {"k": 3.0}}}, "key 'model.latent.k' is 3.0; int is wanted"),
        ({"model": {"latent": {"divergence": "js"}}}, "key 'model.latent.divergence' is 'js'; known: mmd, mmd-sum, kl"),
        ({"model": {"latent": {"kind": ["codes"]}}}, "key 'model.latent.kind' is ['codes']; known: bernoulli"),
        ({"model": {"latent": CodeSettings}}, "key 'model.latent' is the class CodeSettings; wanted: Bernoulli"),
        ({"model": {"latent": Config()}}, "key 'model.latent' is a Config; wanted: BernoulliSettings(...), Code"),
        ({"model": {"latent": {"scheduled": CodeSettings()}}}, "is a CodeSettings; wanted: ScheduledSampling(...)"),
        ({"objective": {"perceptual": TET()}}, "key 'objective.perceptual' is a TET; wanted: Perceptual(...)"),
        ({"model": {3: 4}}, "unknown key 'model.3'; known: image_size"),
        ({"model": 3}, "key 'model' must be a table of settings, got 3"),
        ({"objective": {"adversarial": True}}, "key 'objective.adversarial' must be a table of settings, got True"),
        ({"lr": float("nan")}, "lr is nan, it must be positive"),
        ({"lr": 10**400}, "lr is inf, it must be positive"),
        ({"steps": 10**400}, "steps is a number of 1329 bits, which is too large"),
        ({"objective": {"adversarial": {"noise": float("nan")}}}, "objective.adversarial.noise is nan"),
        ({"model": {"latent": {"scheduled": {"start": float("nan")}}}}, "start is nan, it must lie in [0, 1]"),
        ({"model": {"latent": {"kind": "spline"}}}, "key 'model.latent.kind' is 'spline'; known: bernoulli, codes,"),
        ({"objective": {"classification": {"kind": "mse"}}}, "key 'objective.classification.kind' is 'mse'; known: ce"),
        ({"model": {"kind": "classifier"}}, "model.kind: the kind of a model follows from task, generate or classify"),
        ({"task": "paint"}, "key 'task' is 'paint'; known: generate, classify"),
    ],
)
def test_a_setting_that_is_not_known_or_not_of_its_kind_is_told(changes, says):
    with pytest.raises(UserError) as error:
        change(Config(), changes)
    assert says in str(error.value) and "\n" not in str(error.value)


def test_parts_and_paths_are_handed_over_from_python_as_they_are(tmp_path):
    config = change(Config(), {"model": {"latent": CodeSettings(channels=3)}, "out": tmp_path})
    assert config.model.latent == CodeSettings(channels=3) and config.out == str(tmp_path)


@pytest.mark.parametrize(
    ("config", "says"),
    [
        (lambda: Config(precision="fp16"), "key 'precision' is 'fp16'; known: fp32, bf16, auto"),
        (lambda: Config(fit="half"), "key 'fit' is 'half'"),
        (lambda: Config(fit="prior", freeze=True), "freeze has no meaning"),
        (lambda: Config(steps="3"), "steps is '3', it must be a whole number"),
        (
            lambda: Config(stages=(Stage("a", {"objective": Objective()}),)),
            "stage 'a': its parts are written as tables",
        ),
    ],
)
def test_a_config_that_is_made_in_python_is_checked_like_a_file(config, says):
    with pytest.raises(UserError) as error:
        train(config())
    assert says in str(error.value)


def test_a_whole_number_will_do_for_a_float():
    assert change(Config(), {"lr": 1}).lr == 1.0 and type(change(Config(), {"lr": 1}).lr) is float


def test_another_kind_of_part_starts_from_its_own_defaults():
    wide = change(Config(), {"model": {"latent": {"channels": 64, "divergence_weight": 3.0}}})
    codes = change(wide, {"model": {"latent": {"kind": "codes", "flips": 0.1}}})
    assert codes.model.latent == CodeSettings(flips=0.1) and codes.model.latent.channels == 3
    again = change(codes, {"model": {"latent": {"kind": "codes", "rounds": 4}}})  # the same kind keeps what it has
    assert again.model.latent == CodeSettings(flips=0.1, rounds=4)
    assert change(wide, {"model": {"latent": {"kind": "bernoulli"}}}) == wide


def test_a_term_that_is_not_named_does_not_exist_and_one_that_is_has_its_defaults():
    assert Config().objective.perceptual is None and Config().objective.adversarial is None
    made = change(Config(), {"objective": {"perceptual": {}, "adversarial": {"noise": 0.0}}}).objective
    assert made == Objective(perceptual=Perceptual(), adversarial=Adversarial(noise=0.0))
    assert change(Config(), {"objective": {"perceptual": None}}) == Config()


@pytest.mark.parametrize("kind", latent_settings())
def test_a_config_with_any_latent_is_the_same_from_its_table_and_its_file(tmp_path, kind):
    config = change(Config(), {"steps": 7, "model": {"surrogate": "box", "latent": {"kind": kind, "channels": 2}}})
    assert update(Config(), {key: value for key, value in table(config).items() if key != "stages"}) == config
    (tmp_path / "config.toml").write_text(text(config))
    assert load(tmp_path / "config.toml") == config


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"objective": {"perceptual": {"weight": 0.25}}},
        {"objective": {"adversarial": {"network": "4C3"}}, "out": 'a "quoted" [name] = #'},
        {"model": {"head": "10L"}, "objective": {"classification": {"kind": "smse", "weight": 0.1}}},
        {"task": "classify", "model": {"bias": False}, "objective": {"classification": {"kind": "tet"}}},
        STAGED,
    ],
)
def test_a_config_is_read_as_it_was_written(tmp_path, changes):
    config = change(Config(), changes)
    (tmp_path / "config.toml").write_text(text(config))
    assert load(tmp_path / "config.toml") == config


def test_another_task_has_a_model_of_its_own():
    config = change(Config(), {"task": "classify", "objective": {"classification": {"kind": "tet"}}})
    assert config.model == Classifier() and config.objective.classification == TET()
    assert {*OBJECTIVES} == {"ce", "tet", "smse", "rate-mse"}


@pytest.mark.parametrize("name", recipes.recipes())
def test_every_recipe_of_the_package_is_read_and_written(tmp_path, name):
    config = load(name)
    (tmp_path / "a.toml").write_text(text(config))
    assert load(tmp_path / "a.toml") == config
    assert scaled(config, 0.01) != config


OLD = {
    "latent": "model.latent.channels",
    "latent_kind": "model.latent.kind",
    "k": "model.latent.k",
    "conditional": "model.latent.conditional",
    "divergence_weight": "model.latent.divergence_weight",
    "scheduled_first": "model.latent.scheduled.first",
    "prior": "model.latent.prior",
    "objective": "objective.classification.kind",
    "tet_mean": "objective.classification.tet_mean",
    "head_weight": "objective.classification.weight",
}


@pytest.mark.parametrize(("old", "new"), OLD.items())
def test_a_flat_key_of_an_older_recipe_names_the_new_one(tmp_path, old, new):
    (tmp_path / "a.toml").write_text(f"[model]\n{old} = 1\n")
    with pytest.raises(UserError, match=f"a.toml: model.{old} is called {new} now"):
        load(tmp_path / "a.toml")


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("perceptual", "objective.perceptual.weight"),
        ("adversarial", "objective.adversarial.weight"),
        ("discriminator", "objective.adversarial.network"),
        ("noise", "objective.adversarial.noise"),
    ],
)
def test_an_older_key_of_the_loss_names_the_new_one(old, new):
    with pytest.raises(UserError, match=f"{old} is called {new} now"):
        change(Config(), {old: 0.5})


# stages


def test_a_stage_differs_from_the_recipe_in_what_it_says():
    config = change(Config(), STAGED | {"ema": 0.5})
    runs = one_by_one(config)
    assert [*runs] == ["autoencoder", "decoder", "prior"]
    assert [run.steps for run in runs.values()] == [30, 2000, 2000] and {run.ema for run in runs.values()} == {0.5}
    assert {run.batch for run in runs.values()} == {16} and len({run.model for run in runs.values()}) == 1
    assert runs["decoder"].objective.perceptual == Perceptual(0.25) and runs["prior"].objective == Objective()


def test_a_change_is_of_all_stages_or_of_the_one_that_is_named():
    config = change(Config(), STAGED)
    every = one_by_one(change(config, {"steps": 5, "model": {"latent": {"flips": 0.2}}}))
    assert [run.steps for run in every.values()] == [5, 5, 5]
    assert {run.model.latent.flips for run in every.values()} == {0.2}
    one = [run.steps for run in one_by_one(change(config, {"steps": 5}, stage="prior")).values()]
    named = [run.steps for run in one_by_one(change(config, {"stage": {"prior": {"steps": 5}}})).values()]
    assert one == named == [30, 2000, 5]
    half = one_by_one(change(config, {"stage": {"decoder": {"objective": {"perceptual": {"weight": 0.5}}}}}))
    assert half["decoder"].objective == Objective(perceptual=Perceptual(0.5), adversarial=Adversarial())


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"stage": [{"name": "a", "stpes": 3}]}, "stage 'a': 'stpes' is no setting of a stage; known: augment, batch"),
        ({"stage": [{"name": "a", "model": {}}]}, "stage 'a': 'model' is no setting of a stage"),
        ({"stage": [{"name": "a", "data": "mnist"}]}, "stage 'a': 'data' is no setting of a stage"),
        ({"stage": [{"name": "a", "fit": "half"}]}, "stage 'a': key 'fit' is 'half'; known: all, autoencoder"),
        ({"stage": [{"name": "a", "lr": -1.0}]}, "stage 'a': config: lr is -1.0"),
        ({"stage": [{"name": "a"}, {"name": "a"}]}, "stage 'a': there are two of this name"),
        ({"stage": [{"name": "A b"}]}, "stage 'A b': a name has lower-case letters, digits, - and _"),
        ({"stage": [{"fit": "all"}]}, "key 'stage' must be a list of tables, each with a name"),
        ({"stage": 3}, "key 'stage' must be a list of tables"),
        ({"stages": [{"name": "a"}]}, "unknown key 'stages': a stage is a table [[stage]]"),
        ({"stage": {"third": {}}}, "no stage 'third' in this recipe; known: autoencoder, decoder, prior"),
    ],
)
def test_stages_that_cannot_be_are_told(changes, says):
    with pytest.raises(UserError) as error:
        change(change(Config(), STAGED), changes)
    assert says in str(error.value) and "\n" not in str(error.value)


def test_a_stage_that_is_not_there_is_told():
    with pytest.raises(UserError, match="no stage 'third' in this recipe; known: autoencoder, decoder, prior"):
        change(change(Config(), STAGED), {"steps": 3}, stage="third")
    with pytest.raises(UserError, match="no stage 'prior' in this recipe; known: none, it has no stages"):
        change(Config(), {"steps": 3}, stage="prior")
    with pytest.raises(UserError, match="must be set in the stages"):
        check(Config(steps=3, stages=(Stage("a"),)))


def test_a_shorter_training_is_shorter_in_every_stage():
    runs = one_by_one(scaled(load("mnist"), 0.01))
    assert [run.steps for run in runs.values()] == [25, 40, 50]
    assert [run.checkpoint_every for run in runs.values()] == [5, 5, 10]
