"""What a run is and how it went: a text, curves of its losses and firing, and pictures of its attention gates."""

import json
from pathlib import Path

import torch

from ..models import SpikingVAE, load
from ..nn import Gate

PARTS = ("encoder", "to_latent", "latent", "decoder")


def describe(folder: str | Path) -> str:
    """Settings, size, last statistics and scores of a run, as text."""
    model, records = load(folder), _statistics(folder)
    run = model.provenance
    lines = [
        f"run        {folder}: step {run['step']}, {run['weights']} weights, seed {run['seed']}",
        f"data       {run['data']['name']}, {run['data']['images']:,} training images, "
        f"{model.image_channels} x {model.image_size} x {model.image_size}",
        f"model      {type(model).__name__}, T = {model.time_steps}, {_count(model):,} parameters: "
        + ", ".join(f"{part} {_count(getattr(model, part)):,}" for part in PARTS),
    ]
    training = [r for r in records if "loss" in r]
    if training:
        last = training[-1]
        lines.append(
            f"training   loss {last['loss']:.4f}, reconstruction {last['reconstruction']:.4f}, "
            f"divergence {last['divergence']:.4f}, {last['images_per_second']:.0f} images/s"
        )
        lines += [
            f"firing     {name:<28} rate {rate:.3f}  dead {dead:.1%}" for name, (rate, dead) in last["layers"].items()
        ]
    if "validation" in run:
        lines.append("validation " + ", ".join(f"{name} {value:.4f}" for name, value in run["validation"].items()))
    for path in sorted(Path(folder).glob("scores/*/*.json")):
        scores = json.loads(path.read_text())["scores"]
        lines.append(
            f"scores     {path.parent.name} {path.stem}: "
            + ", ".join(f"{name} {value:.4g}" for name, value in scores.items())
        )
    return "\n".join(lines)


def figures(folder: str | Path, out: str | Path) -> list[Path]:
    """Draws curves.png, and gates.png where the model has attention; the paths of what was written."""
    Path(out).mkdir(parents=True, exist_ok=True)
    drawn = [_curves(_statistics(folder), Path(out) / "curves.png")]
    model = load(folder)
    if gates := mean_gates(model, model.sample(range(64))):
        drawn.append(_gates(gates, Path(out) / "gates.png"))
    return drawn


@torch.no_grad()
def mean_gates(model: SpikingVAE, images: torch.Tensor) -> dict[str, torch.Tensor]:
    """Gates (T, C) of every attention block, mean over images (N, C, H, W) in [0, 1] sent through the model."""
    seen: dict[str, torch.Tensor] = {}
    hooks = []
    for name, block in model.named_modules():
        if isinstance(block, Gate):

            def keep(block, args, _, name=name):
                seen[name] = block.gate(args[0]).mean(1).cpu()

            hooks.append(block.register_forward_hook(keep))
    try:
        model.reconstruct(images)
    finally:
        for hook in hooks:
            hook.remove()
    return seen


def _curves(records: list[dict], path: Path) -> Path:
    panels = {
        "reconstruction": ["reconstruction", "validation_reconstruction"],
        "divergence": ["divergence", "validation_divergence"],
        "neurons": ["firing_rate", "dead"],
        "learning rate": ["lr"],
    }
    figure, axes = _plot(len(panels))
    for axis, (title, names) in zip(axes, panels.items(), strict=True):
        for name in names:
            points = [(r["step"], r[name]) for r in records if name in r]
            if points:
                axis.plot(*zip(*points, strict=True), label=name)
        axis.set(title=title, xlabel="step")
        if axis.lines:  # a run shorter than its log interval has none
            axis.legend(fontsize=7)
    return _save(figure, path)


def _gates(gates: dict[str, torch.Tensor], path: Path) -> Path:
    figure, axes = _plot(len(gates))
    for axis, (name, gate) in zip(axes, gates.items(), strict=True):
        shown = axis.imshow(gate, aspect="auto", vmin=0, vmax=1, cmap="coolwarm")
        axis.set(title=name, xlabel="channel", ylabel="time step")
        axis.set_yticks(range(len(gate)))
    figure.colorbar(shown, ax=list(axes), label="gate")
    return _save(figure, path)


def _plot(panels: int):
    from matplotlib.figure import Figure

    figure = Figure(figsize=(3.2 * panels, 2.8), layout="constrained")
    return figure, figure.subplots(1, panels, squeeze=False)[0]


def _save(figure, path: Path) -> Path:
    figure.savefig(path, dpi=120)
    return path


def _statistics(folder: str | Path) -> list[dict]:
    path = Path(folder) / "stats.jsonl"
    if not path.is_file():
        raise FileNotFoundError(f"{folder}: not a run folder (stats.jsonl is missing)")
    return [json.loads(line) for line in path.read_text().splitlines() if line.endswith("}")]


def _count(module: torch.nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())
