"""What gates and a cost of spikes take of a training step: networks of a study in turn, in one process.

    OMP_NUM_THREADS=1 python experiments/step_time.py [STUDY] [--cells "none;TCJAC, both"] [--rounds 16]
                                                      [--precision bf16]

Every round trains each network for one step of the study's batch, of random images, so that a machine that is slower
for a while is slower for all of them. Time is the processor's, over all threads, so that other work on the machine
counts little. Prints a row of Markdown for each network: its median and least over the rounds, and both against those
of the first network and of the one with TCJA's parameters in channels, if that is there. STUDY is one of `book.toml`
that trains generators, gates-mnist if none is given; "compat" stands for FSVAE's network (T = 16, batch 32) without
gates and with TCJA behind every stage.
"""

import argparse
import statistics
import time
from pathlib import Path

import torch
from book import plan
from script import head, row, run
from torch import nn

from tcja_gen.nn import fuse
from tcja_gen.process import Process, neuron_path, start
from tcja_gen.training import config as configs
from tcja_gen.training.loop import new_model
from tcja_gen.training.step import Step

BOOK = Path(__file__).with_name("book.toml")
EQUAL = "parameters in channels"  # in the label of a network without gates that has as many parameters as those with
WARM_UP = 2  # rounds before the first that counts
STAGES = "32C3s2{0}-64C3s2{0}-128C3s2{0}-256C3s2{0}"
COMPAT = {"image_size": 32, "time_steps": 16, "neuron": "fsvae"}


def networks(study: str, cells: list[str]) -> dict[str, configs.Config]:
    """Settings by label. ValueError for a study or a cell that is unknown."""
    if study == "compat":
        found = {
            label: configs.change(configs.Config(), {"batch": 32, "model": COMPAT | {"encoder": STAGES.format(gate)}})
            for label, gate in (("none", ""), ("TCJA on spikes", "-TCJA"))
        }
    else:
        book = plan.read(BOOK)
        if study not in book.studies:
            raise ValueError(f"unknown study {study!r}; known: compat, {', '.join(book.studies)}")
        found = {label: book.config(book.experiments[name], 0) for label, name in book.rows(study).items()}
    if unknown := [cell for cell in cells if cell not in found]:
        raise ValueError(f"unknown cell {unknown[0]!r}; {study} has: {'; '.join(found)}")
    found = {label: found[label] for label in cells or found}
    for label, config in found.items():
        further = config.objective.adversarial or config.objective.perceptual or config.init_from
        if config.task != "generate" or config.fit not in ("all", "autoencoder") or further:
            told = "generators that train all their parts at once, by their own losses alone, are wanted"
            raise ValueError(f"{study}: {label}: {told}")
    return found


def stepper(config: configs.Config, process: Process) -> Step:
    torch.manual_seed(0)
    return Step(fuse(new_model(config), neuron_path(process.device)[0]).train(), nn.ModuleDict(), config, process)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("study", nargs="?", default="gates-mnist", metavar="STUDY")
    parser.add_argument("--cells", type=lambda words: words.split(";"), default=[])
    parser.add_argument("--rounds", type=int, default=16)
    parser.add_argument("--precision", choices=("fp32", "bf16"), default="fp32")
    asked = parser.parse_args()
    if asked.rounds < 1:
        raise ValueError(f"--rounds {asked.rounds}: at least 1")
    process = start("cpu")
    steps = {
        label: stepper(configs.change(config, {"precision": asked.precision}), process)
        for label, config in networks(asked.study, asked.cells).items()
    }
    seconds: dict[str, list[float]] = {label: [] for label in steps}
    for number in range(WARM_UP + asked.rounds):
        for label, step in steps.items():
            x = torch.rand(step.config.batch, 1, *[step.config.model.image_size] * 2) * 2 - 1
            began = time.process_time()
            step(number, x, None)
            seconds[label].append(time.process_time() - began)
    counted = {label: taken[WARM_UP:] for label, taken in seconds.items()}
    first, equal = next(iter(steps)), next((label for label in steps if EQUAL in label), None)
    head("network", "parameters", "ms a step (least)", f"against {first}", *(["equal parameters"] if equal else []))
    for label, taken in counted.items():
        parameters = sum(p.numel() for p in steps[label].model.parameters())
        ratios = [against(taken, counted[other]) for other in (first, equal) if other]
        row(label, f"{parameters:,}", pair(taken, 1e3, ".0f"), *ratios)


def pair(seconds: list[float], scale: float, form: str) -> str:
    return f"{scale * statistics.median(seconds):{form}} ({scale * min(seconds):{form}})"


def against(taken: list[float], other: list[float]) -> str:
    return f"{statistics.median(taken) / statistics.median(other):.2f} ({min(taken) / min(other):.2f})"


if __name__ == "__main__":
    run(main)
