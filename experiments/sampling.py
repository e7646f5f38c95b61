"""How a masked prior is best sampled: the table by rounds and temperature in README.md.

    python experiments/sampling.py RUN [--rounds 4,8,16] [--temperatures 0.9,0.95,1] [--n 2560] [--split validation]
                                       [--metrics fad-official,fad] [--autoencoder mnist_64.pth] [--data-root data]

RUN has a latent of spatial codes. A line for every number of rounds and temperature: what codes of validation images
cost by the prior (-log p in nats an image), scores of n samples against these images, and the energy of a sample. By
the one or the other a temperature is chosen before a test image is looked at.
"""

import argparse
from itertools import product

import torch

from tcja_gen.data import load_images
from tcja_gen.evaluation import evaluate, own_data
from tcja_gen.evaluation.energy import SAMPLES, count, totals
from tcja_gen.models import load


@torch.no_grad()
def nats(latent, z: torch.Tensor) -> float:
    """What codes (T, N, L, h, w) cost by the prior, a mean."""
    return torch.cat([latent.nats(part) for part in z.split(256, 1)]).mean().item()


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
        if not model.latent.sampling:
            raise ValueError(f"{asked.run}: its latent has no rounds; one of spatial codes (latent_kind = codes) has")
        source = own_data(model, asked.data_root)
        how = dict(n=asked.n, split=asked.split, root=asked.data_root, autoencoder=asked.autoencoder, progress=True)
        names = ["rounds", "temperature", "nats an image", *metrics, "nJ an image"]
        print(f"| {' | '.join(names)} |\n|{'---|' * len(names)}")
        shape = {"size": model.image_size, "channels": model.image_channels}
        images = load_images(source, asked.split, **shape, root=asked.data_root).images[: asked.n] / 255
        z = model.encode(images).transpose(0, 1)
        for rounds, temperature in product(asked.rounds.split(","), asked.temperatures.split(",")):
            model.sample_by(int(rounds), float(temperature))
            scores = evaluate(model, source, metrics, **how)["scores"]
            energy = totals(count(model, range(SAMPLES)))["energy"] / 1e3
            told = [f"{number:.2f}" for number in (nats(model.latent, z), *(scores[m] for m in metrics))]
            print(f"| {' | '.join([rounds, temperature, *told, f'{energy:,.0f}'])} |", flush=True)
    except (ValueError, OSError) as error:
        raise SystemExit(f"sampling.py: {error}") from None


if __name__ == "__main__":
    main()
