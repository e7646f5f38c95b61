"""How a masked prior is best sampled: the table by rounds and temperature in README.md.

    python experiments/sampling.py RUN [--rounds 4,8,16] [--temperatures 0.9,0.95,1] [--n 2560] [--split validation]
                                       [--metrics fad-official,fad] [--autoencoder mnist_64.pth] [--data-root data]

RUN has a latent of spatial codes. A line for every number of rounds and temperature: scores of n samples against
validation images, by which one is chosen before a test image is looked at, and the energy of an image.
"""

import argparse
from itertools import product

from tcja_gen.commands.common import own_data
from tcja_gen.evaluation import evaluate
from tcja_gen.evaluation.energy import SAMPLES, count, totals
from tcja_gen.models import load


def main() -> None:
    asked = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    asked.add_argument("run", metavar="RUN")
    asked.add_argument("--rounds", default="16")
    asked.add_argument("--temperatures", default="1")
    asked.add_argument("--n", type=int, default=2560)
    asked.add_argument("--split", default="validation")
    asked.add_argument("--metrics", default="fad-official,fad")
    asked.add_argument("--autoencoder")
    asked.add_argument("--data-root", default="data")
    asked = asked.parse_args()
    metrics = asked.metrics.split(",")
    try:
        model = load(asked.run)
        how = dict(n=asked.n, split=asked.split, root=asked.data_root, autoencoder=asked.autoencoder, progress=True)
        print(f"| rounds | temperature | {' | '.join(metrics)} | nJ an image |\n|{'---|' * (3 + len(metrics))}")
        for rounds, temperature in product(asked.rounds.split(","), asked.temperatures.split(",")):
            model.sample_by(int(rounds), float(temperature))
            scores = evaluate(model, own_data(model), metrics, **how)["scores"]
            energy = totals(count(model, range(SAMPLES)))["energy"] / 1e3
            cells = [rounds, temperature, *(f"{scores[m]:.2f}" for m in metrics), f"{energy:,.0f}"]
            print(f"| {' | '.join(cells)} |", flush=True)
    except (ValueError, OSError) as error:
        raise SystemExit(f"sampling.py: {error}") from None


if __name__ == "__main__":
    main()
