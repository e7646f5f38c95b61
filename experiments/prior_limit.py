"""How much of a generator's distance to the data is due to its prior, how much to its decoder: the table in README.md.

    python experiments/prior_limit.py RUN [RUN ...] [--n 5120] [--split test] [--metrics fad-official,fad]
                                      [--autoencoder mnist_64.pth] [--data-root data]

A perfect prior draws codes as the encoder makes them of images that are not compared with. The rows have the scores of
n training images, drawn at random: as they are, which is the floor; for each run as it reconstructs them, which is its
decoder's limit; and those of n samples of it. Reconstructions of the test images themselves, which the scores named
`-reconstruction` are of, are nearer to the test images' statistics than any sample can be.
"""

from pathlib import Path

from script import arguments, generator, head, row, run, score, scoring

from tcja_gen.data import load as load_data
from tcja_gen.evaluation import own_data
from tcja_gen.evaluation.subjects import originals


def main() -> None:
    asked = scoring(arguments(__doc__, "RUN ..."), n=5120).parse_args()
    models = {name: generator(name) for name in asked.runs}
    kinds = [(own_data(model, asked.data_root), model.image_size, model.image_channels) for model in models.values()]
    (source, size, channels), *others = dict.fromkeys(kinds)
    if others:
        raise ValueError(f"runs of unlike images, {(source, size, channels)} and {others[0]}")
    train = load_data(source, "train", size=size, channels=channels, root=asked.data_root)
    images = originals(train, asked.n)
    head("", *asked.metrics)

    def line(name: str, subject) -> None:
        scores = score(subject, asked, source)["scores"]
        row(name, *(f"{scores[metric]:.4g}" for metric in asked.metrics))

    line("training images", images)
    for name, model in models.items():
        name = Path(name).stem if Path(name).is_file() else name
        line(f"{name}: training images reconstructed", model.reconstruct(images.float() / 255))
        line(f"{name}: samples", model)


if __name__ == "__main__":
    run(main)
