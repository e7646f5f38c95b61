"""What of a generator's distance to the data is its prior's, and what its decoder's: the table in README.md.

    python experiments/prior_limit.py RUN [RUN ...] [--n 5120] [--split test] [--metrics fad-official,fad]
                                      [--autoencoder mnist_64.pth] [--data-root data]

A perfect prior draws codes as the encoder makes them of images that were not compared with. The lines have the scores
of n training images, drawn at random: as they are, which is the floor; for each run as it reconstructs them, which is
its decoder's limit; and those of n samples of it. Reconstructions of the test images themselves, which the scores named
`-reconstruction` are of, are nearer to the test images' statistics than any sample can be.
"""

import argparse
from pathlib import Path

from tcja_gen import evaluate, load
from tcja_gen.data import load as load_data
from tcja_gen.evaluation import own_data
from tcja_gen.evaluation.subjects import originals


def main() -> None:
    asked = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    asked.add_argument("runs", nargs="+", metavar="RUN")
    asked.add_argument("--n", type=int, default=5120)
    asked.add_argument("--split", default="test")
    asked.add_argument("--metrics", default="fad-official,fad")
    asked.add_argument("--autoencoder")
    asked.add_argument("--data-root", default="data")
    asked = asked.parse_args()
    metrics = asked.metrics.split(",")
    try:
        models = {run: load(run) for run in asked.runs}
        kinds = [
            (own_data(model, asked.data_root), model.image_size, model.image_channels) for model in models.values()
        ]
        (source, size, channels), *others = dict.fromkeys(kinds)
        if others:
            raise ValueError(f"runs of unlike images, {(source, size, channels)} and {others[0]}")
        train = load_data(source, "train", size=size, channels=channels, root=asked.data_root)
        images = originals(train, asked.n)
        how = dict(n=asked.n, split=asked.split, root=asked.data_root, autoencoder=asked.autoencoder)
        print(f"| | {' | '.join(metrics)} |\n|{'---|' * (1 + len(metrics))}")

        def line(name: str, subject) -> None:
            scores = evaluate(subject, source, metrics, **how)["scores"]
            print(f"| {name} | {' | '.join(f'{scores[m]:.2f}' for m in metrics)} |", flush=True)

        line("training images", images)
        for run, model in models.items():
            name = Path(run).stem if Path(run).is_file() else run
            line(f"{name}: training images reconstructed", model.reconstruct(images.float() / 255))
            line(f"{name}: samples", model)
    except (ValueError, OSError) as error:
        raise SystemExit(f"prior_limit.py: {error}") from None


if __name__ == "__main__":
    main()
