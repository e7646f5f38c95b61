"""Training in one stage or in several: the functions `train` and `resume`.

    RUN/config.toml                 the recipe, with all of its stages
    RUN/stage-1-autoencoder/        a run of its own (see `runs`), which starts from random weights
    RUN/stage-2-decoder/            the next one, which starts from the last checkpoint of the stage before
    ...

A stage takes model and data from the recipe, and weights from the stage before. Used as a model, the whole run is its
last finished stage. The folders show which stages are finished, so a killed run resumes in the right one.
"""

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from shlex import quote
from typing import Any

from .. import files
from ..data import found_again, splits_of
from ..errors import MissingFile, UserError
from ..models import FITS, store
from ..process import Process, start
from ..settings import differences, shortened
from . import runs
from .config import FREE_ON_RESUME, STAGE_KEYS, Config, as_table, change, one_by_one, text
from .loop import Place, Run, Trainer, rehearse
from .recipes import load
from .samples import Samples, Splits, prepare


def train(
    config: Config | str | Path | None = None,
    *,
    data: Any = None,
    stage: str = "",
    stages: Sequence[Mapping] | Mapping[str, Mapping] | None = None,
    quiet: bool = False,
    on_record: runs.OnRecord | None = None,
    **overrides,
) -> Run:
    """Trains a generator or a classifier, in all stages of its recipe, and returns its `Run`.

    config: a `Config`, a recipe's name, a TOML file, or None for the defaults (the embedded digits).
    overrides: fields of `Config`, nested for parts: train("mnist-tcja", model=dict(latent=dict(channels=64))).
    data: name or path of a data set, or the images: an `ImageSet`, an array or tensor (N, C, H, W), (images, labels),
    or a torch `Dataset`; see `data.splits_of`.
    stage: train only this stage. Overrides of stage settings apply to it, otherwise to all stages.
    stages: a list of stages, [dict(name="prior", fit="prior", ...), ...], or changes of the recipe's stages by name.
    quiet: print no progress.
    on_record: called as on_record(step, values, images) whenever the run logs something. step: counted in each stage
    from 1. values: floats by name, as in TensorBoard (losses, rates, "firing_rate_of/LAYER", "validation_loss", ...).
    images: pictures by name, "samples" and "reconstructions", uint8 tensors (3, H, W). Either may be empty. It runs in
    the first process alone; what it raises ends the training.

    UserError for settings, data or folders that cannot be used, Diverged if losses or gradients are not finite.
    """
    given, overrides = _given(data, overrides)
    if stages is not None:
        overrides["stage"] = stages
    config = change(_base(config), overrides, stage)
    if stage and stage != config.stages[0].name:
        raise UserError(f"stage {stage!r}: a new run begins with {config.stages[0].name!r}; --resume RUN has others")
    if start(config.device).first:
        runs.check_place(config)
    config, process, samples = prepare(config, given)
    for one in one_by_one(config).values() if config.stages else ():
        rehearse(one, process, samples)
    folder = process.share(runs.new_folder(config) if process.first else None)
    try:
        with runs.alone(folder, process):
            if config.stages:
                return _in_stages(config, process, samples, folder, quiet, stage, on_record)
            return Trainer(config, process, samples, folder, quiet, on_record=on_record).run()
    except BaseException:  # Ctrl-C before the first step, too
        if process.first and not runs.environment_of(folder):
            runs.remove_empty(folder)
        raise


def resume(
    run: str | Path,
    *,
    data: Any = None,
    stage: str = "",
    quiet: bool = False,
    on_record: runs.OnRecord | None = None,
    **overrides,
) -> Run:
    """Resumes a run from its last checkpoint and returns its `Run`. Only settings that cannot change the result
    (devices, logging, where the data are) can be overridden.

    data: as for `train`; needed if the run was trained on images that were passed in Python. stage: in a run with
    stages, train this one again, with any overrides. The stages after it must then be trained again, too. on_record: as
    for `train`.

    UserError for other settings or data than those of the run, or if another process trains it, Diverged if losses or
    gradients are not finite.
    """
    folder = Path(run)
    saved = saved_config(folder, quiet)
    given, overrides = _given(data, overrides)
    if given is None and runs.data_facts(folder).get("given"):
        raise UserError(
            f"{folder}: trained on images that were passed in Python; resume it by tg.resume(run, data=...)"
        )
    config = change(saved, overrides, stage)
    if config.out != saved.out and Path(config.out) != folder:
        raise UserError(f"{folder}: a run goes on in its own folder; leave out --out {config.out}")
    if config.init_from != saved.init_from:
        raise UserError(
            f"{folder}: what a run starts from has been taken over; leave out --init-from {config.init_from}"
        )
    if changes := _differences(saved, config, ("model", *STAGE_KEYS) if stage else ()):
        advice = _advice(folder, saved, config)
        raise UserError(f"{folder}: a resumed run keeps its settings, but {shortened(changes)}; {advice}")
    prepared, process, samples = prepare(_with_data_paths(folder, saved, config), given)
    with runs.alone(folder, process):
        if stage:
            _begin_anew(folder, prepared, config, stage, process, samples)
        if config.stages:
            return _in_stages(prepared, process, samples, folder, quiet, stage, on_record)
        return Trainer(prepared, process, samples, folder, quiet, on_record=on_record).run()


def _base(config: Config | str | Path | None) -> Config:
    """The settings to begin with; those that were made in Python are looked through as those of a file are."""
    if isinstance(config, Config):
        return change(Config(), as_table(config))
    return load(config) if config else Config()


def _given(data: Any, overrides: dict) -> tuple[Splits | None, dict]:
    """The splits of images that were passed in Python, or None; and the overrides with the name of the data."""
    if data is None:
        return None, overrides
    if isinstance(data, str | Path):
        return None, overrides | {"data": str(data)}
    given = splits_of(data)
    return given, overrides | {"data": given["train"].name}


def saved_config(folder: Path, quiet: bool = False) -> Config:
    """The settings of a run, in order to resume it. UserError or MissingFile if there is no run that can be resumed."""
    if not (folder / "config.toml").is_file():
        raise MissingFile(f"{folder}: no run to resume here (config.toml is missing)")
    if folder.name.startswith("stage-") and (folder.parent / "config.toml").is_file():
        raise UserError(f"{folder}: a stage of the run {folder.parent}; --resume that one")
    runs.check_plugins(folder, quiet)
    try:
        return load(folder / "config.toml")
    except UserError as error:
        if " is called " not in str(error):
            raise
        advice = f"train --init-from {quote(str(folder))} --init all starts from its weights"
        raise UserError(f"{error}: a run of an earlier version, which cannot be resumed; {advice}") from None


def _differences(saved: Config, config: Config, free: Sequence[str] = ()) -> list[str]:
    """Lines that tell in which settings, of any stage, two configs differ, of those that can change the result. free:
    more settings that may differ."""
    before, now = ([as_table(one) for one in one_by_one(each).values()] for each in (saved, config))
    pairs = zip(before, now, strict=True)
    return [*dict.fromkeys(line for a, b in pairs for line in differences(a, b, (*FREE_ON_RESUME, *free)))]


def _advice(folder: Path, saved: Config, config: Config) -> str:
    """What to do instead of resuming with changed settings."""
    if not config.stages and config.steps > saved.steps:
        if not _differences(saved, replace(config, steps=saved.steps)):
            file = folder / "config.toml"
            again = f"{quote(str(file))} --init-from {quote(str(folder))} --init all --out OTHER --steps N"
            return f"to train longer: tcja-gen train {again}"
    return "start a new run"


# stages


def _in_stages(
    config: Config,
    process: Process,
    samples: Samples,
    folder: Path,
    quiet: bool = False,
    only: str = "",
    on_record: runs.OnRecord | None = None,
) -> Run:
    """Trains all stages that are not finished, or only the one named `only`."""
    stages = one_by_one(config)
    run = Run(folder, 0, False)
    for number, (name, stage) in enumerate(stages.items(), 1):
        place = Place(folder, tuple(stages), number)
        if only not in ("", name):
            continue
        stage = _after_the_one_before(stage, place, stages)
        if not store.has_step(place.folder, stage.steps):
            started = (place.folder / "config.toml").is_file()
            resumed = place.folder if started else None
            stage = replace(stage, out=str(place.folder))
            run = Trainer(stage, process, samples, resumed, quiet, place, on_record).run()
            run = replace(run, folder=folder)
        else:
            _check_unchanged(place, stage)
            run = Run(folder, stage.steps, True)
        if not run.finished:
            break
    return run


def _check_unchanged(place: Place, stage: Config) -> None:
    """UserError if a finished stage was trained with other settings than the recipe has now. The model's may differ
    after `--resume --stage`: those that a later stage and this one must share have been compared when it took over."""
    trained = load(place.folder / "config.toml")
    if changed := differences(as_table(trained), as_table(stage), (*FREE_ON_RESUME, "model")):
        anew = f"tcja-gen train --resume {quote(str(place.run))} --stage {quote(place.name)} trains it anew"
        raise UserError(f"{place.run}: {place} was trained with other settings ({shortened(changed)}); {anew}")


def _after_the_one_before(stage: Config, place: Place, stages: Mapping[str, Config]) -> Config:
    """The config of a stage, which starts from the stage before it. UserError if that one is not finished."""
    if place.number == 1:
        return stage
    before = replace(place, number=place.number - 1)
    if not store.has_step(before.folder, stages[before.name].steps):
        raise UserError(f"{place.run}: stage {place.name!r} starts from {before.name!r}, which is not finished")
    return replace(stage, init_from=str(before.folder), init="all" if FITS[stage.fit].encoder else "auto")


def _begin_anew(folder: Path, prepared: Config, config: Config, name: str, process: Process, samples: Samples) -> None:
    """Makes room to train a stage again, once it is sure that it can be trained."""
    stages = one_by_one(prepared)
    place = Place(folder, tuple(stages), [*stages].index(name) + 1)
    rehearse(_after_the_one_before(stages[name], place, stages), process, samples)
    if process.first:
        asked = {key: getattr(config, key) for key in ("data", "data_root")}  # `prepared` has them as they were found
        files.write(folder / "config.toml", text(replace(prepared, **asked)))
        _set_aside(place)
    process.share(None)  # the others wait


def _set_aside(place: Place) -> None:
    """Renames the folders of a stage and of all later ones to NAME.before. Folders of unfinished stages are removed."""
    for number in range(place.number, len(place.names) + 1):
        current = replace(place, number=number).folder
        old = current.with_name(current.name + ".before")
        if store.steps(current) and store.is_finished(current):
            shutil.rmtree(old, ignore_errors=True)
            current.rename(old)
        elif current.exists():
            shutil.rmtree(current)


def _with_data_paths(folder: Path, saved: Config, config: Config) -> Config:
    """`config` with absolute paths of the data, unless overridden, so that a run resumes from any working directory."""
    facts = runs.data_facts(folder)
    data = found_again(saved.data, facts.get("path")) or facts.get("path", saved.data)
    root = facts.get("root")
    paths = {"data": data, "data_root": root if root and Path(root).is_dir() else saved.data_root}
    return replace(config, **{name: paths[name] for name in paths if getattr(config, name) == getattr(saved, name)})
