"""What the scripts of this folder share: their arguments, scores of a model, tables of Markdown, errors in one line."""

import argparse
import sys
from collections.abc import Callable
from pathlib import Path

from tcja_gen.evaluation import METRICS, evaluate, own_data
from tcja_gen.models import load


def arguments(doc: str, runs: str = "RUN", data_root: str = "data") -> argparse.ArgumentParser:
    """A parser with the runs that a script is about. runs: "RUN" for one, "RUN ..." for any number from one."""
    parser = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    several = {"dest": "runs", "nargs": "+"} if runs.endswith("...") else {"dest": "run"}
    parser.add_argument(metavar="RUN", **several)
    parser.add_argument("--data-root", default=data_root)
    return parser


def scoring(parser: argparse.ArgumentParser, n: int, split: str = "test") -> argparse.ArgumentParser:
    """Adds how samples are scored."""
    parser.add_argument("--n", type=int, default=n)
    parser.add_argument("--split", default=split)
    parser.add_argument("--metrics", type=metric_names, default=["fad-official", "fad"])
    parser.add_argument("--autoencoder")
    return parser


def metric_names(words: str) -> list[str]:
    """Names of metrics of images, with commas between. ArgumentTypeError for another one."""
    names = words.split(",")
    if odd := [name for name in names if name not in METRICS or METRICS[name].of == "classes"]:
        raise argparse.ArgumentTypeError(f"{odd[0]} is no metric of images, such as fad or precision-autoencoder")
    return names


def generator(name: str):
    """The generator of images of this name. ValueError for another model."""
    model = load(name)
    if model.kind != "generator" or model.full_count:
        raise ValueError(f"{name}: a generator of images is wanted")
    return model


def score(subject, asked: argparse.Namespace, source: str = "", **how) -> dict:
    """The record of a model's samples, or of images, by the arguments of `scoring`; source: default the model's own."""
    source = source or own_data(subject, asked.data_root)
    how |= {"n": asked.n, "split": asked.split, "root": asked.data_root, "autoencoder": asked.autoencoder}
    return evaluate(subject, source, asked.metrics, **how)


def head(*names) -> None:
    """Prints the head of a table."""
    row(*names)
    row(*["---"] * len(names))


def row(*cells) -> None:
    """Prints a row of a table at once, as the next one may take minutes."""
    print(f"| {' | '.join(map(str, cells))} |", flush=True)


def run(main: Callable[[], None]) -> None:
    """Calls a script's `main`; a mistake of the user ends it with one line."""
    try:
        main()
    except (ValueError, OSError) as error:
        raise SystemExit(f"{Path(sys.argv[0]).name}: {error}") from None
