"""Quality against T from one trained generator: the table of `Quality against T` in README.md.

    python experiments/quality_vs_t.py RUN [--steps 1,2,4] [--n 5120] [--split test] [--data-root data]
                                           [--autoencoder mnist_64.pth] [--metrics fad-official,fad] [--repeats 3]

A row for every t, of n samples: the scores of the generator that runs only t of its T steps, the scores of images that
are read out after t of all T, and the energy of an image run for t steps (`tcja_gen.evaluation.energy`), all by the
same network. `tcja_gen.evaluation.first_steps` explains the two ways. --repeats: mean and standard deviation over so
many sets of seeds. --steps: default 1, 2, 4, 8, ... T.
"""

from script import arguments, generator, head, row, run, score, scoring

from tcja_gen.evaluation import METRICS
from tcja_gen.evaluation.energy import SAMPLES, count, totals
from tcja_gen.evaluation.first_steps import ReadSteps, run_steps


def halves(steps: int) -> list[int]:
    """1, 2, 4, ... below `steps`, and `steps`."""
    return [2**i for i in range((steps - 1).bit_length())] + [steps]


def cells(model, asked) -> list[str]:
    """Scores of a model's samples, with their spread if there are several sets."""
    record = score(model, asked, repeats=asked.repeats, progress=True)
    spread = record["spread"] if asked.repeats else {}
    return [f"{value:.4g}" + (f" ± {spread[m]:.2g}" if m in spread else "") for m, value in record["scores"].items()]


def main() -> None:
    parser = scoring(arguments(__doc__), n=5120)
    parser.add_argument("--steps", type=lambda words: [int(word) for word in words.split(",")], default=[])
    parser.add_argument("--repeats", type=int)
    asked = parser.parse_args()
    if odd := [metric for metric in asked.metrics if METRICS[metric].of != "samples"]:
        raise ValueError(f"{odd[0]}: only samples can be read out early")
    model = generator(asked.run)
    ways = [f"{metric}, {way} t" for way in ("run", "read at") for metric in asked.metrics]
    head("steps", *ways, "pJ an image", "MAC", "AC")
    for t in asked.steps or halves(model.time_steps):
        short = run_steps(model, t)
        cost = totals(count(short, range(SAMPLES)))
        scores = [*cells(short, asked), *cells(ReadSteps(model, t), asked)]
        row(t, *scores, *(f"{cost[name]:,.0f}" for name in ("energy", "mac", "ac")))


if __name__ == "__main__":
    run(main)
