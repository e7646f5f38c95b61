"""Quality against T from one trained generator: the table of `Quality against T` in README.md.

    python experiments/quality_vs_t.py RUN [--steps 1,2,4] [--n 5120] [--data-root data] [--autoencoder mnist_64.pth]
                                           [--metrics fad-official,fad] [--repeats 3]

A line for every t, of n samples: the scores of the generator that runs t of its T steps alone, the scores of what is
read out after t of all T, and the energy of an image run for t steps (`tcja_gen.evaluation.energy`), all by the same
network. What the two ways are, `tcja_gen.evaluation.first_steps` tells. --repeats: mean and standard deviation over so
many sets of seeds. --steps: default 1, 2, 4, 8, ... T.
"""

import argparse

from tcja_gen.evaluation import evaluate, own_data
from tcja_gen.evaluation.energy import SAMPLES, count, totals
from tcja_gen.evaluation.first_steps import ReadSteps, run_steps
from tcja_gen.models import load


def halves(steps: int) -> list[int]:
    """1, 2, 4, ... below `steps`, and `steps`."""
    return [2**i for i in range((steps - 1).bit_length())] + [steps]


def cells(model, asked) -> list[str]:
    """Scores of a model's samples, with their spread if there are several sets."""
    how = dict(n=asked.n, repeats=asked.repeats, root=asked.data_root, autoencoder=asked.autoencoder, progress=True)
    record = evaluate(model, own_data(model, asked.data_root), asked.metrics.split(","), **how)
    spread = record["spread"] if asked.repeats else {}
    return [f"{value:.1f}" + (f" ± {spread[m]:.1f}" if m in spread else "") for m, value in record["scores"].items()]


def markdown(*cells) -> str:
    return f"| {' | '.join(map(str, cells))} |"


def main() -> None:
    asked = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    asked.add_argument("run", metavar="RUN")
    asked.add_argument("--steps", default="")
    asked.add_argument("--n", type=int, default=5120)
    asked.add_argument("--data-root", default="data")
    asked.add_argument("--autoencoder")
    asked.add_argument("--metrics", default="fad-official,fad")
    asked.add_argument("--repeats", type=int)
    asked = asked.parse_args()
    try:
        model = load(asked.run)
        names = asked.metrics.split(",")
        head = [
            "steps",
            *(f"{m}, run t" for m in names),
            *(f"{m}, read at t" for m in names),
            "pJ an image",
            "MAC",
            "AC",
        ]
        print(markdown(*head), markdown(*("---" for _ in head)), sep="\n")
        for t in map(int, asked.steps.split(",")) if asked.steps else halves(model.time_steps):
            short = run_steps(model, t)
            cost = totals(count(short, range(SAMPLES)))
            scores = [*cells(short, asked), *cells(ReadSteps(model, t), asked)]
            print(markdown(t, *scores, *(f"{cost[x]:,.0f}" for x in ("energy", "mac", "ac"))), flush=True)
    except (ValueError, OSError) as error:
        raise SystemExit(f"quality_vs_t.py: {error}") from None


if __name__ == "__main__":
    main()
