"""The model card of a repository: README.md with the hub's metadata, made of what a run and its model know."""

from collections.abc import Iterator

from torch.nn import Module

from ..models.store import weights_hash
from ..report.history import deviations, score_records
from ..report.subject import Subject
from ..report.text import short, size
from ..settings import dump

PICTURE = "samples.png"
PROTOCOL = ("n", "split", "data", "mode")  # columns beside a score

USE = {
    "generator": "model.sample(seeds=range(64))  # images in [0, 1]",
    "generator of events": "model.sample(seeds=range(64))  # expected counts of events, (N, T, 2, H, W)",
    "classifier": "model.predict(images)",
}
TASK = {"generator": "unconditional-image-generation", "classifier": "image-classification"}
PAGE = """\
---
library_name: tcja_gen
pipeline_tag: {task}
tags: [spiking-neural-network, tcja]
---

# {name}

{about}

```python
import tcja_gen as tg  # pip install "tcja_gen[hub]"

model = tg.load("hf:{repository}")
{use}
```

{sections}"""


def card(subject: Subject, repository: str) -> str:
    """The text of README.md. repository: owner/name, where the model will be."""
    about = subject.card.partition("\n\n")[2].strip() or f"A spiking {subject.kind} of {_data(subject)}."
    parts = (_samples(subject), _scores(subject), _training(subject), _settings(subject))
    return PAGE.format(
        task=TASK[subject.kind],
        name=repository.split("/")[-1],
        about=about,
        repository=repository,
        use=USE["generator of events" if subject.makes_events else subject.kind],
        sections="\n".join(part for part in parts if part),
    )


def _data(subject: Subject) -> str:
    return subject.model.provenance.get("data", {}).get("name", "unknown data")


def _samples(subject: Subject) -> str:
    if not subject.samples_are_made:
        return ""
    return f"![samples]({PICTURE})\n\n*Samples of seeds 0 to 35, without selection.*\n"


def _scores(subject: Subject) -> str:
    rows = [row for record in score_records(subject) for row in _rows(record, subject.model)]
    if not rows:
        return ""
    header = f"| score | value | {' | '.join(PROTOCOL)} | sampled by |\n|{'---|' * (len(PROTOCOL) + 3)}\n"
    return f"## Scores\n\n{header}" + "\n".join(rows) + "\n"


def _rows(record: dict, model: Module) -> Iterator[str]:
    for metric, score in record["scores"].items():
        protocol = record["protocol"].get(metric, {})
        facts = [*(str(protocol.get(field, "")) for field in PROTOCOL), deviations(record, metric, model)]
        yield f"| {metric} | {short(score)} | {' | '.join(facts)} |"


def _training(subject: Subject) -> str:
    known = subject.model.provenance
    data = known.get("data", {})
    facts = {
        "data": f"{data['name']}, {data['images']:,} images" if {"name", "images"} <= {*data} else _data(subject),
        "step": known.get("step"),
        "seed": known.get("seed"),
        "size": size(subject.model),
        "hash of the weights": weights_hash(subject.model),
        "versions": ", ".join(f"{name} {version}" for name, version in known.get("versions", {}).items()),
    }
    lines = [f"- {name}: {value}" for name, value in facts.items() if value not in (None, "")]
    return "## Training\n\n" + "\n".join(lines) + "\n"


def _settings(subject: Subject) -> str:
    return f"## Settings\n\n```toml\n{dump({'model': subject.settings})}```\n"
