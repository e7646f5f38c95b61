"""From an experiment to its result: runs, scores, cost and energy. What is there already is not made again.

A run is `OUT/NAME/seed-S`, trained by `tcja-gen train` in a process of its own, so that its peak of memory is its own;
one that was cut off is resumed. Its scores are kept in the run, in `scores/book-I.json` for sampling set I, and made
again if the book asks for others. A result is a JSON of numbers with all that they depend on, see `result`.
"""

import hashlib
import json
import re
import statistics
import subprocess
import sys
from collections.abc import Iterable
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import nullcontext
from dataclasses import dataclass, replace
from pathlib import Path

from tcja_gen import config as configs
from tcja_gen.models import store

from .plan import Experiment, Plan, is_file

FILES = ("autoencoder", "reference", "classifier", "inception")  # arguments of `evaluate` that name files
FREE = tuple(name for name in configs.FREE_ON_RESUME if name != "data")  # another set is another experiment
PLACES = ("seed", *FREE)  # settings that are no part of what is asked
FROM_DATA = ("image_size", "image_width", "image_channels", "classes")  # settings that are 0 until the data are read
TRAININGS: set[subprocess.Popen] = set()  # that are running
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
    """A path of plain characters: "attention/TCJA, both" is attention/TCJA-both."""
    return re.sub(r"[^\w./-]+", "-", name).replace("-/", "/").strip("-")


# training


def train_together(plan: Plan, runs: Iterable[tuple[Experiment, int]], place: Place, jobs: int) -> None:
    """Trains runs, each behind those that it comes after, so many at once; what each tells goes to seed-S.log beside
    it. One that fails, and what comes after it, is left to who needs the run, and will be told there."""
    futures: dict[tuple[str, int], Future] = {}

    def after_others(experiment: Experiment, seed: int, others: list[Future]) -> None:
        for other in others:
            other.result()
        train(plan, experiment, seed, place, place.run(experiment, seed).with_suffix(".log"))

    with ThreadPoolExecutor(jobs) as pool:
        for wanted, seed in runs:
            for experiment in plan.chosen([wanted.name]):
                if (experiment.name, seed) not in futures:
                    others = [futures[first, seed] for first in experiment.after.values() if not is_file(first)]
                    futures[experiment.name, seed] = pool.submit(after_others, experiment, seed, others)
        try:
            wait(futures.values())
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            for process in [*TRAININGS]:
                process.terminate()
            raise


def train(plan: Plan, experiment: Experiment, seed: int, place: Place, log: Path | None = None) -> Path:
    """The finished run of a seed. ValueError if there is one with other settings; Stopped if it did not end.

    log: file that has what the training tells, in place of the screen
    """
    folder, config = place.run(experiment, seed), settings(plan, experiment, seed, place)
    if (folder / "config.toml").exists():
        _same(folder, config, experiment.after)
        if finished(folder):
            return folder
    for first in experiment.after.values():  # whose result may be there without its run
        if not is_file(first):
            train(plan, plan.experiments[first], seed, place, log)
    if (folder / "config.toml").exists():
        _call(log, "--resume", folder, "--data-root", place.data_root)
    else:
        recipe = folder.with_suffix(".toml")
        recipe.parent.mkdir(parents=True, exist_ok=True)
        recipe.write_text(configs.dump(config), encoding="utf-8")
        _call(log, recipe)
    if not finished(folder):
        raise Stopped(130)
    return folder


def settings(plan: Plan, experiment: Experiment, seed: int, place: Place) -> configs.Config:
    where = {"data_root": place.data_root, "out": str(place.run(experiment, seed))}
    for key, first in experiment.after.items():
        where[key] = str(plan.folder / first if is_file(first) else place.run(plan.experiments[first], seed))
    return configs.update(plan.config(experiment, seed), where)


def finished(folder: Path) -> bool:
    steps = store.steps(folder)
    return bool(steps) and store.step_of(steps[-1]) >= configs.load(folder / "config.toml").steps


def _same(folder: Path, config: configs.Config, free: Iterable[str]) -> None:
    saved = configs.load(folder / "config.toml")
    found = {name: getattr(saved.model, name) for name in FROM_DATA if not getattr(config.model, name)}
    config = replace(config, model=replace(config.model, **found))
    if config.precision == "auto":
        config = replace(config, precision=saved.precision)
    if unlike := configs.differences(saved, config, (*FREE, *free)):
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


def scores(plan: Plan, experiment: Experiment, weights: Path, place: Place, kept: Path | None = None) -> list[dict]:
    """A record of `evaluate` for each sampling set; those in the folder `kept` that were asked alike are taken."""
    return [_score(plan.asked(experiment), i, weights, place, kept) for i in range(experiment.sampling)]


def _score(asked: dict, i: int, weights: Path, place: Place, kept: Path | None) -> dict:
    from tcja_gen import evaluate, load
    from tcja_gen.evaluation.protocol import read_record, write_record

    asked = asked | ({"seed": i * asked["n"]} if "n" in asked else {})
    file = kept / f"book-{i}.json" if kept else None
    if file and file.exists() and (record := read_record(file))["asked"] == asked:
        return record
    named = files(asked, place)
    model = load(weights, device())
    record = evaluate(model, **asked | named, root=place.data_root, device=device()) | {"asked": asked}
    if file:
        write_record(file, record)
    return record


def files(asked: dict, place: Place) -> dict[str, Path]:
    """The files that a protocol names. FileNotFoundError if one is not there."""
    found = {name: place.files / asked[name] for name in FILES if name in asked}
    if missing := [file for file in found.values() if not file.is_file()]:
        raise FileNotFoundError(f"{missing[0]}: no such file; --autoencoder-dir names the folder that has it")
    return found


def device() -> str:
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"


# results


def measure(plan: Plan, experiment: Experiment, seeds: list[int], place: Place) -> dict:
    """Trains and scores the runs of some seeds, as far as that has not been done; their result."""
    files(plan.asked(experiment), place)  # before an hour of training, not after
    runs = [train(plan, experiment, seed, place) for seed in seeds]
    records = [scores(plan, experiment, run, place, run / "scores") for run in runs]
    return result(plan, experiment, seeds, runs, records, place)


def result(plan: Plan, experiment: Experiment, seeds: list[int], runs: list, records: list, place: Place) -> dict:
    """asked: what was to be measured. scores and validation: by name mean, values (a list of those of the sampling
    sets for each training seed), and sd, standard deviations over training seeds (of means over sets) and over
    sampling sets (mean over seeds). floor: what real images score, where that is known. protocol: by score, what all
    have in common under "all". cost: of training, a mean over the seeds. energy: of an image, of the first seed."""
    from tcja_gen.evaluation.protocol import compare

    compare({f"{seed}, {i}": r for seed, sets in zip(seeds, records, strict=True) for i, r in enumerate(sets)})
    first = records[0][0]
    found = {"about": experiment.about, "seeds": seeds, "asked": asked(plan, experiment)}
    found["scores"] = {
        name: spread([[r["scores"][name] for r in sets] for sets in records]) for name in first["scores"]
    }
    found |= {"floor": first.get("floor", {}), "notes": first["notes"], "protocol": _compact(first["protocol"])}
    found |= {"validation": _validation(runs), "cost": cost(runs)} | _model(runs[0], place) | _origin(runs[0])
    return found | {"command": f'python experiments/run "{experiment.name}" --scale {experiment.scale}'}


def asked(plan: Plan, experiment: Experiment) -> dict:
    """All that a result follows from apart from seeds, data and program: settings that are no defaults, protocol."""
    settings = {key: value for key, value in vars(plan.config(experiment, 0)).items() if key not in PLACES}
    if settings["precision"] == "auto":  # what it was is told by the cost
        del settings["precision"]
    default = vars(configs.Config())
    changed = {key: value for key, value in settings.items() if key != "model" and value != default[key]}
    model, default = vars(settings["model"]), vars(configs.Model())
    changed["model"] = {key: value for key, value in model.items() if value != default[key]}
    found = {"recipe": experiment.recipe, "settings": changed}
    for first in filter(is_file, experiment.after.values()):
        found[first] = _taken(plan.folder / first, settings["fit"])
    return found | {"protocol": plan.asked(experiment), "sampling": experiment.sampling}


def _taken(file: Path, fit: str) -> str:
    """SHA-256 of the weights that a run takes from a kept file, of which the others may change."""
    from safetensors import SafetensorError, safe_open

    from tcja_gen.training.adoption import is_adopted

    if not file.exists():
        return "no such file"
    digest = hashlib.sha256()
    try:
        with safe_open(file, "numpy") as weights:
            for name in sorted(filter(lambda name: is_adopted(name, fit), weights.keys())):
                digest.update(name.encode() + weights.get_tensor(name).tobytes())
    except SafetensorError as error:
        raise ValueError(f"{file}: not a file of weights ({error})") from None
    return digest.hexdigest()


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
        told = [line for line in _stats(run) if any(key.startswith("validation_") for key in line)][-1]
        found.append({key.removeprefix("validation_"): value for key, value in told.items() if key != "step"})
    return {name: spread([[losses[name]] for losses in found]) for name in found[0]}


def _stats(run: Path) -> list[dict]:
    return [json.loads(line) for line in (run / "stats.jsonl").read_text(encoding="utf-8").splitlines()]


def _compact(protocol: dict) -> dict:
    """The protocol with what all scores share told once, and without the command, which the result tells."""
    first, *others = protocol.values()
    shared = {k: v for k, v in first.items() if all(k in other and other[k] == v for other in others)}
    own = {name: {k: v for k, v in facts.items() if k not in shared} for name, facts in protocol.items()}
    told = {"all": shared} | {name: facts for name, facts in own.items() if facts}
    return {name: {k: v for k, v in facts.items() if k != "command"} for name, facts in told.items()}


def cost(runs: list[Path]) -> dict:
    """Of training a run: seconds at its steps, without checkpoints, and the most memory of any run."""
    lines = [_stats(run) for run in runs]
    configurations = [configs.load(run / "config.toml") for run in runs]
    seconds = [_seconds(told, config) for told, config in zip(lines, configurations, strict=True)]
    memory = max((line["peak_memory_mb"] for told in lines for line in told if "peak_memory_mb" in line), default=0)
    environment = json.loads((runs[0] / "environment.json").read_text(encoding="utf-8"))
    found = {"seconds": round(statistics.mean(seconds), 3), "images": configurations[0].steps * configurations[0].batch}
    found["precision"] = configurations[0].precision
    return found | {"peak_memory_mb": round(memory)} | {k: environment[k] for k in ("device", "threads", "processes")}


def _seconds(told: list[dict], config: configs.Config) -> float:
    """Of all steps, from the speeds that a run has told as it went."""
    spent, step = 0.0, 0
    for line in told:
        if "images_per_second" in line:
            spent += (line["step"] - step) * config.batch / line["images_per_second"]
            step = line["step"]
    return spent * config.steps / max(step, 1)


def _model(run: Path, place: Place) -> dict:
    """Its size, and what an image costs: operations and pJ of a sample, or of a classification."""
    from tcja_gen import load
    from tcja_gen.evaluation import energy

    model, rows = energy.of_run(run, "" if load(run).kind == "generator" else place.data_root)
    sums, twin = energy.totals(rows), energy.totals(energy.ann_twin(rows))
    costs = {name: sums[name] for name in ("mac", "ac", "energy", "rate")} | {"ann_twin": twin["energy"]}
    size = {"time_steps": model.time_steps, "parameters": sum(p.numel() for p in model.parameters())}
    return size | {"energy": costs}


def _origin(run: Path) -> dict:
    environment = json.loads((run / "environment.json").read_text(encoding="utf-8"))
    return {"versions": environment["versions"], "commit": environment["commit"]}


def picture(experiment: Experiment, run: Path, file: Path) -> None:
    """Samples of the seeds from 0, if the run generates and its prior is trained."""
    from tcja_gen import load
    from tcja_gen.evaluation.pictures import save_grid

    model, tiles = load(run), 8 if "/" in experiment.name else TILES
    if hasattr(model, "sample") and model.prior_is_trained:
        save_grid(model.sample(range(tiles)), file, columns=min(tiles, 16))


# checking


def check(plan: Plan, experiment: Experiment, recorded: dict, weights: Path, place: Place) -> Iterable[tuple]:
    """(name, set, recorded, found anew) of every score of the first training seed. What was found is None if the score
    is not asked for any more, "another network" if it is by one that was trained anew and came out unlike."""
    for i, record in enumerate(scores(plan, experiment, weights, place)):
        for name, told in recorded["scores"].items():
            anew = record["scores"].get(name)
            unlike = anew is not None and _network(record["protocol"], name) != _network(recorded["protocol"], name)
            yield name, i, told["values"][0][i], "another network" if unlike else anew


def _network(protocol: dict, name: str) -> str | None:
    return (protocol.get("all", {}) | protocol.get(name, {})).get("extractor_hash")
