"""Our TCJA block in a network of SpikingJelly's neurons and layers, trained on event recordings.

    python experiments/spikingjelly_network.py DATA [--data-root data] [--time-steps 10] [--epochs 5] [--batch 50]

The block needs nothing of ours around it: it maps spikes (T, N, C, H, W) to the same shape, as SpikingJelly's layers do
in multi-step mode. Needs the package spikingjelly.
"""

import argparse

import torch
from script import run
from spikingjelly.activation_based import functional, layer, neuron
from torch import nn

from tcja_gen.data import Batches, EventSet, is_events, load
from tcja_gen.nn import TCJA


def network(time_steps: int, size: tuple[int, int], classes: int) -> nn.Sequential:
    """Two convolutions with TCJA behind their spikes: (T, N, 2, H, W) -> logits (T, N, classes)."""
    net = nn.Sequential(
        *(layer.Conv2d(2, 16, 3, padding=1, bias=False), layer.BatchNorm2d(16), neuron.LIFNode(detach_reset=True)),
        *(TCJA(time_steps, channels=16), layer.MaxPool2d(2)),
        *(layer.Conv2d(16, 32, 3, padding=1, bias=False), layer.BatchNorm2d(32), neuron.LIFNode(detach_reset=True)),
        *(TCJA(time_steps, channels=32), layer.MaxPool2d(2), layer.Flatten()),
        layer.Linear(32 * (size[0] // 4) * (size[1] // 4), classes),
    )
    functional.set_step_mode(net, "m")
    return net


def train(net: nn.Module, data: EventSet, epochs: int, batch: int) -> float:
    """The mean loss of the last epoch."""
    batches = Batches(data, min(batch, len(data)))
    optimiser = torch.optim.Adam(net.parameters(), lr=2e-3)
    steps = max(len(data) // batches.batch, 1)
    for epoch in range(epochs):
        total = 0.0
        for step in range(steps):
            x, _ = batches.at(epoch * steps + step)
            loss = nn.functional.cross_entropy(net(x).mean(0), batches.labels_at(epoch * steps + step))
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            functional.reset_net(net)
            total += loss.item()
        print(f"epoch {epoch + 1}: loss {total / steps:.3f}")
    return total / steps


@torch.no_grad()
def accuracy(net: nn.Module, data: EventSet, batch: int) -> float:
    """The share of recordings whose class has the largest mean logit."""
    net.eval()
    right = 0
    for first in range(0, len(data), batch):
        x = data.frames[first : first + batch].float().transpose(0, 1)  # (T, N, 2, H, W)
        right += int((net(x).mean(0).argmax(1) == data.labels[first : first + batch]).sum())
        functional.reset_net(net)
    return right / len(data)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data")
    parser.add_argument("--data-root", default="data")
    for flag, default in (("--time-steps", 10), ("--epochs", 5), ("--batch", 50), ("--size", 0)):
        parser.add_argument(flag, type=int, default=default)
    asked = parser.parse_args()
    if not is_events(asked.data):
        raise ValueError(f"{asked.data}: event recordings are wanted, a set's name or a folder of them")
    how = dict(time_steps=asked.time_steps, size=asked.size or None, root=asked.data_root)
    training, validation = (load(asked.data, split, **how) for split in ("train", "validation"))
    torch.manual_seed(0)
    net = network(asked.time_steps, training.frames.shape[-2:], len(training.classes))
    train(net, training, asked.epochs, asked.batch)
    print(f"accuracy {accuracy(net, validation, asked.batch):.1%} on {len(validation)} validation recordings")


if __name__ == "__main__":
    run(main)
