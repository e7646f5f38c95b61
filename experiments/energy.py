"""Cost of an image, by run: operations and energy of sampling (generators; of reconstruction before their prior is
trained) or classification (classifiers).

    python experiments/energy.py RUN [RUN ...] [--data-root data]

Prints a row of Markdown for each run, means over 64 samples: parameters, MACs and ACs an image, their energy, also with
gates folded, the share of attention in the energy, firing rate, and the energy of the ANN twin, which runs the same
layers once on dense activations (counted, not trained). --data-root: where the data are that are classified or
reconstructed, default each run's own setting. `tcja_gen.evaluation.energy` explains what is counted; `tcja-gen show RUN
--energy` shows it layer by layer. Seconds a run.
"""

from pathlib import Path

from script import arguments, head, row, run

from tcja_gen.evaluation.energy import FORMULA, Row, ann_twin, of_run, totals
from tcja_gen.models import load

COLUMNS = ("run", "pass", "T", "parameters", "MAC", "AC", "pJ an image", "gates folded, pJ")
COLUMNS += ("of it attention", "firing rate", "ANN twin, pJ")


def cells(folder: str, root: str) -> list[str]:
    model = load(folder)
    samples = model.kind == "generator" and model.prior_is_trained
    use = "sampling" if samples else "reconstruction" if model.kind == "generator" else "classification"
    model, rows = of_run(folder, "" if samples else root)
    sums, twin = totals(rows), totals(ann_twin(rows))
    parameters = sum(p.numel() for p in model.parameters())
    found = [Path(folder).name, use, model.time_steps]
    found += [f"{parameters:,}", *(f"{sums[name]:,.0f}" for name in ("mac", "ac", "energy", "folded")), attention(rows)]
    return [*found, f"{sums['rate']:.4f}", f"{twin['energy']:,.0f}"]


def attention(rows: list[Row]) -> str:
    """Share of the energy that the gates themselves take, without the MACs of the layers behind them."""
    share = sum(r.energy for r in rows if r.kind == "attention") / totals(rows)["energy"]
    return f"{share:.1%}"


def main() -> None:
    asked = arguments(__doc__, "RUN ...", data_root="").parse_args()
    head(*COLUMNS)
    for folder in asked.runs:
        row(*cells(folder, asked.data_root))
    print(f"\n{FORMULA}")


if __name__ == "__main__":
    run(main)
