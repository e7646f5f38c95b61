"""A report of a run: a text, curves of its losses and firing rates, and pictures of its attention gates."""

import json
from pathlib import Path
from typing import IO

import torch

from ..data import even
from ..errors import UserError
from ..models import load, store
from ..nn import Gate
from .classification import load_for, own_data
from .protocol import read_record

PARTS = ("encoder", "latent", "decoder", "head")
CURVES = ("reconstruction", "divergence", "loss", "accuracy")
NO_LOSSES = ("step", "gradient_norm", "lr", "images_per_second", "peak_memory_mb", "firing_rate", "dead", "layers")
SHOWN = 64  # samples, at most, over which gates are averaged
LABELLED = 30  # classes, at most, for names and counts to be written into a picture


def describe(run: str | Path) -> str:
    """Settings, size, last statistics and scores of a run, as text; of a run with stages, of each of them."""
    stages = [stage for stage in store.stages(Path(run)) if store.steps(stage)]
    return "\n\n".join(map(_describe, stages or [run]))


def _describe(folder: str | Path) -> str:
    model, records = load(folder), statistics(folder)
    run = model.provenance
    sides = f"{model.image_size} x {getattr(model, 'image_width', model.image_size)}"
    parts = [(part, getattr(model, part, None)) for part in PARTS]
    lines = [
        f"run        {folder}: step {run['step']}, {run['weights']} weights, seed {run['seed']}",
        f"data       {run['data']['name']}, {run['data']['images']:,} training samples, "
        f"{model.image_channels} x {sides}",
        f"model      {type(model).__name__}, T = {model.time_steps}, {_count(model):,} parameters: "
        + ", ".join(f"{part} {_count(layers):,}" for part, layers in parts if layers is not None),
    ]
    training = [r for r in records if "loss" in r]
    if training:
        last = training[-1]
        losses = ", ".join(f"{name} {value:.4f}" for name, value in last.items() if name not in NO_LOSSES)
        lines.append(f"training   {losses}, {last['images_per_second']:.0f} samples/s")
        lines += [
            f"firing     {name:<28} rate {rate:.3f}  dead {dead:.1%}"
            for name, (rate, dead) in last.get("layers", {}).items()
        ]
    if "validation" in run:
        lines.append("validation " + ", ".join(f"{name} {value:.4f}" for name, value in run["validation"].items()))
    for path in sorted(Path(folder).glob("scores/*/*.json")):
        try:
            scores = ", ".join(f"{name} {_short(value)}" for name, value in read_record(path)["scores"].items())
        except UserError as error:
            scores = str(error)
        lines.append(f"scores     {path.parent.name} {path.stem}: {scores}")
    return "\n".join(lines)


def figures(folder: str | Path, out: str | Path) -> list[Path]:
    """Draws curves.png, and gates.png where the model has attention, of each stage of a run; the paths of the files."""
    if stages := [stage for stage in store.stages(Path(folder)) if store.steps(stage)]:
        return [path for stage in stages for path in figures(stage, Path(out) / stage.name)]
    Path(out).mkdir(parents=True, exist_ok=True)
    records, model = statistics(folder), load(folder)
    drawn = [draw_curves(records, Path(out) / "curves.png")] if records else []
    samples, title = _samples(model)
    if gates := mean_gates(model, samples):
        drawn.append(_gates(gates, title, Path(out) / "gates.png"))
    return drawn


def confusion(record: dict, path: str | Path) -> Path:
    """Draw the confusion matrix of a record with accuracy; colours are shares of the true class."""
    counts, names = torch.tensor(record["confusion"]), [row["class"] for row in record["classes"]]
    figure, (axis,) = _plot(1, side=max(4.0, min(0.45 * len(names), 12.0)))
    shown = axis.imshow(counts / counts.sum(1, keepdim=True).clamp(min=1), vmin=0, vmax=1, cmap="Blues")
    axis.set(xlabel="class named", ylabel="true class")
    axis.set_title("share of the true class; numbers are counts" if len(names) <= LABELLED else "share of the class")
    figure.colorbar(shown, ax=axis)
    if len(names) <= LABELLED:
        axis.set_xticks(range(len(names)), names, rotation=90)
        axis.set_yticks(range(len(names)), names)
        for i, j in counts.nonzero().tolist():
            dark = counts[i, j] > counts[i].sum() / 2
            axis.text(j, i, int(counts[i, j]), ha="center", va="center", fontsize=7, color="w" if dark else "k")
    return _save(figure, Path(path))


def _samples(model) -> tuple[torch.Tensor, str]:
    """Up to 64 validation samples of the run's own data, or random ones if they are not at hand; which they are."""
    root = model.provenance.get("data", {}).get("root", "data")
    try:
        data = load_for(model, own_data(model, root), "validation", root)
    except (UserError, OSError):
        frames = (model.time_steps,) if model.image_channels == 2 else ()
        sides = (model.image_size, getattr(model, "image_width", model.image_size))
        x = torch.rand(SHOWN, *frames, model.image_channels, *sides, generator=torch.Generator().manual_seed(0))
        return (x < 0.1).float() if frames else x, f"gates, mean over {SHOWN} random samples"
    x = data.samples[even(SHOWN, len(data))].float()
    return x if x.dim() == 5 else x / 255, f"gates, mean over {len(x)} validation samples of {data.name}"


@torch.no_grad()
def mean_gates(model, images: torch.Tensor) -> dict[str, torch.Tensor]:
    """Gates (T, C) of every attention block, averaged over the samples.

    images: (N, C, H, W) in [0, 1], or frames (N, T, 2, H, W) of counts
    """
    seen: dict[str, torch.Tensor] = {}
    hooks = []
    for name, block in model.named_modules():
        if isinstance(block, Gate):

            def keep(block, args, _, name=name):
                seen[name] = block.gate(args[0]).mean(1).cpu()

            hooks.append(block.register_forward_hook(keep))
    try:
        (model.reconstruct if hasattr(model, "reconstruct") else model.classify)(images)
    finally:
        for hook in hooks:
            hook.remove()
    return seen


def draw_curves(records: list[dict], path: Path | IO[bytes]) -> Path | IO[bytes]:
    """Losses, firing rates and learning rate by step, as a PNG."""
    found = {name for record in records for name in record}
    shown = [name for name in CURVES if {name, f"validation_{name}"} & found]
    if "reconstruction" in shown:  # the loss is the sum of what is shown
        shown.remove("loss")
    panels = {name: [name, f"validation_{name}"] for name in shown}
    panels |= {"neurons": ["firing_rate", "dead"]} if "firing_rate" in found else {}
    panels |= {"learning rate": ["lr"]}
    figure, axes = _plot(len(panels))
    for axis, (title, names) in zip(axes, panels.items(), strict=True):
        for name in names:
            points = [(r["step"], r[name]) for r in records if name in r]
            if points:
                axis.plot(*zip(*points, strict=True), marker=".", label=name)
        axis.set(title=title, xlabel="step")
        if axis.lines:  # a run shorter than its log interval has none
            axis.legend(fontsize=7)
    return _save(figure, path)


def _gates(gates: dict[str, torch.Tensor], title: str, path: Path) -> Path:
    figure, axes = _plot(len(gates))
    for axis, (name, gate) in zip(axes, gates.items(), strict=True):
        shown = axis.imshow(gate, aspect="auto", vmin=0, vmax=1, cmap="coolwarm")
        axis.set(title=name, xlabel="channel", ylabel="time step")
        axis.set_yticks(range(len(gate)))
    figure.suptitle(title, fontsize=9)
    figure.colorbar(shown, ax=list(axes), label="gate")
    return _save(figure, path)


def _plot(panels: int, side: float = 2.8):
    from matplotlib.figure import Figure

    figure = Figure(figsize=((side + 0.4) * panels, side), layout="constrained")
    return figure, figure.subplots(1, panels, squeeze=False)[0]


def _save(figure, path):
    figure.savefig(path, dpi=120, format="png")
    return path


def statistics(folder: str | Path) -> list[dict]:
    """What was logged in a run, by step; nothing for weights alone."""
    path = Path(folder) / "stats.jsonl"
    if not path.is_file():
        return []
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines() if line.endswith("}")]


def _short(score: float | list[float]) -> str:
    return " ".join(f"{value:.4g}" for value in score) if isinstance(score, list) else f"{score:.4g}"


def _count(module: torch.nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())
