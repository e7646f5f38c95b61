"""How a masked prior is best sampled: the table by rounds and temperature in README.md.

    python experiments/sampling.py RUN [--rounds 4,8,16] [--temperatures 0.9,0.95,1] [--n 2560] [--split validation]
                                       [--metrics fad-official,fad] [--autoencoder mnist_64.pth] [--data-root data]

RUN has a latent of spatial codes. A row for every number of rounds and temperature: -log p of validation images' codes
under the prior, in nats an image; scores of n samples against these images; and the energy of a sample. A temperature
is chosen by these, before any test image is used.
"""

from itertools import product

import torch
from script import arguments, head, row, run, score, scoring

from tcja_gen.data import load_images
from tcja_gen.evaluation import own_data
from tcja_gen.evaluation.energy import SAMPLES, count, totals
from tcja_gen.models import load


@torch.no_grad()
def nats(latent, z: torch.Tensor) -> float:
    """-log p of codes (T, N, L, h, w) under the prior, in nats an image, a mean."""
    return torch.cat([latent.nats(part) for part in z.split(256, 1)]).mean().item()


def main() -> None:
    parser = scoring(arguments(__doc__), n=2560, split="validation")
    parser.add_argument("--rounds", default="16")
    parser.add_argument("--temperatures", default="1")
    asked = parser.parse_args()
    model = load(asked.run)
    if not model.latent.sampling:
        raise ValueError(f"{asked.run}: its latent has no rounds; one of spatial codes (kind = codes) has")
    source = own_data(model, asked.data_root)
    head("rounds", "temperature", "nats an image", *asked.metrics, "nJ an image")
    shape = {"size": model.image_size, "channels": model.image_channels}
    images = load_images(source, asked.split, **shape, root=asked.data_root).images[: asked.n] / 255
    z = model.encode(images).transpose(0, 1)
    for rounds, temperature in product(asked.rounds.split(","), asked.temperatures.split(",")):
        model.sample_by(rounds=int(rounds), temperature=float(temperature))
        scores = score(model, asked, source, progress=True)["scores"]
        energy = totals(count(model, range(SAMPLES)))["energy"] / 1e3
        numbers = [nats(model.latent, z), *(scores[metric] for metric in asked.metrics)]
        row(rounds, temperature, *(f"{number:.2f}" for number in numbers), f"{energy:,.0f}")


if __name__ == "__main__":
    run(main)
