"""From an experiment to its result: runs, scores, cost and energy. What is there already is not made again.

A run is `OUT/NAME/seed-S`, trained by `tcja-gen train` in its own process, so that its peak of memory is its own; a run
that was interrupted is resumed. Its scores are kept in the run, in `scores/book-I.json` for sampling set I, and made
again if the book asks for others. A result is a JSON file of numbers with all that they depend on, see `result`.
"""

import json
import re
import statistics
import subprocess
import sys
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import nullcontext
from dataclasses import dataclass, replace
from pathlib import Path

from tcja_gen.models import store
from tcja_gen.settings import differences
from tcja_gen.training import config as configs
from tcja_gen.training import recipes
from tcja_gen.training.runs import statistics as statistics_of

from .plan import PLACES, Experiment, Plan

FILES = ("autoencoder", "reference", "classifier", "inception")  # arguments of `evaluate` that name files
# settings that are 0 until the data are read
FROM_DATA = ("image_size", "image_width", "image_channels", "classes", "full_count")
TRAININGS: set[subprocess.Popen] = set()  # processes that are running
TILES = 32  # of a picture; a cell of a study has a row of 8


class Stopped(Exception):
    """A training that was asked to stop, or failed; it has told why. The argument is its exit code."""


@dataclass(frozen=True)
class Place:
    """Where things are."""

    out: Path
    data_root: str
    files: Path

    def folder(self, experiment: Experiment) -> Path:
        name = experiment.name if experiment.scale == "cpu" else f"{experiment.scale}/{experiment.name}"
        return self.out / slug(name)

    def run(self, experiment: Experiment, seed: int) -> Path:
        return self.folder(experiment) / f"seed-{seed}"


def slug(name: str) -> str:
    """A path of plain characters: "gates/TCJAC, both" is gates/TCJAC-both."""
    return re.sub(r"[^\w./-]+", "-", name).replace("-/", "/").strip("-")


# training


def train_together(plan: Plan, runs: Iterable[tuple[Experiment, int]], place: Place, jobs: int) -> None:
    """Trains runs, so many at once; the output of each goes to seed-S.log beside it. A run that fails is left to
    `train`, which tries it again and reports why."""
    with ThreadPoolExecutor(jobs) as pool:
        futures = [pool.submit(train, plan, e, seed, place, place.run(e, seed).with_suffix(".log")) for e, seed in runs]
        try:
            wait(futures)
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            for process in [*TRAININGS]:
                process.terminate()
            raise


def train(plan: Plan, experiment: Experiment, seed: int, place: Place, log: Path | None = None) -> Path:
    """The finished run of a seed. ValueError if there is one with other settings; Stopped if it did not end.

    log: file for the training's output, in place of the screen
    """
    folder, config = place.run(experiment, seed), settings(plan, experiment, seed, place)
    if (folder / "config.toml").exists():
        _same(folder, config)
        if finished(folder):
            return folder
        _call(log, "--resume", folder, "--data-root", place.data_root)
    else:
        recipe = folder.with_suffix(".toml")
        recipe.parent.mkdir(parents=True, exist_ok=True)
        recipe.write_text(configs.text(config), encoding="utf-8")
        _call(log, recipe)
    if not finished(folder):
        raise Stopped(130)
    return folder


def settings(plan: Plan, experiment: Experiment, seed: int, place: Place) -> configs.Config:
    where = {"data_root": place.data_root, "out": str(place.run(experiment, seed))}
    if experiment.init_from:
        where["init_from"] = str(plan.folder / experiment.init_from)
    return configs.change(plan.config(experiment, seed), where)


def finished(folder: Path) -> bool:
    """Whether a run, or the last stage of a run, has a checkpoint of its last step."""
    if not (folder / "config.toml").exists():
        return False
    stages, parts = configs.one_by_one(recipes.load(folder / "config.toml")), _parts(folder)
    return len(stages) == len(parts) and store.has_step(parts[-1], [*stages.values()][-1].steps)


def _parts(run: Path) -> list[Path]:
    """The folders of a run's stages; of a run without stages its own."""
    return store.stages(run) or [run]


def _same(folder: Path, config: configs.Config) -> None:
    """ValueError if a run has other settings."""
    saved = recipes.load(folder / "config.toml")
    found = {name: getattr(saved.model, name) for name in FROM_DATA if not getattr(config.model, name, True)}
    config = replace(config, model=replace(config.model, **found))
    if config.precision == "auto":
        config = replace(config, precision=saved.precision)
    free = tuple(PLACES - {"seed"})
    if unlike := differences(configs.as_table(saved), configs.as_table(config), free):
        raise ValueError(f"{folder}: a run with other settings, {'; '.join(unlike)}; move it, or give another --out")


def _call(log: Path | None, *arguments) -> None:
    """`tcja-gen train`, waited for even when this process is asked to stop: it saves and ends by itself."""
    with log.open("a", encoding="utf-8") if log else nullcontext() as told:
        command = [sys.executable, "-m", "tcja_gen", "train", *map(str, arguments)]
        process = subprocess.Popen(command, stdout=told, stderr=told and subprocess.STDOUT)
        TRAININGS.add(process)
        try:
            code = process.wait()
        except BaseException:
            process.terminate()
            process.wait()
            raise
        finally:
            TRAININGS.remove(process)
    if code:
        raise Stopped(code)


# scores


def scores(
    protocol: dict, sampling: int, weights: Path, place: Place, kept: Path | None = None, classifier: Path | None = None
) -> list[dict]:
    """A record of `evaluate` for each sampling set; those in the folder `kept` that were asked alike are taken.

    classifier: the file of the one that scores; None if no score needs one, or the protocol names it
    """
    return [_score(protocol, i, weights, place, kept, classifier) for i in range(sampling)]


def _score(protocol: dict, i: int, weights: Path, place: Place, kept: Path | None, classifier: Path | None) -> dict:
    from tcja_gen import evaluate, load
    from tcja_gen.evaluation.protocol import read_record, write_record

    asked = protocol | ({"seed": i * protocol["n"]} if "n" in protocol else {})
    told = asked | ({"weights": weights.name} if weights.is_file() else {})
    file = kept / f"book-{i}.json" if kept else None
    if file and file.exists() and (record := read_record(file))["asked"] == told:
        if not classifier or classifier_hash(record) in (None, hash_of(classifier)):
            return record
    named = files(asked, place) | ({"classifier": classifier} if classifier else {})
    model = load(weights, device())
    record = evaluate(model, **asked | named, root=place.data_root, device=device()) | {"asked": told}
    if file:
        write_record(file, record)
    return record


def files(asked: dict, place: Place) -> dict[str, Path]:
    """The files that a protocol names. FileNotFoundError if one is not there."""
    found = {name: place.files / asked[name] for name in FILES if name in asked}
    if missing := [file for file in found.values() if not file.is_file()]:
        raise FileNotFoundError(f"{missing[0]}: no such file; --autoencoder-dir names the folder that has it")
    return found


def scoring_classifier(folder: Path, protocol: dict, weights: Path, place: Place) -> Path | None:
    """The file of the classifier that scores a data set, kept beside the book in `folder`; made if it is not there.

    None if no score needs one, or the protocol names one.
    """
    if "classifier" in protocol or not any(metric.endswith("-classifier") for metric in protocol["metrics"]):
        return None
    file = kept_classifier(folder, protocol)
    if not file.exists():
        from tcja_gen import load
        from tcja_gen.evaluation.networks import FeatureNetworks
        from tcja_gen.evaluation.real_images import RealImages
        from tcja_gen.evaluation.request import Request

        shape = {"size": load(weights).image_size, "channels": load(weights).image_channels}
        request = Request(data=protocol["data"], root=place.data_root, device=device(), progress=True, **shape)
        network, _ = FeatureNetworks(request, RealImages(request)).classifier
        file.parent.mkdir(parents=True, exist_ok=True)
        network.save(file)
    return file


def kept_classifier(folder: Path, protocol: dict) -> Path:
    return folder / "weights" / "classifiers" / f"{slug(protocol['data'])}.safetensors"


def hash_of(classifier: Path) -> str:
    from tcja_gen.metrics import load_classifier

    return load_classifier(classifier).hash


def classifier_hash(record: dict) -> str | None:
    """The hash of the classifier that made scores of a record or result; None if there are none."""
    names = [name for name in record["scores"] if name.endswith("-classifier")]
    return _network(record["protocol"], names[0]) if names else None


def device() -> str:
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"


# results


def weights(experiment: Experiment, seed: int, place: Place) -> Path:
    """What is scored: a finished run, or the file of its weights that the book keeps, which is made if it is not there.
    That is in half precision, and a spike that rounding flips changes an image."""
    run = place.run(experiment, seed)
    if not experiment.checkpoint or seed != experiment.seeds[0]:
        return run
    file = run / "half.safetensors"
    if not file.exists():
        store.save_copy(run, file, half=True)
    return file


def measure(plan: Plan, experiment: Experiment, seeds: list[int], place: Place, recorded: dict | None = None) -> dict:
    """Trains and scores the runs of some seeds, as far as that has not been done; their result.

    recorded: a result of the first of these seeds. It is added to if their runs are not all here, as in a fresh clone
    """
    from tcja_gen.evaluation.protocol import circumstances

    protocol = plan.protocol(experiment)
    files(protocol, place)  # before an hour of training, not after
    before = recorded if recorded and not runs_are_here(experiment, recorded["seeds"], place) else None
    if before:
        seeds = seeds[len(before["seeds"]) :]
        _check_alike(before, _whole(before, **circumstances()))
    runs = [train(plan, experiment, seed, place) for seed in seeds]
    made = experiment.scale != "smoke" or kept_classifier(plan.folder, protocol).exists()
    classifier = scoring_classifier(plan.folder, protocol, runs[0], place) if made else None
    how = {"place": place, "classifier": classifier}
    scored = [(weights(experiment, seed, place), run / "scores") for seed, run in zip(seeds, runs, strict=True)]
    records = [scores(protocol, experiment.sampling, model, kept=folder, **how) for model, folder in scored]
    found = result(plan, experiment, seeds, runs, records, place)
    return joined(before, found) if before else found


def runs_are_here(experiment: Experiment, seeds: list[int], place: Place) -> bool:
    return all(finished(place.run(experiment, seed)) for seed in seeds)


def result(plan: Plan, experiment: Experiment, seeds: list[int], runs: list, records: list, place: Place) -> dict:
    """asked: what was to be measured. scores and validation: by name mean, values (a list of those of the sampling
    sets for each training seed), and sd, standard deviations over training seeds (of means over sets) and over
    sampling sets (mean over seeds). floor: what real images score, where that is known. protocol: by score, what all
    have in common under "all", of folds that of the first. cost: of training, a mean over the seeds of the first
    sitting. energy: of an image, of the first seed. versions and commit: of the first seed; added: of seeds that
    another sitting added."""
    from tcja_gen.evaluation.protocol import compare

    records = [[_flat(record) for record in sets] for sets in records]
    for fold in {_fold(sets[0]) for sets in records}:
        alike = [(seed, sets) for seed, sets in zip(seeds, records, strict=True) if _fold(sets[0]) == fold]
        compare({f"{seed}, {i}": r for seed, sets in alike for i, r in enumerate(sets)})
    first = records[0][0]
    found = {"about": experiment.about, "seeds": seeds, "asked": plan.asked(experiment)}
    found["scores"] = {
        name: spread([[r["scores"][name] for r in sets] for sets in records]) for name in first["scores"]
    }
    found |= {"floor": first.get("floor", {}), "notes": first["notes"], "protocol": _compact(first["protocol"])}
    found |= {"validation": _validation(runs), "cost": cost(runs)} | _origin(runs[0])
    found |= _model(weights(experiment, seeds[0], place), place)
    return found | {"command": command(experiment)}


def joined(before: dict, now: dict) -> dict:
    """A result with the seeds of `now` added: what is of the first seeds stays, such as their cost. UserError if they
    were scored by unlike protocols."""
    _check_alike(before, _whole(now))
    found = before | {"seeds": before["seeds"] + now["seeds"]}
    for part in ("scores", "validation"):
        found[part] = {name: spread(x["values"] + now[part][name]["values"]) for name, x in before[part].items()}
    origin = {"versions": now["versions"], "commit": now["commit"]}
    *others, last = before.get("added") or [{}]
    if {key: last.get(key) for key in origin} == origin:
        return found | {"added": [*others, last | {"seeds": last["seeds"] + now["seeds"]}]}
    return found | {"added": [*before.get("added", ()), {"seeds": now["seeds"]} | origin]}


def _check_alike(before: dict, now: dict) -> None:
    """UserError if a result and a record of `_whole` were scored by unlike protocols. Folds have other samples."""
    from tcja_gen.evaluation.protocol import compare

    recorded = _whole(before)
    if recorded["scores"].keys() != now["scores"].keys():
        unlike = recorded["scores"].keys() ^ now["scores"].keys()
        raise ValueError(f"scores that are not in both, the recorded result and this one: {', '.join(sorted(unlike))}")
    for name, facts in now["protocol"].items():
        of_fold = ("n", "n_reference", "reference") if "fold" in facts else ()
        facts |= {field: recorded["protocol"][name].get(field) for field in of_fold if field in facts}
    compare({"recorded": recorded, "added": now})


def _whole(found: dict, **changes) -> dict:
    """A result as a record that `compare` takes. changes: of its protocols."""
    protocol = found["protocol"]
    told = {name: protocol["all"] | protocol.get(name, {}) | changes for name in found["scores"]}
    return {"scores": {name: score["mean"] for name, score in found["scores"].items()}, "protocol": told}


def command(experiment: Experiment) -> str:
    """What makes a result, on any machine."""
    return f'python experiments/run "{experiment.name}" --scale {experiment.scale}'


def _flat(record: dict) -> dict:
    """A record whose scores are numbers: one of a list for each step, "accuracy-by-step 1", is several."""
    found = {part: {} for part in ("scores", "protocol")}
    for name, value in record["scores"].items():
        many = {f"{name} {i}": v for i, v in enumerate(value, 1)} if isinstance(value, list) else {name: value}
        found["scores"] |= many
        found["protocol"] |= dict.fromkeys(many, record["protocol"][name])
    return record | found


def _metric(name: str) -> str:
    """The metric of a score of `_flat`."""
    return name.partition(" ")[0]


def _fold(record: dict) -> str:
    """The fold that a record of a cross-validation is of; "" for others. Folds have other samples, seeds do not."""
    return str(next(iter(record["protocol"].values())).get("fold", ""))


def spread(values: list[list[float]]) -> dict:
    means = [statistics.mean(sets) for sets in values]
    sd = {}
    if len(values) > 1:
        sd["training"] = statistics.stdev(means)
    if len(values[0]) > 1:
        sd["sampling"] = statistics.mean(statistics.stdev(sets) for sets in values)
    return {"mean": statistics.mean(means), "sd": sd, "values": values}


def _validation(runs: list[Path]) -> dict:
    """Losses of the last checkpoints on validation images, as training left them."""
    found = []
    for run in runs:
        lines = [line for line in statistics_of(_parts(run)[-1]) if any(key.startswith("validation_") for key in line)]
        found.append({key.removeprefix("validation_"): value for key, value in lines[-1].items() if key != "step"})
    return {name: spread([[losses[name]] for losses in found]) for name in found[0]}


def _compact(protocol: dict) -> dict:
    """The protocol with what all scores share told once, and without the command, which the result tells."""
    first, *others = protocol.values()
    shared = {k: v for k, v in first.items() if all(k in other and other[k] == v for other in others)}
    own = {name: {k: v for k, v in facts.items() if k not in shared} for name, facts in protocol.items()}
    told = {"all": shared} | {name: facts for name, facts in own.items() if facts}
    return {name: {k: v for k, v in facts.items() if k != "command"} for name, facts in told.items()}


def cost(runs: list[Path]) -> dict:
    """Cost of training a run, all of its stages: seconds of its steps, without checkpoints, a mean over the runs; and
    the most memory of any run."""
    parts = [[(statistics_of(part), recipes.load(part / "config.toml")) for part in _parts(run)] for run in runs]
    seconds = [sum(_seconds(lines, config) for lines, config in stages) for stages in parts]
    told = [line for stages in parts for lines, _ in stages for line in lines]
    environment = _environment(runs[0])
    return {
        "seconds": round(statistics.mean(seconds), 3),
        "images": sum(config.steps * config.batch for _, config in parts[0]),
        "precision": parts[0][0][1].precision,
        "peak_memory_mb": round(max((line["peak_memory_mb"] for line in told if "peak_memory_mb" in line), default=0)),
        **{key: environment[key] for key in ("device", "threads", "processes")},
    }


def _environment(run: Path) -> dict:
    return json.loads((_parts(run)[0] / "environment.json").read_text(encoding="utf-8"))


def _seconds(lines: list[dict], config: configs.Config) -> float:
    """Seconds of all steps, from the speeds that a run has logged."""
    spent, step = 0.0, 0
    for line in lines:
        if "images_per_second" in line:
            spent += (line["step"] - step) * config.batch / line["images_per_second"]
            step = line["step"]
    return spent * config.steps / max(step, 1)


def _model(weights: Path, place: Place) -> dict:
    """Its size, and what an image costs: operations and pJ of a sample, or of a classification."""
    from tcja_gen import load
    from tcja_gen.evaluation import energy

    model, rows = energy.of_run(weights, "" if load(weights).kind == "generator" else place.data_root)
    sums, twin = energy.totals(rows), energy.totals(energy.ann_twin(rows))
    costs = {name: sums[name] for name in ("mac", "ac", "energy", "folded", "rate")} | {"ann_twin": twin["energy"]}
    size = {"time_steps": model.time_steps, "parameters": sum(p.numel() for p in model.parameters())}
    return size | {"energy": costs}


def _origin(run: Path) -> dict:
    environment = _environment(run)
    return {"versions": environment["versions"], "commit": environment["commit"]}


def picture(experiment: Experiment, weights: Path, file: Path) -> None:
    """Samples of the seeds from 0, if the model generates and its prior is trained."""
    from tcja_gen import load
    from tcja_gen.evaluation.pictures import made_by, save_grid, strips

    model, tiles = load(weights), 8 if "/" in experiment.name else TILES
    if hasattr(model, "sample") and model.prior_is_trained:
        facts = made_by(model, range(tiles)) | {"command": command(experiment)}  # not this machine's paths
        images = strips(model.sample(range(tiles)))
        save_grid(images, file, min(tiles, 16 * images.shape[-2] // images.shape[-1]), facts)


# checking


def check(recorded: dict, weights: Path, folder: Path, place: Place) -> Iterable[tuple[str, int, float, float | str]]:
    """(name, set, recorded, found now) of every score of the first training seed, scored as it was recorded. What is
    found is the reason, in words, where a score cannot be compared: a file or network of the record is not here."""
    protocol, sampling = recorded["asked"]["protocol"], recorded["asked"]["sampling"]
    classifier = kept_classifier(folder, protocol)
    missing = {name: _missing(name, recorded, protocol, classifier, place) for name in recorded["scores"]}
    there = list(dict.fromkeys(_metric(name) for name, reason in missing.items() if not reason))
    asked = {key: value for key, value in protocol.items() if key not in FILES or (place.files / value).is_file()}
    given = classifier if any(name.endswith("-classifier") for name in there) and "classifier" not in protocol else None
    records = scores(asked | {"metrics": there}, sampling, weights, place, classifier=given) if there else []
    found = [_flat(record) for record in records] or [{}] * sampling
    for i, record in enumerate(found):
        for name, score in recorded["scores"].items():
            now = missing[name] or another_network(record, recorded, name)
            yield name, i, score["values"][0][i], now or record["scores"][name]


def _missing(name: str, recorded: dict, protocol: dict, classifier: Path, place: Place) -> str:
    """What a score needs and is not here, in words; "" if nothing is missing."""
    from tcja_gen.evaluation.metric_names import METRICS, weights_of

    network = METRICS[_metric(name)].network
    network = network and weights_of(network)
    if network in protocol:
        return "" if (place.files / protocol[network]).is_file() else f"{protocol[network]} is not in --autoencoder-dir"
    if network != "classifier":
        return ""
    wanted = _network(recorded["protocol"], name)
    if not classifier.exists() or hash_of(classifier) != wanted:
        return f"the classifier {wanted[:8]} that scored it was not kept"
    return ""


def another_network(record: dict, recorded: dict, name: str) -> str:
    """Words if a score was made by another network than its record's; "" if not."""
    same = _network(record["protocol"], name) == _network(recorded["protocol"], name)
    return "" if same else "its network was trained again and is another one"


def _network(protocol: dict, name: str) -> str | None:
    return (protocol.get("all", {}) | protocol.get(name, {})).get("extractor_hash")
