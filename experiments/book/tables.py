"""The tables of the results book, from results and published figures: a number in them is never typed.

Between `<!-- table: NAME -->` and `<!-- end -->` of a text stands the table of that name of the plan: of a study, a
row a cell; of `[table.NAME]`, a row an experiment, then what others have published of the same data and, where
`tcja-gen reference` had told it, the score of real images. mean ± standard deviation, over training seeds where
there are several, else over sets of sampling seeds; the column "seeds" tells how many there were of each.
"""

import json
import math
import re
import tomllib
from pathlib import Path

from .measure import slug
from .plan import Plan

MARK = re.compile(r"(<!-- table: (?P<name>[\w-]+) -->\n).*?(<!-- end -->)", re.DOTALL)
FACTOR = {
    "reconstruction": 4,
    "accuracy": 100,
    "recognition": 100,
    "recognition-classifier": 100,
    "recognition-events": 100,
    "accuracy-by-step 1": 100,
    "accuracy-by-step 2": 100,
    "accuracy-by-step 5": 100,
    "energy": 1e-3,
    "folded": 1e-3,
}  # from a recorded value to what a table tells
TITLES = {
    "seeds": "seeds, training × sampling",
    "time_steps": "T",
    "fad-official": "FAD, official ↓",
    "fad-official-reconstruction": "FAD of reconstructions, official ↓",
    "fad": "FAD, evaluation mode ↓",
    "fad-reconstruction": "FAD of reconstructions, evaluation mode ↓",
    "reconstruction": "reconstruction error, [-1, 1] ↓",
    "fid-classifier": "FID, classifier ↓",
    "precision-classifier": "precision ↑",
    "recall-classifier": "recall ↑",
    "recognition": "recognised of expected counts, % ↑",
    "recognition-classifier": "recognised, % ↑",
    "recognition-events": "recognised of drawn events, % ↑",
    "kid-classifier": "KID, classifier ↓",
    "kid-autoencoder": "KID, autoencoder ↓",
    "precision-autoencoder": "precision, autoencoder ↑",
    "recall-autoencoder": "recall, autoencoder ↑",
    "validation": "validation loss ↓",
    "accuracy": "test accuracy, % ↑",
    "accuracy-by-step 1": "after 1 step, % ↑",
    "accuracy-by-step 2": "after 2 steps, % ↑",
    "accuracy-by-step 5": "after 5 steps, % ↑",
    "energy": "nJ an image",
    "folded": "nJ, gates folded",
    "rate": "firing rate",
    "seconds": "training, s",
    "images": "images seen",
    "peak_memory_mb": "peak memory, MB",
    "samples": "seeds 0 to 7",
}


def render(text: str, plan: Plan, results: Path) -> str:
    """The text with its tables as the results make them. ValueError for a table that the plan does not have."""
    return MARK.sub(lambda found: f"{found[1]}{table(found['name'], plan, results)}{found[3]}", text)


def table(name: str, plan: Plan, results: Path) -> str:
    """Lines of markdown. An experiment that has no result yet has no row."""
    if name in plan.summaries:
        return summary(plan.summaries[name], plan, results)
    told = plan.tables.get(name) or plan.studies.get(name)
    if not told:
        known = ", ".join([*plan.tables, *plan.studies, *plan.summaries])
        raise ValueError(f"no table or study {name!r} in the plan; known: {known}")
    study, columns = name in plan.studies, told["columns"]
    rows = plan.rows(name).items()
    found = [(label, known, result) for label, known in rows for result in read(results, known).values()]
    head = [told.get("rows", "cell") if study else "experiment"]
    rows = [
        [label if study else f"`{label}`: {result['about']}", *(cell(result, c, known, results) for c in columns)]
        for label, known, result in found
    ]
    floor = found[0][2]["floor"] if found else {}
    rows += [["*real images*", *(_told(floor.get(c)) for c in columns)]] if floor else []
    sources = published(plan.folder, told["published"]) if "published" in told else []
    rows += [[f"*{row['model']}*", *(_told(row.get(c)) for c in columns)] for row in sources]
    if not found:
        names = name if study else " ".join(told["experiments"])
        return f"\nNo results yet; `python experiments/run {names}` makes them.\n\n"
    titles = [TITLES.get(column, column) for column in columns]
    return _markdown([*head, *titles], rows) + _sources(sources) + _commands(plan, found) + "\n"


def _markdown(head: list[str], rows: list[list[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n" + "".join(f"| {' | '.join(line)} |\n" for line in lines)


def summary(told: dict, plan: Plan, results: Path) -> str:
    """A row for each experiment that has a result: its score, and those of others, a column each."""
    score, rows, sources = told["score"], [], {}
    for label, name in told["rows"].items():
        found = read(results, name)
        for scale, result in found.items():
            theirs: dict[str, list[str]] = {}
            data = published(plan.folder, result["asked"]["protocol"]["data"])
            for row in (row for row in data if score in row):
                theirs.setdefault(row["model"], []).append(f"{row[score]:g}")
                sources[row["model"]] = row["source"]
            title = f"{label}, on a {scale.upper()}" if len(found) > 1 else label
            rows.append((title, cell(result, score, name, results), theirs))
    lines = [[label, f"**{ours}**", *(", ".join(theirs.get(m, ())) for m in sources)] for label, ours, theirs in rows]
    told_of = "; ".join(f"{model}: {source}" for model, source in sources.items())
    return _markdown([TITLES.get(score, score), "tcja_gen", *sources], lines) + f"\nPublished: {told_of}.\n\n"


def read(results: Path, name: str) -> dict[str, dict]:
    """An experiment's results by scale; none if it has not been run."""
    file = results / f"{slug(name)}.json"
    if not file.exists():
        return {}
    try:
        return json.loads(file.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{file}: not JSON ({error})") from None


def published(folder: Path, data: str) -> list[dict]:
    """Rows of `published.toml` of a data set."""
    rows = tomllib.loads((folder / "published.toml").read_text(encoding="utf-8"))["row"]
    return [row for row in rows if row["data"] == data]


def cell(result: dict, column: str, name: str, results: Path) -> str:
    """What a table says of a result in a column; nothing if the result does not have it."""
    if column == "seeds":
        return f"{len(result['seeds'])} × {result['asked']['sampling']}"
    if column == "samples":
        file = results / f"{slug(name)}.png"
        return f"![]({file.relative_to(results.parent)})" if file.exists() else ""
    if column in result["scores"]:
        return _spread(result["scores"][column], FACTOR.get(column, 1))
    if column == "validation":
        return _spread(result["validation"]["loss"], 1)
    value = (result | result["cost"] | result["energy"]).get(column)
    return "" if value is None else number(value * FACTOR.get(column, 1))


def _spread(score: dict, factor: float) -> str:
    mean, sd = score["mean"] * factor, score["sd"].get("training", score["sd"].get("sampling"))
    if not sd:
        return number(mean)
    digits = min(decimals(sd * factor, 1), decimals(mean, 4))  # as many as the spread leaves any meaning
    return f"{number(mean, digits)} ± {number(sd * factor, digits)}"


def number(value: float, digits: int | None = None) -> str:
    """With so many decimals, or three digits that count; whole numbers as they are.

    >>> number(28.8221), number(0.04921), number(3776993)
    ('28.8', '0.0492', '3,776,993')
    """
    whole = 0 if isinstance(value, int) or not value else decimals(value, 3)
    return f"{value:,.{whole if digits is None else digits}f}"


def decimals(value: float, count: int) -> int:
    """Decimals that show so many digits that count."""
    return max(0, count - 1 - math.floor(math.log10(abs(value))))


def _told(value: float | None) -> str:
    """A figure as it was published."""
    return "" if value is None else f"*{value:g}*"


def _commands(plan: Plan, found: list[tuple[str, str, dict]]) -> str:
    """One command for every row, folded away."""
    lines = [_command(plan, known, result) for _, known, result in found]
    return "\n<details><summary>the command of each row</summary>\n\n```\n" + "\n".join(lines) + "\n```\n\n</details>\n"


def _command(plan: Plan, name: str, result: dict) -> str:
    """What measures a row again beside its record; a record's weights are scored again, if they were kept."""
    protocol, scale = result["asked"]["protocol"], result["command"].rpartition("--scale ")[2]
    flags = ["--data-root data"] if protocol["data"] != "digits" else []
    flags += ["--autoencoder-dir fsvae"] if "autoencoder" in protocol else []
    named = name if re.fullmatch(r"[\w./-]+", name) else f'"{name}"'
    if name in plan.records:
        if not plan.records[name]:
            return f"# {name}: a record whose weights were not kept"
        return " ".join(["python experiments/run --check", named, *flags])
    experiment = plan.experiments.get(name)
    current = not experiment or experiment.scale != scale or plan.asked(experiment) == result["asked"]
    flags = (["--again"] if current else []) + ([f"--scale {scale}"] if scale != "cpu" else []) + flags
    return " ".join(["python experiments/run", named, *flags])


def _sources(rows: list[dict]) -> str:
    told = "; ".join(f"{row['model']}: {row['source']}" for row in rows)
    return f"\nPublished: {told}.\n" if told else ""
