"""The cost of a pass: operations, counted layer by layer, and their energy.

    E = 4.6 pJ x MAC + 0.9 pJ x AC          32-bit float in 45 nm, arithmetic alone (Horowitz, ISSCC 2014)

What is counted, and how, is told in `operations`: forward hooks watch a real pass (sampling, reconstruction,
classification). All numbers are means per sample.

A model with ReLU in place of spiking neurons is its own ANN twin (`ann_twin`): dense MACs of one frame, zeros of its
activations included.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor, nn

from ..data import even
from ..errors import UserError
from ..models import load
from ..models.vae import CHUNK
from ..nn import CodeLatent, NormReLU, ReLU
from .classification import load_for, own_data
from .operations import AC_PJ, MAC_PJ, Row, watched

FORMULA = f"E = {MAC_PJ} pJ x MAC + {AC_PJ} pJ x AC (32-bit float, 45 nm, Horowitz 2014; arithmetic alone, no memory)"
USES = ("sample", "reconstruct", "classify")
SAMPLES = CHUNK  # of a run that is counted


def count(model: nn.Module, samples: Sequence[int] | Tensor, use: str = "") -> list[Row]:
    """Rows of `model.sample(samples)`, `model.reconstruct(samples)` or `model.classify(samples)`, per sample.

    samples: seeds to sample from, or images `(N, C, H, W)` in [0, 1], or frames `(N, T, C, H, W)`. A generator runs 64
        at a time: N must be a multiple of 64
    use: "sample", "reconstruct" or "classify"; by default a generator samples and a classifier classifies
    UserError for another use, or samples that do not fit it.
    """
    use = use or ("sample" if hasattr(model, "sample") else "classify")
    if use not in USES or not hasattr(model, use):
        raise UserError(f"a {model.kind} has no energy of {use!r}; known: {', '.join(USES)}, generators all three")
    if (use == "sample") == (isinstance(samples, Tensor) and samples.dim() > 1):
        raise UserError(f"energy of {use!r} is that of {'seeds' if use == 'sample' else 'images, a tensor'}")
    if not len(samples) or (model.kind == "generator" and len(samples) % CHUNK):
        raise UserError(f"energy: {len(samples)} samples; a generator runs {CHUNK} at a time, give a multiple of it")
    return operations(model, lambda: getattr(model, use)(samples), len(samples))


@torch.no_grad()
def operations(model: nn.Module, run: Callable[[], object], n: int) -> list[Row]:
    """Rows of the layers that `run()` calls on n samples, in the order of their first call."""
    with watched(model) as seen:
        run()
    rows = _with_passes(model, [row.per_sample(n) for row in seen.values()])
    return ann_twin(rows) if any(isinstance(layer, (NormReLU, ReLU)) for layer in model.modules()) else rows


def _with_passes(model: nn.Module, rows: list[Row]) -> list[Row]:
    """The rows with `passes` set: an ANN runs a layer once, or as often as a masked prior runs: in each round and each
    sweep, twice where it is guided. The prior's first layer sees one static frame in each pass."""
    for prior in [f"{name}.prior." for name, layer in model.named_modules() if isinstance(layer, CodeLatent)]:
        passes = next((row.frames for row in rows if row.layer.startswith(f"{prior}trunk.")), 0)
        for i, row in enumerate(rows):
            if row.layer.startswith(prior):  # the logits run once for each place, whatever the rounds
                rows[i] = replace(row, passes=row.frames if row.kind == "linear" else passes)
    return rows


def ann_twin(rows: Sequence[Row]) -> list[Row]:
    """Rows of an ANN with the same layers, which run once (T = 1) on real-valued, non-zero activations.

    It is counted, not trained. Weights cost the dense MACs of one frame, attention a T-th of its cost; activations are
    free, and there is no sum over time.
    """
    kept = [row for row in rows if row.kind not in ("neurons", "readout")]
    return [_once(row) for row in kept]


def _once(row: Row) -> Row:
    share = row.passes / row.frames
    dense, squeeze = row.dense * share, row.ac * share if row.kind == "attention" else 0
    inputs = row.inputs * share
    once = {"frames": row.passes, "inputs": inputs, "nonzero": inputs, "binary": False, "folded_mac": 0, "folded_ac": 0}
    return replace(row, **once, dense=dense, mac=dense, ac=squeeze)


def totals(rows: Sequence[Row]) -> dict[str, float]:
    """Sums per sample: "dense", "mac", "ac"; "energy" in pJ, and "folded", with gates folded; "rate", spikes per neuron
    and step over all neurons."""
    sums = {name: sum(getattr(row, name) for row in rows) for name in ("dense", "mac", "ac", "energy", "folded")}
    neurons = [row for row in rows if row.kind == "neurons"]
    return sums | {"rate": sum(row.nonzero for row in neurons) / max(sum(row.inputs for row in neurons), 1)}


def of_run(folder: str | Path, root: str | Path = "") -> tuple[nn.Module, list[Row]]:
    """The model of a run, and its rows.

    A generator samples from seeds 0 to 63, or reconstructs 64 validation images if its prior is not trained, the same
    ones again if they are fewer. A classifier classifies 64 validation samples, or as many as there are.

    root: folder of the data, by default the run's own setting
    """
    model = load(folder)
    if model.kind == "generator" and model.prior_is_trained:
        if root:
            raise UserError("a generator's energy is that of sampling, which needs no data: name no folder of data")
        return model, count(model, range(SAMPLES))
    root = root or model.provenance.get("data", {}).get("root", "data")
    data = load_for(model, own_data(model, root), "validation", root)
    use = "reconstruct" if model.kind == "generator" else "classify"
    chosen = even(SAMPLES, len(data))
    if use == "reconstruct":  # which runs 64 at a time
        chosen = chosen.repeat(SAMPLES)[:SAMPLES]
    x = data.samples[chosen].float()
    return model, count(model, x if x.dim() == 5 else x / 255, use)


def table(rows: Sequence[Row]) -> str:
    """Rows, totals, the ANN twin and the formula as text."""
    head = ("layer", "kind", "frames", "dense MAC", "non-zero", "input", "MAC", "AC", "pJ")
    sums, twin = totals(rows), totals(ann_twin(rows))
    lines = [head, *map(_cells, rows), ("total", "", "", *_numbers(sums, "dense"), "", "", *_numbers(sums))]
    lines += [("ANN twin", "T = 1", "1", *_numbers(twin, "dense"), "", "", *_numbers(twin))]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    spiking = any(row.kind == "neurons" for row in rows)
    firing = f"firing rate {sums['rate']:.4f} spikes a neuron and step; " if spiking else "no neurons, ReLU; "
    if sums["folded"] < sums["energy"]:
        firing = f"gates folded: {sums['folded']:,.0f} pJ; {firing}"
    notes = [
        firing + "non-zero: share of inputs, of neurons their rate",
        FORMULA,
        "AC: weights met by binary inputs, one a spike; MAC: by any other non-zero input; attention dense;",
        "neurons: 1 MAC (leak) x neurons x steps; ANN twin: dense MACs of one frame, counted, not trained",
    ]
    return "\n".join([*(_line(line, widths) for line in lines), *notes])


def _cells(row: Row) -> tuple[str, ...]:
    seen = "" if row.kind == "neurons" else "silent" if not row.nonzero else "binary" if row.binary else "real"
    dense = f"{row.dense:,.0f}" if row.dense else ""
    costs = _numbers({"mac": row.mac, "ac": row.ac, "energy": row.energy})
    return row.layer, row.kind, f"{row.frames:g}", dense, f"{row.rate:.4f}", seen, *costs


def _numbers(sums: dict, *names: str) -> list[str]:
    return [f"{sums[name]:,.0f}" for name in names or ("mac", "ac", "energy")]


def _line(cells: Sequence[str], widths: Sequence[int]) -> str:
    text = (c.ljust(w) if i < 2 else c.rjust(w) for i, (c, w) in enumerate(zip(cells, widths, strict=True)))
    return "  ".join(text).rstrip()
