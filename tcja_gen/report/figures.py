"""Figures of a run: curves of its losses and firing rates, its attention gates, confusion matrices.

A `Panel` draws on one pair of axes. Several make a sheet, a PNG file with at most `ACROSS` of them in a row; on a page
each is an SVG of its own, so that a narrow screen shows them one below the other.
"""

from collections.abc import Callable, Mapping
from io import BytesIO
from pathlib import Path
from typing import Any

import torch

from ..errors import UserError
from ..evaluation import pictures
from ..files import replacing
from ..models import load, store
from ..nn import CurrentGate, Gate, GatedReadout
from ..training.runs import statistics
from .subject import shown_samples

Panel = Callable[[Any], None]  # draws on matplotlib's axes
Lines = dict[str, list[tuple[int, float]]]  # points (step, value), by the name of the line

FIRST = ("reconstruction", "divergence")  # of the losses, in this order; the others follow
NO_LOSSES = ("step", "gradient_norm", "lr", "images_per_second", "peak_memory_mb", "firing_rate", "dead", "layers")
ACROSS = 4  # panels in a row of a sheet
DPI = 120  # of a PNG
POINTS = 400  # of a line, at most
LABELLED = 30  # classes, at most, for names and counts to be written into a picture
COLOURS = ("#3b82f6", "#f59e0b", "#10b981", "#ef4444", "#a855f7", "#06b6d4", "#ec4899", "#84cc16")  # on white and black


def figures(folder: str | Path, out: str | Path) -> list[Path]:
    """Draws curves.png, where something was logged, and gates.png, where the model has attention, of each stage of a
    run; the paths of the files."""
    if stages := [stage for stage in store.stages(Path(folder)) if store.steps(stage)]:
        return [path for stage in stages for path in figures(stage, Path(out) / stage.name)]
    model, drawn = load(folder), []
    if panels := curve_panels(curves(statistics(folder))):
        drawn.append(_save(_sheet(panels), Path(out) / "curves.png"))
    samples, origin = shown_samples(model)
    if gates := mean_gates(model, samples):
        title, facts = f"gates, mean over {len(samples)} {origin}", {"model": store.weights_hash(model)}
        drawn.append(_save(_sheet(gate_panels(gates), title), Path(out) / "gates.png", facts))
    return drawn


def confusion(record: dict, path: str | Path) -> Path:
    """Draw the confusion matrix of a record with accuracy; colours are shares of the true class."""
    side = max(4.0, min(0.45 * len(record["classes"]), 12.0))
    figure = _figure((side + 0.4, side))
    confusion_panel(record)(figure.subplots())
    return _save(figure, Path(path))


def confusion_panel(record: dict) -> Panel:
    counts, names = torch.tensor(record["confusion"]), [plain(row["class"]) for row in record["classes"]]

    def draw(axis) -> None:
        shown = axis.imshow(counts / counts.sum(1, keepdim=True).clamp(min=1), vmin=0, vmax=1, cmap="Blues")
        written = len(names) <= LABELLED
        axis.set(xlabel="class named", ylabel="true class")
        axis.set_title("share of the true class; numbers are counts" if written else "share of the class")
        axis.figure.colorbar(shown, ax=axis)
        if written:
            axis.set_xticks(range(len(names)), names, rotation=90)
            axis.set_yticks(range(len(names)), names)
            for i, j in counts.nonzero().tolist():
                dark = counts[i, j] > counts[i].sum() / 2
                axis.text(j, i, int(counts[i, j]), ha="center", va="center", fontsize=7, color="w" if dark else "k")

    return draw


def curves(records: list[dict]) -> dict[str, Lines]:
    """What was logged, by the title of its panel: every loss (but not their sum), firing and dead neurons, the rate."""
    found = list(dict.fromkeys(name for record in records for name in record))
    losses = [n for n in found if n not in NO_LOSSES and not n.startswith("validation_")]
    losses += [n.removeprefix("validation_") for n in found if n.startswith("validation_")]
    losses = list(dict.fromkeys([*(name for name in FIRST if name in losses), *losses]))
    if len({*losses} - {"loss", "accuracy"}) > 0:  # the loss is the sum of what is shown
        losses.remove("loss")
    titles = {name: {"training": name, "validation": f"validation_{name}"} for name in losses}
    titles["neurons"] = {"firing rate": "firing_rate", "dead": "dead"}
    titles["learning rate"] = {"learning rate": "lr"}
    drawn = {
        title: {line: points for line, name in lines.items() if (points := _points(records, name))}
        for title, lines in titles.items()
    }
    return {title: lines for title, lines in drawn.items() if lines}


def _points(records: list[dict], name: str) -> list[tuple[int, float]]:
    points = [(record["step"], record[name]) for record in records if name in record]
    every = -(-len(points) // POINTS)
    return points[:: max(every, 1)]


def curve_panels(titles: Mapping[str, Lines]) -> dict[str, Panel]:
    """A panel for each title of `curves`."""
    return {title: _curve_panel(title, lines) for title, lines in titles.items()}


def curves_picture(records: list[dict]):
    """A PIL image of the curves of what was logged. UserError if that is nothing."""
    from PIL import Image

    if not (panels := curve_panels(curves(records))):
        raise UserError("nothing was logged yet, so there are no curves")
    drawn = BytesIO()
    _sheet(panels).savefig(drawn, dpi=DPI, format="png")
    return Image.open(drawn)


def _curve_panel(title: str, lines: Lines) -> Panel:
    def draw(axis) -> None:
        for (name, points), colour in zip(lines.items(), COLOURS * len(lines), strict=False):
            axis.plot(
                *zip(*points, strict=True), marker="." if len(points) < 60 else "", label=plain(name), color=colour
            )
        axis.set(title=plain(title), xlabel="step")
        axis.legend(fontsize=8, framealpha=0)

    return draw


@torch.no_grad()
def mean_gates(model, samples: torch.Tensor) -> dict[str, torch.Tensor]:
    """Gates (T, C) of all attention, on spikes, on currents and of a readout, averaged over the samples.

    samples: images (N, C, H, W) in [0, 1], or frames (N, T, 2, H, W) of counts
    """
    seen: dict[str, torch.Tensor] = {}
    hooks = []
    for name, block in model.named_modules():
        if isinstance(block, (Gate, CurrentGate, GatedReadout)):

            def keep(block, args, output, name=name):
                seen[name.removesuffix(".neurons.gate")] = _gates_of(block, args, output).mean(1).detach().cpu()

            hooks.append(block.register_forward_hook(keep))
    try:
        (model.reconstruct if hasattr(model, "reconstruct") else model.classify)(samples)
    finally:
        for hook in hooks:
            hook.remove()
    return seen


def _gates_of(block: Gate | CurrentGate | GatedReadout, args: tuple, output: torch.Tensor) -> torch.Tensor:
    """Gates (T, N, C) of a call."""
    if isinstance(block, CurrentGate):
        return output
    return block.gates(*args) if isinstance(block, GatedReadout) else block.gate(*args)


def gate_panels(gates: Mapping[str, torch.Tensor]) -> dict[str, Panel]:
    """A panel for each gate (T, C), all on one scale: bright where it lets much through. One on currents does nothing
    at 1."""
    most = max(1.0, *(float(gate.max()) for gate in gates.values())) if gates else 1.0
    return {name: _gate_panel(name, gate, most) for name, gate in gates.items()}


def _gate_panel(name: str, gate: torch.Tensor, most: float) -> Panel:
    def draw(axis) -> None:
        shown = axis.imshow(gate, aspect="auto", vmin=0, vmax=most, cmap="viridis", interpolation="nearest")
        axis.set(title=name, xlabel="channel", ylabel="time step")
        axis.set_yticks(range(0, len(gate), -(-len(gate) // 8)))
        axis.figure.colorbar(shown, ax=axis, label="gate")

    return draw


def _sheet(panels: Mapping[str, Panel], title: str = ""):
    """A figure of all panels, in as many rows as it takes; places left over stay white."""
    across = min(len(panels), ACROSS)
    down = -(-len(panels) // across)
    figure = _figure((max(4.0 * across, 5.2), 3.0 * down))
    axes = figure.subplots(down, across, squeeze=False).flatten()
    for axis, draw in zip(axes, panels.values(), strict=False):
        draw(axis)
    for axis in axes[len(panels) :]:
        axis.remove()
    if title:
        figure.suptitle(plain(title), fontsize=9)
    return figure


def plain(name: str) -> str:
    """A name as matplotlib shows it: what stands between two $ would be read as mathematics."""
    return name.replace("$", r"\$")


def _figure(size: tuple[float, float]):
    from matplotlib.figure import Figure

    return Figure(figsize=size, layout="constrained")


def _save(figure, path: Path, facts: Mapping[str, str] | None = None) -> Path:
    with replacing(path) as temporary:
        figure.savefig(temporary, format="png", dpi=DPI, metadata={**pictures.always(), **(facts or {})})
    return path
