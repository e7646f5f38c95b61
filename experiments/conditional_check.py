"""Does a conditional generator make the digit that it is asked for? An independent classifier decides.

    python experiments/conditional_check.py RUN --data-root data [--data mnist] [--n 1000]

The judge is a small convolutional network without spikes, trained here on the training images (three epochs, half a
minute to a few minutes on a CPU). Its own test accuracy is printed, and the share of n samples, of each class in turn,
that it recognises.
"""

import torch
import torch.nn.functional as F
from script import arguments, run
from torch import Tensor, nn

import tcja_gen as tg
from tcja_gen.data import Batches, ImageSet, load_images


def train_judge(data: ImageSet, classes: int, epochs: int = 3) -> nn.Module:
    torch.manual_seed(0)
    channels = data.images.shape[1]
    judge = nn.Sequential(
        *(nn.Conv2d(channels, 32, 3, 1, 1), nn.BatchNorm2d(32), nn.ReLU(), nn.MaxPool2d(2)),
        *(nn.Conv2d(32, 64, 3, 1, 1), nn.BatchNorm2d(64), nn.ReLU(), nn.AdaptiveAvgPool2d(4)),
        *(nn.Flatten(), nn.Linear(1024, 128), nn.ReLU(), nn.Linear(128, classes)),
    )
    batches, steps = Batches(data, 128, classes=classes, shift=1), epochs * len(data) // 128
    optimizer = torch.optim.AdamW(judge.parameters(), 2e-3)
    schedule = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.01, steps)
    for step in range(steps):
        x, targets = batches.at(step)
        optimizer.zero_grad()
        F.cross_entropy(judge(x), targets).backward()
        optimizer.step()
        schedule.step()
    return judge.eval()


@torch.no_grad()
def recognised(judge: nn.Module, images: Tensor, labels: Tensor) -> float:
    """Share of images in [-1, 1] that the judge takes for their labels."""
    found = torch.cat([judge(x).argmax(1) for x in images.split(500)])
    return (found == labels).float().mean().item()


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--data", default="mnist")
    parser.add_argument("--n", type=int, default=1000)
    asked = parser.parse_args()
    model = tg.load(asked.run)
    where = dict(size=model.image_size, channels=model.image_channels, root=asked.data_root)
    judge = train_judge(load_images(asked.data, "train", **where), model.classes)
    test = load_images(asked.data, "test", **where)
    print(f"the judge's test accuracy: {recognised(judge, test.images / 127.5 - 1, test.labels):.4f}")
    labels = torch.arange(asked.n) % model.classes
    samples = model.sample(range(asked.n), classes=labels) * 2 - 1
    print(f"samples of the class asked for: {recognised(judge, samples, labels):.4f} of {asked.n}")


if __name__ == "__main__":
    run(main)
