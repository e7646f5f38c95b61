"""What the attention is worth to a small classifier: Fashion-MNIST, T = 4, one network, three seeds each.

    python experiments/attention_ablation.py --data-root data --out runs/ablation [--seeds 0,1,2] [--steps 1500]

Each word stands behind all three convolutions; `none` has no attention, `wider` has none either and a wider last
convolution that brings it to the parameters of TCJA. A run that is finished is not repeated, so the command can be
stopped and given again. Prints the table of `attention-ablation.md`: test accuracy, mean and standard deviation over
the seeds.
"""

import argparse
import json
import statistics
from pathlib import Path

import tcja_gen as tg
from tcja_gen.models import SpikingClassifier

WORDS = ("none", "wider", "TLA", "CLA", "TCJA", "TCJAadd", "SE", "TA")
CHANNELS = (16, 32, 64)


def encoder(word: str) -> str:
    channels = list(CHANNELS)
    if word == "wider":
        channels[-1] = min(
            range(64, 256), key=lambda c: abs(parameters(plain((16, 32, c))) - parameters(encoder("TCJA")))
        )
    if word in ("none", "wider"):
        return plain(channels)
    return "-".join(f"{c}C3s2-{word}" for c in channels)


def plain(channels) -> str:
    return "-".join(f"{c}C3s2" for c in channels)


def parameters(notation: str) -> int:
    model = SpikingClassifier(image_size=28, encoder=notation, head="10L")
    return sum(p.numel() for p in model.parameters())


def accuracy(word: str, seed: int, arguments) -> float:
    folder = Path(arguments.out) / f"{word}-{seed}"
    record = folder / "accuracy.json"
    if not record.exists():
        settings = dict(
            task="classify", data="fashion-mnist", data_root=arguments.data_root, out=str(folder), seed=seed
        )
        settings |= dict(steps=arguments.steps, batch=128, lr=2e-3, warmup=100, ema=0.99, precision="auto", flip=True)
        settings |= dict(log_every=250, checkpoint_every=arguments.steps, sample_every=0)
        model = dict(encoder=encoder(word), head="10L", objective="tet")
        if (folder / "checkpoints" / "last").exists():
            run = tg.resume(folder, quiet=True)
        else:
            run = tg.train(quiet=True, model=model, **settings)
        score = tg.evaluate(run.model, "fashion-mnist", metrics=["accuracy"], root=arguments.data_root)
        record.write_text(json.dumps(score["scores"]["accuracy"]))
    return 100 * json.loads(record.read_text())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data-root", default="data")
    parser.add_argument("--out", default="runs/ablation")
    parser.add_argument("--seeds", default="0,1,2")
    parser.add_argument("--steps", type=int, default=1500)
    arguments = parser.parse_args()
    seeds = [int(seed) for seed in arguments.seeds.split(",")]
    rows = {word: [] for word in WORDS}
    for seed in seeds:
        for word in WORDS:
            rows[word].append(accuracy(word, seed, arguments))
    print("| attention | parameters | test accuracy, % | by seed |\n|---|---|---|---|")
    for word, found in rows.items():
        spread = f" ± {statistics.stdev(found):.2f}" if len(found) > 1 else ""
        each = ", ".join(f"{value:.2f}" for value in found)
        print(f"| {word} | {parameters(encoder(word)):,} | {statistics.mean(found):.2f}{spread} | {each} |")


if __name__ == "__main__":
    main()
