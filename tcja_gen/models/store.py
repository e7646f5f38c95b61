"""Models on disk: one safetensors file that rebuilds itself, without unpickling anything.

Metadata: `format` (version of this layout), `kind` (generator or classifier), `model` and `objective` (the tables of
their settings, JSON), `provenance` (facts of the run, JSON; of a checkpoint also its scores on validation images).
Files of format 1, whose settings were one flat table, are read as well (`first_format`).

A run keeps such files as `checkpoints/step-000500/model.safetensors`. Which of them is the last one follows from the
number, and which the best from the scores in the files themselves; there is no index that could contradict them. One
that is damaged does not count.
"""

import json
import math
import re
import sys
from pathlib import Path

import safetensors.torch
import torch
from safetensors import SafetensorError, safe_open
from torch import nn

from .. import files, shipped
from ..errors import MissingFile, UserError
from ..nn import fuse
from ..nn.objectives import OBJECTIVES
from ..process import neuron_path
from ..registry import changed_plugins, missing_plugins, plugins
from ..settings import table, update
from . import first_format, pretrained
from .settings import MODELS, Network, build

FORMAT = "2"
WEIGHTS = "model.safetensors"  # of a checkpoint


def save(path: str | Path, model: nn.Module, settings: Network, provenance: dict) -> None:
    """Writes the weights of `model`, built of `settings`, as a whole file or, with an OSError, none.

    The plugins that the model or its data use are added to the provenance.
    """
    tensors = {name: t.detach().cpu().contiguous() for name, t in model.state_dict().items()}
    kind = next(name for name, known in OBJECTIVES.items() if known is type(model.objective))
    used = plugins({"model": table(settings), "data": provenance.get("data", {}).get("source", "")})
    facts = {
        "format": FORMAT,
        "kind": model.kind,
        "model": json.dumps(table(settings)),
        "objective": json.dumps({"kind": kind} | table(model.objective)),
        "provenance": json.dumps({**provenance, "plugins": used} if used else provenance),
    }
    files.write(Path(path), safetensors.torch.save(tensors, facts))


def load(run_or_file: str | Path, device: torch.device | str = "cpu", which: str = "last") -> nn.Module:
    """Model of a run folder, a checkpoint folder or a .safetensors file, in evaluation mode.

    `which`: "last" or "best" (lowest loss on validation images) of a run folder. FileNotFoundError or ValueError, one
    line, if there is no such file, it is not of this format, or a plugin is missing. A plugin that has changed since
    the training is told on stderr.
    """
    path = find(run_or_file, which)
    try:
        with safe_open(path, "pt") as file:
            facts = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}
    except SafetensorError as error:
        raise UserError(f"{path}: not a safetensors file, or a damaged one ({error}); nothing was loaded") from None
    if facts.get("format") == "1":
        facts, tensors = first_format.convert(facts, tensors)
    if facts.get("format") != FORMAT:
        raise UserError(
            f"{path}: checkpoint of format {facts.get('format', 'unknown')}, this version reads format {FORMAT}"
        )
    used = json.loads(facts.get("provenance", "{}")).get("plugins", {})
    for told in changed_plugins(used):
        print(f"note: {path}: {told}", file=sys.stderr)
    advice = f"; {missing_plugins(used)}" if missing_plugins(used) else ""
    try:
        model = _built(facts)
    except Exception as error:  # settings of another version, or of another hand, fail anywhere in a model
        raise UserError(f"{path}: cannot build a model of its settings: {error}{advice}") from None
    try:
        model.load_state_dict(tensors)
    except RuntimeError as error:
        first = str(error).splitlines()[1].strip()
        raise UserError(f"{path}: its weights do not fit its own settings: {first}") from None
    model, device = model.to(device).eval(), torch.device(device)
    return fuse(model, neuron_path(device)[0])


def _built(facts: dict[str, str]) -> nn.Module:
    """The model of a file's metadata, with weights that are still random."""
    objective = json.loads(facts["objective"])
    objective = update(OBJECTIVES[objective.pop("kind")](), objective, "objective.")
    model = build(update(MODELS[facts["kind"]](), json.loads(facts["model"]), "model."), objective)
    model.provenance = json.loads(facts["provenance"])
    return model


def find(run_or_file: str | Path, which: str = "last") -> Path:
    """The model.safetensors that a name stands for: a file, a checkpoint folder, a run folder, or a pretrained model.

    Of a run with stages it is that of the last finished stage; while the first one is not finished, of that.
    """
    path = Path(run_or_file)
    if not path.exists():
        return pretrained.find(str(run_or_file))
    if path.is_file():
        return path
    if (path / WEIGHTS).is_file():
        return path / WEIGHTS
    whole = [folder / WEIGHTS for folder in steps(path) if metadata(folder / WEIGHTS) is not None]
    if not whole and (stage := _last_stage(path)):
        return find(stage, which)
    if not whole:
        raise MissingFile(f"{path}: no checkpoint in this folder (checkpoints/step-... is missing, or damaged)")
    if which == "best":
        return min(whole, key=judged)
    if (newest := steps(path)[-1]) != whole[-1].parent:
        print(f"note: {newest} is damaged; {whole[-1].parent.name} is the last whole checkpoint", file=sys.stderr)
    return whole[-1]


def is_model(name: str | Path) -> bool:
    """Whether `find` takes it for a model, rather than for a folder of images, say."""
    path = Path(name)
    if not path.exists():
        return str(name) in shipped.weights()
    return path.suffix == ".safetensors" or any((path / file).is_file() for file in ("config.toml", WEIGHTS))


def stages(run: Path) -> list[Path]:
    """The folders of a run's stages, in order."""
    found = [p for p in run.glob("stage-*") if re.fullmatch(r"stage-\d+-[a-z0-9_-]+", p.name)]
    return sorted(found, key=lambda p: int(p.name.split("-")[1]))


def _last_stage(run: Path) -> Path | None:
    """The last stage that is finished, else the first one; None if there is none with a checkpoint."""
    begun = [stage for stage in stages(run) if steps(stage)]
    finished = [stage for stage in begun if is_finished(stage)]
    return finished[-1] if finished else next(iter(begun), None)


def is_finished(stage: Path) -> bool:
    """Whether the newest checkpoint of a run is that of its last step."""
    newest = steps(stage)[-1]
    facts = json.loads((metadata(newest / WEIGHTS) or {}).get("provenance", "{}"))
    return facts.get("steps") == step_of(newest)


def steps(run: Path) -> list[Path]:
    """The folders of a run's checkpoints, by step; not those that are half-written."""
    return sorted((p for p in run.glob("checkpoints/step-*") if re.fullmatch(r"step-\d+", p.name)), key=step_of)


def step_of(checkpoint: Path) -> int:
    return int(checkpoint.name.removeprefix("step-"))


def metadata(file: Path) -> dict[str, str] | None:
    """What a file of weights says of itself; None if it is not there, cut short or damaged."""
    try:
        with safe_open(file, "pt") as opened:
            return opened.metadata() or {}
    except (OSError, SafetensorError):
        return None


def judged(file: Path) -> float:
    """What a checkpoint is chosen by, lower is better: its loss on validation samples, of a classifier its accuracy."""
    facts = metadata(file) or {}
    scores = json.loads(facts.get("provenance", "{}")).get("validation", {})
    value = -scores.get("accuracy", -math.inf) if facts.get("kind") == "classifier" else scores.get("loss", math.inf)
    return value if math.isfinite(value) else math.inf
