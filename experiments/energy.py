"""What an image costs, by run: operations and energy of sampling (generators) or classification (classifiers).

    python experiments/energy.py RUN [RUN ...] [--data-root data]

Prints one markdown row a run, means over 64 samples: parameters, MACs and ACs an image, their energy, spikes a neuron
and step, the share of attention in the energy, and the energy of the ANN twin, which runs the same layers once on
dense activations (counted, not trained). --data-root: where classifiers' data are, default each run's own setting.
`tcja_gen.evaluation.energy` tells what is counted, `tcja-gen show RUN --energy` layer by layer. Seconds a run.
"""

import argparse
from pathlib import Path

from tcja_gen.evaluation.energy import FORMULA, Row, ann_twin, of_run, totals
from tcja_gen.models import load

HEAD = ("run", "pass", "T", "parameters", "MAC", "AC", "pJ an image", "of it attention", "firing rate", "ANN twin, pJ")


def row(folder: str, root: str) -> str:
    model, rows = of_run(folder, "" if load(folder).kind == "generator" else root)
    sums, twin = totals(rows), totals(ann_twin(rows))
    parameters = sum(p.numel() for p in model.parameters())
    cells = [Path(folder).name, "sampling" if model.kind == "generator" else "classification", model.time_steps]
    cells += [f"{parameters:,}", *(f"{sums[name]:,.0f}" for name in ("mac", "ac", "energy")), attention(rows)]
    return markdown(*cells, f"{sums['rate']:.4f}", f"{twin['energy']:,.0f}")


def attention(rows: list[Row]) -> str:
    """Share of the energy that the gates themselves take; that what follows them pays MACs is not in it."""
    share = sum(r.energy for r in rows if r.kind == "attention") / totals(rows)["energy"]
    return f"{share:.1%}"


def markdown(*cells) -> str:
    return f"| {' | '.join(map(str, cells))} |"


def main() -> None:
    asked = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    asked.add_argument("runs", nargs="+", metavar="RUN")
    asked.add_argument("--data-root", default="")
    arguments = asked.parse_args()
    print(markdown(*HEAD), markdown(*("---" for _ in HEAD)), sep="\n")
    try:
        for folder in arguments.runs:
            print(row(folder, arguments.data_root), flush=True)
    except (ValueError, OSError) as error:
        raise SystemExit(f"energy.py: {error}") from None
    print(f"\n{FORMULA}")


if __name__ == "__main__":
    main()
