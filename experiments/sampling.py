"""How a masked prior is best sampled: the table by rounds and temperature in README.md.

    python experiments/sampling.py RUN [--rounds 4,8,16] [--temperatures 0.9,0.95,1] [--n 2560] [--split validation]
                                       [--metrics fad-official,fad] [--autoencoder mnist_64.pth] [--data-root data]

RUN has a latent of spatial codes. A row for every number of rounds and temperature: -log p of validation images' codes
under the prior, in nats an image; scores of n samples against these images; and the energy of a sample. A temperature
is chosen by these, before any test image is used.
"""

from itertools import product

import torch
from script import arguments, generator, head, row, run, score, scoring
from torch.nn.functional import one_hot

from tcja_gen.data import load_images
from tcja_gen.evaluation import own_data
from tcja_gen.evaluation.energy import SAMPLES, count, totals
from tcja_gen.evaluation.subjects import chosen


@torch.no_grad()
def nats(latent, z: torch.Tensor, y: torch.Tensor | None) -> float:
    """-log p of codes (T, N, L, h, w), of classes y (N, K), under the prior, in nats an image, a mean."""
    classes = [None] * len(z.split(256, 1)) if y is None else y.split(256)
    parts = zip(z.split(256, 1), classes, strict=True)
    return torch.cat([latent.nats(part, of) for part, of in parts]).mean().item()


def main() -> None:
    parser = scoring(arguments(__doc__), n=2560, split="validation")
    parser.add_argument("--rounds", default="16")
    parser.add_argument("--temperatures", default="1")
    asked = parser.parse_args()
    model = generator(asked.run)
    if not model.latent.sampling:
        raise ValueError(f"{asked.run}: its latent has no rounds; one of spatial codes (kind = codes) has")
    source = own_data(model, asked.data_root)
    head("rounds", "temperature", "nats an image", *asked.metrics, "nJ an image")
    shape = {"size": model.image_size, "channels": model.image_channels}
    real = load_images(source, asked.split, **shape, root=asked.data_root)
    some = chosen(real, asked.n)
    z = model.encode(real.images[some] / 255).transpose(0, 1)
    y = one_hot(real.labels[some], model.classes).float() if model.classes else None
    for rounds, temperature in product(asked.rounds.split(","), asked.temperatures.split(",")):
        model.sample_by(rounds=int(rounds), temperature=float(temperature))
        likelihood = nats(model.latent, z, y)
        scores = score(model, asked, source, progress=True)["scores"]
        energy = totals(count(model, range(SAMPLES)))["energy"] / 1e3
        numbers = [likelihood, *(scores[metric] for metric in asked.metrics)]
        row(rounds, temperature, *(f"{number:.4g}" for number in numbers), f"{energy:,.0f}")


if __name__ == "__main__":
    run(main)
