"""Models on disk: one safetensors file holds weights and settings, so the model is rebuilt without unpickling anything.

Metadata: `format` (version of this layout), `kind` (generator or classifier), `model` and `objective` (their settings,
JSON), `provenance` (facts about the run, JSON; for a checkpoint also its scores on validation images). Files of format
1, whose settings were one flat table, can be read as well (`first_format`).

A run stores such files as `checkpoints/step-000500/model.safetensors`. The last checkpoint is the one with the highest
step, the best one follows from the scores in the files. There is no index that could contradict them. Damaged files are
passed over.

A run's files hold fp32. `save_copy` makes one to give away, of about half the size if it is asked to; a model that is
loaded from that has fp32 weights as well.
"""

import hashlib
import json
import math
import re
import sys
from pathlib import Path

import safetensors.torch
import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from .. import files, shipped
from ..errors import MissingFile, UserError
from ..half_precision import halved
from ..nn import fuse
from ..nn.objectives import OBJECTIVES
from ..process import known_device, neuron_path
from ..registry import changed_plugins, missing_plugins, plugins
from ..settings import table, update
from . import first_format, hub, pretrained
from .settings import MODELS, Network, build

FORMAT = "2"
WEIGHTS = "model.safetensors"  # name of the file in a checkpoint's folder


def save(path: str | Path, model: nn.Module, settings: Network, provenance: dict) -> None:
    """Writes the weights of `model`, which was built from `settings`. OSError if that fails; then no file is left.

    provenance: facts about the run, which JSON can write. The plugins that the model or its data use are added.
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


def save_copy(run_or_file: str | Path, path: str | Path, which: str = "last", half: bool = False) -> None:
    """Writes a model that `find` finds, to give away: the same metadata `without_places`.

    half: matrices in half precision (`half_precision.py`); to copy that file once more changes nothing. Errors as those
    of `load`; OSError if the file cannot be written.
    """
    facts, tensors = _read(find(run_or_file, which))
    facts["provenance"] = json.dumps(without_places(json.loads(facts["provenance"])))
    files.write(Path(path), safetensors.torch.save(halved(tensors) if half else tensors, facts))


def without_places(provenance: dict) -> dict:
    """Facts about a run without folders of this machine, to give away. Of the path of the training data its last part
    stays."""
    data = {name: value for name, value in provenance.get("data", {}).items() if name not in ("root", "path")}
    if "source" in data:
        data["source"] = files.last_part(data["source"])
    return provenance | ({"data": data} if data else {})


def weights_hash(model: nn.Module) -> str:
    """The first 16 digits of the SHA-256 of a model's weights, by name. Two models with the same one are the same."""
    digest = hashlib.sha256()
    for name, tensor in sorted(model.state_dict().items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy())
    return digest.hexdigest()[:16]


def load(run_or_file: str | Path, device: torch.device | str = "cpu", which: str = "last") -> nn.Module:
    """The model of a run folder, a checkpoint folder, a .safetensors file, a pretrained name or a repository of the hub
    ("hf:owner/name"), in evaluation mode.

    which: checkpoint of a run folder, "last" or "best" (lowest loss, or highest accuracy, on validation samples).
    MissingFile if there is no such file. UserError if it is damaged or of another format, if a plugin is missing, or if
    there is no such device. A note on stderr names a plugin that has changed since the training.
    """
    path = find(run_or_file, which)
    facts, tensors = _read(path)
    used = _plugins_used(facts)
    for change in changed_plugins(used):
        print(f"note: {path}: {change}", file=sys.stderr)
    advice = f"; {missing_plugins(used)}" if missing_plugins(used) else ""
    try:
        if facts["format"] == "1":
            facts, tensors = first_format.convert(facts, tensors)
        model = _built(facts)
    except Exception as error:  # settings of another version, or that were edited, can fail anywhere in a model
        raise UserError(f"{path}: cannot build a model from its settings: {error}{advice}") from None
    try:
        model.load_state_dict(tensors)  # into fp32, whatever the file holds
    except RuntimeError as error:
        first = str(error).splitlines()[1].strip()
        raise UserError(f"{path}: its weights do not fit its own settings: {first}") from None
    device = known_device(device)
    return fuse(model.to(device).eval(), neuron_path(device)[0])


def _read(path: Path) -> tuple[dict[str, str], dict[str, Tensor]]:
    """Metadata and weights of a model's file. UserError if it is damaged or of another format."""
    try:
        with safe_open(path, "pt") as file:
            facts = file.metadata() or {}
        tensors = safetensors.torch.load(path.read_bytes())  # get_tensor of safetensors 0.8 leaks memory at every call
    except SafetensorError as error:
        raise UserError(f"{path}: not a safetensors file, or a damaged one ({error}); nothing was loaded") from None
    if facts.get("format") not in ("1", FORMAT):
        raise UserError(
            f"{path}: checkpoint of format {facts.get('format', 'unknown')}, this version reads format {FORMAT}"
        )
    return facts, tensors


def _plugins_used(facts: dict[str, str]) -> dict[str, str]:
    """Names and hashes of the plugins in a file's metadata; none if those cannot be read, which `_built` then tells."""
    try:
        return dict(json.loads(facts["provenance"]).get("plugins", {}))
    except (KeyError, ValueError, AttributeError):
        return {}


def _built(facts: dict[str, str]) -> nn.Module:
    """The model that a file's metadata describe, with random weights."""
    objective = json.loads(facts["objective"])
    objective = update(OBJECTIVES[objective.pop("kind")](), objective, "objective.")
    model = build(_settings(facts), objective)
    model.provenance = dict(json.loads(facts["provenance"]))
    return model


def _settings(facts: dict[str, str]) -> Network:
    return update(MODELS[facts["kind"]](), json.loads(facts["model"]), "model.")


def settings_of(file: Path) -> dict:
    """All settings of the model in a file that can be loaded, as a nested table."""
    facts = metadata(file) or {}
    return table(_settings(first_format.convert(facts, {})[0] if facts["format"] == "1" else facts))


def find(run_or_file: str | Path, which: str = "last") -> Path:
    """The model.safetensors of a file name, a checkpoint folder, a run folder, a repository of the hub
    ("hf:owner/name"), or the name of a pretrained model (also where a folder of the same name holds other things, such
    as images).

    A run with stages stands for its last finished stage, or for the first one while none is finished. which: as for
    `load`. MissingFile if there is no whole checkpoint.
    """
    if which not in ("last", "best"):
        raise UserError(f"which = {which!r}: wanted 'last' or 'best'")
    if file := _on_its_own(run_or_file):
        if which == "best":
            raise UserError(f"{run_or_file}: which = 'best' chooses among the checkpoints of a run; this is one model")
        return file
    path = Path(run_or_file)
    whole = [folder / WEIGHTS for folder in steps(path) if metadata(folder / WEIGHTS) is not None]
    if not whole and (stage := _last_stage(path)):
        return find(stage, which)
    if not whole:
        raise MissingFile(f"{path}: no checkpoint in this folder (checkpoints/step-... is missing, or damaged)")
    if which == "best":
        return min(whole, key=validation_score)
    if (newest := steps(path)[-1]) != whole[-1].parent:
        print(f"note: {newest} is damaged; {whole[-1].parent.name} is the last whole checkpoint", file=sys.stderr)
    return whole[-1]


def _on_its_own(name: str | Path) -> Path | None:
    """The file of a model that is no run; None for a run folder."""
    path = Path(name)
    if str(name).startswith(shipped.HUB):
        return hub.find(str(name), WEIGHTS)
    if not path.exists() or (str(name) in shipped.weights() and not is_model(path) and not steps(path)):
        return pretrained.find(str(name))
    file = path if path.is_file() else path / WEIGHTS
    return file if file.is_file() else None


def run_of(file: Path) -> Path | None:
    """The folder of the run, or stage, that a checkpoint's file belongs to; None of a file on its own."""
    above = file.resolve().parents
    return above[2] if len(above) > 2 and above[1].name == "checkpoints" else None


def scores_of(model: nn.Module, file: Path) -> Path | None:
    """Where the scores of a checkpoint are kept, which was loaded from a file; None of a file on its own."""
    run = run_of(file)
    return run and run / "scores" / f"step-{model.provenance['step']:06d}"


def is_model(name: str | Path) -> bool:
    """Whether `name` is a model that `find` can find. False for a folder of images, for example."""
    path = Path(name)
    if not path.exists():
        return shipped.is_published(str(name))
    return path.suffix == ".safetensors" or any((path / file).is_file() for file in ("config.toml", WEIGHTS))


def stages(run: Path) -> list[Path]:
    """The folders of a run's stages, in order."""
    folders = [p for p in run.glob("stage-*") if re.fullmatch(r"stage-\d+-[a-z0-9_-]+", p.name)]
    return sorted(folders, key=lambda p: int(p.name.split("-")[1]))


def _last_stage(run: Path) -> Path | None:
    """The last stage that is finished, else the first one. None if no stage has a checkpoint."""
    begun = [stage for stage in stages(run) if steps(stage)]
    finished = [stage for stage in begun if is_finished(stage)]
    return finished[-1] if finished else next(iter(begun), None)


def has_step(run: Path, step: int) -> bool:
    """Whether a run has a whole checkpoint of this step."""
    return metadata(run / "checkpoints" / f"step-{step:06d}" / WEIGHTS) is not None


def is_finished(stage: Path) -> bool:
    """Whether the newest checkpoint of a run is that of its last step."""
    newest = steps(stage)[-1]
    facts = json.loads((metadata(newest / WEIGHTS) or {}).get("provenance", "{}"))
    return facts.get("steps") == step_of(newest)


def steps(run: Path) -> list[Path]:
    """The folders of a run's checkpoints, sorted by step, without half-written ones."""
    return sorted((p for p in run.glob("checkpoints/step-*") if re.fullmatch(r"step-\d+", p.name)), key=step_of)


def step_of(checkpoint: Path) -> int:
    """The step in the name of a checkpoint's folder."""
    return int(checkpoint.name.removeprefix("step-"))


def metadata(file: Path) -> dict[str, str] | None:
    """The metadata of a safetensors file; None if the file is missing, cut short or damaged."""
    try:
        with safe_open(file, "pt") as opened:
            return opened.metadata() or {}
    except (OSError, SafetensorError):
        return None


def validation_score(file: Path) -> float:
    """The score by which the best checkpoint is chosen, lower is better, from validation samples.

    It is the loss of a generator, or minus the accuracy of a classifier; inf if the file has no finite score.
    """
    facts = metadata(file) or {}
    scores = json.loads(facts.get("provenance", "{}")).get("validation", {})
    value = -scores.get("accuracy", -math.inf) if facts.get("kind") == "classifier" else scores.get("loss", math.inf)
    return value if math.isfinite(value) else math.inf
