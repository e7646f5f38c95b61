"""The sections of the report of one run, each a function of a `Subject` that returns HTML.

Two rules say what a report leaves out. A section that has no meaning for this kind of model is left out (a classifier
makes no samples, an ANN has no spikes): its function returns no parts. A section for which something is missing stays
and says what that is and how to get it (data that are not at hand, scores that were never measured): its function
raises a UserError or OSError.
"""

import io
import json
import re
import shlex
from collections.abc import Callable, Iterable
from pathlib import Path

import torch

from ..errors import UserError
from ..evaluation import energy, pictures
from ..evaluation.summed_frames import SummedFrames
from ..models import overview, store
from ..nn import CodeLatent
from ..nn.latents import LATENTS
from ..settings import table as as_settings
from ..training import activity
from ..training.config import text as config_text
from ..training.runs import statistics
from . import history, html, latents, spikes
from .figures import Panel, confusion_panel, curve_panels, curves, gate_panels, mean_gates
from .html import Raw, Section
from .nearest import nearest
from .subject import SHOWN, Subject
from .text import short, size

Parts = list[str]
STRIP = 8  # images in a row
FILMS = 2  # films of event frames in a row, their frames side by side
KEPT = 6  # pictures of earlier steps, at most, and of time steps
GIF = 400_000  # bytes of the film, at most
ENCODED = 256  # images by which the use of the latent is measured
PROTOCOL = ("n", "split", "data", "mode", "extractor", "seeds")  # columns beside a score; all of it is below


def sections(subject: Subject) -> list[Section]:
    """The sections that the two rules leave."""
    built = (_section(title, make, subject) for title, make in SECTIONS.items())
    return [section for section in built if section.parts]


def _section(title: str, make: Callable[[Subject], Parts], subject: Subject) -> Section:
    try:
        return Section(title, make(subject))
    except (UserError, OSError) as error:
        advice = " (--data-root names the folder of the data)" if "--download" in str(error) else ""
        return Section(title, [html.paragraph(f"Not shown: {error}{advice}", "faint")])


# what it is and how it was trained


def glance(subject: Subject) -> Parts:
    model, facts = subject.model, subject.model.provenance
    data, rows = facts.get("data", {}), [("model", size(model))]
    sides = f"{model.image_channels} × {model.image_size} × {model.image_width}"
    rows.append(("data", f"{data.get('name', 'unknown')}, {data.get('images', 0):,} training samples, {sides}"))
    stage = facts.get("stage", {})
    of = f" of stage {stage['name']!r} ({stage['number']} of {len(stage['of'])})" if stage else ""
    rows.append(
        ("weights", f"step {facts.get('step', '?')}{of}, {facts.get('weights', '?')}, seed {facts.get('seed')}")
    )
    if validation := facts.get("validation"):
        rows.append(("validation", ", ".join(f"{name} {value:.4f}" for name, value in validation.items())))
    rows.append(("hash of the weights", store.weights_hash(model)))
    return [html.table((), rows)]


def samples(subject: Subject) -> Parts:
    if subject.kind != "generator":
        return []
    subject.model.check_prior()
    images, names = subject.sampled[0], subject.model.provenance.get("data", {}).get("classes", ())
    if classes := subject.model.classes:
        return [strips(pictures.by_class(images, range(SHOWN), classes, names)[: 2 * STRIP])]
    images = images[: 2 * STRIP] if subject.makes_events else images
    drawn = html.image(pictures.grid(pictures.strips(images), _across(images), 256), f"a grid of {len(images)} samples")
    told = f"Seeds 0 to {len(images) - 1}, without selection: every seed always gives the same image."
    return [html.figure(drawn, told)]


def trained(subject: Subject) -> Parts:
    parts = [card(subject.card)] if subject.card else []
    parts += [html.heading("Architecture"), html.table((), _architecture(subject.model))]
    if not subject.config:
        missing = "A file of weights keeps the settings of its model, but not those of its training."
        return [*parts, html.paragraph(missing, "faint")]
    head = ("stage", "trains", "steps", "batch", "peak rate", "further terms of the loss", "samples seen", "time")
    parts += [html.heading("Stages"), html.table(head, history.stage_rows(subject))]
    recipe, lines = history.differences_from_recipe(subject)
    parts.append(html.heading(f"Settings that differ from the recipe {recipe}"))
    parts.append(html.table(("setting", "recipe", "this run"), lines) if lines else html.paragraph("None."))
    return [*parts, html.details("all settings (config.toml)", html.code(config_text(subject.config)))]


def _architecture(model) -> list[tuple[str, object]]:
    coders = [(name, part) for name, part in overview.parts(model).items() if name != "latent"]
    rows = [(name, Raw(f"<code>{html.escape(part.notation)}</code>")) for name, part in coders]
    if latent := getattr(model, "latent", None):
        settings = ", ".join(f"{name} {value}" for name, value in as_settings(latent.settings).items())
        rows.insert(1, ("latent", f"{LATENTS.name_of(type(latent))}: {settings}"))
    return [*rows, ("neuron", str(model.encoder.build.neuron or "ReLU, no spikes"))]


def card(text: str) -> str:
    """The card of a pretrained model, whose text has a title, paragraphs and tables."""
    lines = text.splitlines()[1:]
    rows = [line.strip("| ").split(" | ", 1) for line in lines if line.startswith("| ")]
    prose = " ".join(line for line in lines if line and not line.startswith("|"))
    cells = [tuple(map(_marked, row)) for row in rows if len(row) == 2]
    return f"<p>{_marked(prose)}</p>\n" + (html.table((), cells) if cells else "")


def _marked(text: str) -> Raw:
    return Raw(re.sub(r"`([^`]*)`", r"<code>\1</code>", html.escape(text)))


# curves and pictures


def drawn_curves(subject: Subject) -> Parts:
    parts = []
    for name, folder in subject.stages.items():
        if titles := curves(statistics(folder)):
            parts += [html.heading(f"Stage {name}")] if name else []
            parts.append(diagrams(curve_panels(titles)))
    if not parts:
        raise UserError("nothing was logged beside these weights; a run's folder has its curves")
    return parts


def over_steps(subject: Subject) -> Parts:
    if subject.kind != "generator":
        return []
    parts = []
    for name, folder in subject.stages.items():
        for kind in ("samples", "reconstructions"):
            found = sorted(folder.glob(f"{kind}/step-*.png"))
            if len(found) < 2 or (kind == "reconstructions" and (folder / "samples").is_dir()):
                continue
            places = torch.linspace(0, len(found) - 1, min(KEPT, len(found))).round().int().tolist()
            parts.append(html.heading(f"{kind.capitalize()}{f' of stage {name}' if name else ''}"))
            kept = [_kept(found[i]) for i in places]
            parts.append(html.panels(kept) if kind == "samples" else "\n".join(kept))
    if not parts:
        raise UserError("this run kept no pictures of earlier steps; train --sample-every 500 keeps some")
    return parts


def _kept(file: Path) -> str:
    """A picture that the training wrote; samples at most 300 pixels wide, rows with labels at most 700."""
    from PIL import Image
    from torchvision.transforms.functional import pil_to_tensor

    picture, widest = Image.open(file).convert("RGB"), 300 if file.parent.name == "samples" else 700
    if picture.width > widest:
        picture = picture.resize((widest, round(picture.height * widest / picture.width)), Image.Resampling.BOX)
    return html.figure(html.image(pil_to_tensor(picture), file.stem), f"step {int(file.stem.split('-')[1])}")


def film(subject: Subject) -> Parts:
    if subject.kind != "generator" or subject.model.time_steps == 1:
        return []
    films = subject.model.film(range(16)).cpu()
    steps = torch.linspace(0, films.shape[1] - 1, min(KEPT, films.shape[1])).round().int().tolist()
    frames, label = films, "after step"
    text = "Images as the decoder forms them: what a readout after each time step shows. Seeds from 0 on."
    if subject.makes_events:
        frames, label = pictures.in_colour(films), "frame"
        text = "Expected events of each frame: brighter is red, darker is blue. Seeds from 0 on."
    rows = [(f"{label} {t + 1}", frames[:STRIP, t]) for t in steps]
    return [html.paragraph(text), strips(rows), *_moving(films[:, steps])]


def _moving(films: torch.Tensor) -> Parts:
    """The films as a GIF, of as many as a file of `GIF` bytes can hold; none if it cannot hold one."""
    for side in (4, 3, 2, 1):
        content = io.BytesIO()
        pictures.film(films[: side * side], content, 400, narrowest=256)
        if content.tell() <= GIF:
            drawn = html.embedded(content.getvalue(), "gif", "images as they form over the time steps")
            return [html.figure(drawn, kind="small")]
    return []


def reconstructions(subject: Subject) -> Parts:
    if subject.kind != "generator":
        return []
    across = FILMS if subject.makes_events else STRIP
    try:
        originals = subject.validation(2 * across)
    except (UserError, OSError):
        kept = [file for folder in subject.stages.values() for file in sorted(folder.glob("reconstructions/*.png"))]
        if not kept:
            raise
        return [_kept(kept[-1])]
    again = subject.model.reconstruct(originals).cpu()
    cut = zip(originals.split(across), again.split(across), strict=True)
    rows = [row for a, b in cut for row in (("original", a), ("reconstruction", b))]
    error, unit = (again - originals).square().mean().item(), "events" if subject.makes_events else "pixels in [0, 1]"
    told = f"Validation samples; mean squared error {error:.5f} ({unit}) over these {len(originals)}."
    return [html.paragraph(told), strips(rows)]


def neighbours(subject: Subject) -> Parts:
    if subject.kind != "generator":
        return []
    subject.model.check_prior()
    training, images, held_out = subject.split("train"), subject.sampled[0], subject.validation(SHOWN)
    if summed := SummedFrames.of(subject.model):
        training, images, held_out = summed.image_set(training), summed.images(images), summed.images(held_out)
    index, distance = nearest(images, training.images)
    _, unseen = nearest(held_out, training.images)
    rows = [("sample", images[:STRIP]), ("nearest training image", training.images[index[:STRIP]].float() / 255)]
    told = (
        f"By the pixels{' of summed frames' if summed else ''}: the root mean squared difference is "
        f"{distance.median():.3f} in the median of {len(images)} samples, {distance.min():.3f} at least. For "
        f"validation samples it is {unseen.median():.3f} and {unseen.min():.3f}; nothing was trained on these. Copies "
        "of training samples would be near 0."
    )
    return [html.paragraph(told), strips(rows)]


# inside


def latent_use(subject: Subject) -> Parts:
    if subject.kind != "generator":
        return []
    try:
        images, origin = subject.validation(ENCODED), "validation images"
    except (UserError, OSError):
        images, origin = subject.sampled[0], "samples, as the data are not at hand"
    z, latent = subject.model.encode(images).cpu(), subject.model.latent
    if not latent.spiking:
        again = subject.model.encode(images, range(len(z), 2 * len(z))).cpu()
        active, total = latents.active_units(z, again)
        told = f"the variance of their posterior mean over {len(z)} {origin} is above 0.01"
        return [html.paragraph(f"{active} of {total} numbers tell images apart: {told}.")]
    use = latents.BitUse.of(z)
    told = (
        f"Over {len(z)} {origin}: {use.constant} of {use.shares.numel()} bits never change; the mean entropy of a bit "
        f"is {use.entropy:.3f} of 1 (1: on as often as off, 0: constant)."
    )
    panels = {"balance of the bits": _balance(use)}
    parts = [html.paragraph(told)]
    if isinstance(latent, CodeLatent):
        tokens = latents.TokenUse.of(latent, z)
        parts.append(
            html.paragraph(
                f"{len(tokens.counts):,} of {tokens.possible:,} tokens occur among {int(tokens.counts.sum()):,} "
                f"places; their perplexity is {tokens.perplexity:,.0f}: as hard to predict as so many equally frequent "
                f"ones."
            )
        )
        panels["tokens"] = _frequencies(tokens)
    return [*parts, diagrams(panels)]


def _balance(use: latents.BitUse) -> Panel:
    def draw(axis) -> None:
        axis.hist(use.shares.flatten().tolist(), bins=20, range=(0, 1), color="#3b82f6")
        axis.set(title="balance of the bits", xlabel="share of images in which a bit is 1", ylabel="bits")

    return draw


def _frequencies(use: latents.TokenUse) -> Panel:
    def draw(axis) -> None:
        counts = use.counts.tolist()
        axis.plot(range(1, len(counts) + 1), counts, color="#3b82f6")
        axis.set(title="tokens, from the most frequent", xlabel="rank", ylabel="times", xscale="log", yscale="log")

    return draw


def gates(subject: Subject) -> Parts:
    images, origin = subject.shown
    found = mean_gates(subject.model, images)
    told = f"What each attention block multiplies spikes or, around 1, currents by: mean over {len(images)} {origin}."
    return [html.paragraph(told), diagrams(gate_panels(found))] if found else []


def spiking(subject: Subject) -> Parts:
    found = spikes.chosen(spikes.traces(subject.model, subject.use, subject.shown[0]))
    if not found:
        return []
    from matplotlib import pyplot

    drawn = []
    with html.drawing():
        for trace in found:
            for figure in spikes.draw(trace):
                drawn.append(html.figure(html.svg(figure, f"spikes and membranes of {trace.layer}")))
                pyplot.close(figure)
    told = (
        f"Of the first of {len(subject.shown[0])} {subject.shown[1]}: up to {spikes.NEURONS} neurons of a layer, "
        "spread over those that fired. V is the membrane after charging and before the reset; a neuron fires when it "
        "reaches the threshold."
    )
    return [html.paragraph(told), html.panels(drawn)]


def rates(subject: Subject) -> Parts:
    images, origin = subject.shown
    with activity.watch(subject.model) as measured:
        subject.use(images)
    if not measured:
        return []
    found = activity.summary(measured)
    layers = found["layers"].items()
    rows = [(name, html.bar(rate, f"{rate:.3f}"), html.bar(dead, f"{dead:.1%}")) for name, (rate, dead) in layers]
    steps = subject.model.time_steps
    told = (
        f"Over {len(images)} {origin}: {found['rate']:.3f} spikes per neuron and time step, in the mean of the layers. "
        f"With T = {steps} a neuron fires {found['rate'] * steps:.2f} times an image. Fewer spikes are less energy. A "
        f"silent neuron ({found['dead']:.1%}) fired at no step for any of these images: it adds nothing to what the "
        "network does, only to its size. Where a layer is silent throughout, nothing passes it but biases."
    )
    return [html.paragraph(told), html.table(("layer", "firing rate", "silent neurons"), rows)]


def costs(subject: Subject) -> Parts:
    rows = subject.sampled[1] if subject.samples_are_made else _counted(subject)
    if isinstance(rows, UserError):
        raise rows
    twins = energy.ann_twin(rows)
    names = list(dict.fromkeys(_part(row) for row in rows))
    by_part = [(n, [r for r in rows if _part(r) == n], [r for r in twins if _part(r) == n]) for n in names]
    lines = [(name, *_energies(own, twin)) for name, own, twin in [*by_part, ("all", rows, twins)]]
    use = "an image from its seed" if subject.samples_are_made else "a sample"
    own, twin = energy.totals(rows)["energy"], energy.totals(twins)["energy"]
    told = (
        f"For {use}: {own / 1e6:.2f} µJ, {own / twin:.2f} times that of an ANN of the same layers "
        f"({twin / 1e6:.2f} µJ, counted, not trained). Arithmetic alone, 32-bit "
        "floats in 45 nm: 4.6 pJ a multiplication with addition (MAC), "
        "0.9 pJ an addition (AC); memory traffic, which costs more on real hardware, is not counted."
    )
    head = ("part", "MAC", "AC", "µJ", "µJ of the ANN twin", "")
    return [html.paragraph(told), html.table(head, lines), html.details("by layer", html.code(energy.table(rows)))]


def _counted(subject: Subject) -> list[energy.Row]:
    use = "reconstruct" if subject.kind == "generator" else "classify"
    return energy.count(subject.model, subject.validation(SHOWN), use)


def _part(row: energy.Row) -> str:
    first, *rest = row.layer.split(".")
    return "prior" if first == "latent" and rest[:1] == ["prior"] else first


def _energies(own: Iterable[energy.Row], twin: Iterable[energy.Row]) -> tuple:
    sums, theirs = energy.totals(list(own)), energy.totals(list(twin))["energy"]
    share = sums["energy"] / theirs if theirs else 0.0
    values = (f"{sums['mac']:,.0f}", f"{sums['ac']:,.0f}", f"{sums['energy'] / 1e6:.3f}", f"{theirs / 1e6:.3f}")
    return (*values, html.bar(share / 2, f"{share:.2f} of it") if theirs else "")


# scores, and how to make it again


def scores(subject: Subject) -> Parts:
    records, others = history.score_records(subject), history.other_scores(subject)
    if not records:
        keep = "measures and keeps them" if subject.run else "measures them; only a run's folder keeps them"
        advice = f"tcja-gen evaluate {shlex.quote(subject.name)} --metrics all {keep}"
        raise UserError(f"there are no records of these weights; {advice}{f'. {others}' if others else ''}")
    lines = [line for record in records for line in _score_lines(record, subject.model)]
    parts = [html.table(("score", "value", "floor", *PROTOCOL, "sampled by"), lines)]
    parts += [html.paragraph(f"{others}.", "faint")] if others else []
    if any(record.get("floor") for record in records):
        parts.append(html.paragraph("The floor is what real training images score by the same protocol.", "faint"))
    for record in records:
        if "confusion" in record:
            parts.append(diagrams({"confusion": confusion_panel(record)}, side=max(4.0, 0.4 * len(record["classes"]))))
            rows = [[row[name] for name in ("class", "count", "recall", "precision")] for row in record["classes"]]
            parts.append(html.details("by class", html.table(("class", "count", "recall", "precision"), rows)))
    protocols = [record["protocol"] for record in records]
    return [*parts, html.details("whole protocols", html.code(json.dumps(protocols, indent=1)))]


def _score_lines(record: dict, model: torch.nn.Module) -> Iterable[tuple]:
    for metric, value in record["scores"].items():
        spread, floor = record.get("spread", {}).get(metric), record.get("floor", {}).get(metric)
        told = short(value) + (f" ± {spread:.2g}" if isinstance(spread, float) else "")
        facts = record["protocol"].get(metric, {})
        shown = [_fact(facts.get(name)) for name in PROTOCOL]
        yield (metric, told, "" if floor is None else short(floor), *shown, history.deviations(record, metric, model))


def _fact(value) -> str:
    return "" if value is None else "-".join(map(str, value)) if isinstance(value, list) else str(value)


def environment(subject: Subject) -> Parts:
    facts = subject.environment
    rows = list(facts.get("versions", subject.model.provenance.get("versions", {})).items())
    names = ("python", "device", "threads", "processes", "started", "commit")
    rows += [(name, facts[name]) for name in names if facts.get(name) is not None]
    rows += [("plugin", f"{name}, SHA-256 {sha}") for name, sha in facts.get("plugins", {}).items()]
    data = subject.model.provenance.get("data", {})
    rows += [(f"data: {name}", data[name]) for name in ("source", "fingerprint") if name in data]
    return [html.table((), [(name, str(value)) for name, value in rows])]


def reproduce(subject: Subject) -> Parts:
    parts, names = [], subject.environment.get("plugins", subject.model.provenance.get("plugins", {}))
    plugins = "".join(f" --plugin {shlex.quote(name)}" for name in names)
    if names:
        parts.append(
            html.paragraph(f"In the folder of the plugin{'s' * (len(names) > 1)} {', '.join(names)}:", "faint")
        )
    if subject.config:
        recipe, told = str(subject.run / "config.toml"), "The same settings, seed and data give the same weights"
        again = f"tcja-gen train {shlex.quote(recipe)} --out AGAIN{plugins}"
        if subject.model.provenance.get("data", {}).get("given"):
            told, again = f"{told} (these data were passed in Python)", f"tg.train({recipe!r}, data=DATA, out='AGAIN')"
        parts += [html.paragraph(f"{told}, on a CPU bit for bit:"), html.code(again)]
        if command := subject.environment.get("command"):
            parts += [html.paragraph("It was trained by:"), html.code(command)]
    elif subject.card:
        parts.append(html.paragraph("How it was made stands above, under How it was trained."))
    if subject.samples_are_made:
        line = f"tcja-gen sample {shlex.quote(subject.name)} --n {SHOWN} --grid{plugins}"
        parts += [html.paragraph("The samples of this page:"), html.code(line)]
    return parts


def strips(rows: Iterable[pictures.Row]) -> str:
    """Labelled rows of images, or of event frames; where the screen is narrow, labels stand above."""
    lines = []
    for label, images in rows:
        across = _across(images)
        images = pictures.strips(images[:across])
        drawn = html.image(pictures.grid(images, across, 256), f"{label}, {len(images)} images")
        share = 100 * len(images) / across
        lines.append(f'<div>{html.escape(label)}</div><div style="width:{share:.0f}%">{drawn}</div>')
    return '<div class="strips">\n' + "\n".join(lines) + "\n</div>"


def _across(images: torch.Tensor) -> int:
    """How many images (N, C, H, W), or films of event frames (N, T, 2, H, W), stand in a row."""
    return STRIP if images.dim() == 4 else FILMS


def diagrams(drawn: dict[str, Panel], side: float = 3.0) -> str:
    """Each panel as an SVG of its own."""
    from matplotlib.figure import Figure

    made = []
    with html.drawing():
        for title, draw in drawn.items():
            figure = Figure(figsize=(max(4.2, side), side), layout="constrained")
            draw(figure.subplots())
            made.append(html.figure(html.svg(figure, title)))
    return html.panels(made)


SECTIONS: dict[str, Callable[[Subject], Parts]] = {
    "At a glance": glance,
    "Samples": samples,
    "How it was trained": trained,
    "Curves": drawn_curves,
    "Over the steps": over_steps,
    "Film": film,
    "Reconstructions": reconstructions,
    "Nearest training images": neighbours,
    "Scores": scores,
    "Use of the latent": latent_use,
    "Attention gates": gates,
    "Spikes and membranes": spiking,
    "Firing rates": rates,
    "Energy": costs,
    "Environment": environment,
    "Make it again": reproduce,
}
