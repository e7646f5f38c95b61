"""Conversion of checkpoints of format 1. There the settings of a model were one flat table, and the first layer of the
latent was a part of the model itself. `MOVED` maps the old name of a setting to its name now."""

import json
from collections.abc import Mapping
from typing import Any

from torch import Tensor

LATENT = ("divergence_weight", "k", "divergence", "passes", "prior", "rounds", "temperature", "flips", "conditional")
MOVED = {
    "latent": "model.latent.channels",
    "latent_kind": "model.latent.kind",
    **{name: f"model.latent.{name}" for name in LATENT},
    **{f"scheduled_{name}": f"model.latent.scheduled.{name}" for name in ("start", "end", "first", "replace")},
    "objective": "objective.kind",
    "head_weight": "objective.weight",
    "tet_weight": "objective.tet_weight",
    "tet_mean": "objective.tet_mean",
}
ONLY = {  # settings that only one kind of a part has; format 1 had those of all kinds in one table
    "k": "bernoulli",
    "divergence": "bernoulli",
    "passes": "bernoulli",
    "scheduled": "bernoulli",
    "prior": "codes",
    "rounds": "codes",
    "temperature": "codes",
    "flips": "codes",
    "tet_weight": "tet",
    "tet_mean": "tet",
}


def convert(facts: Mapping[str, str], tensors: Mapping[str, Tensor]) -> tuple[dict[str, str], dict[str, Tensor]]:
    """Metadata and weights of a file of format 1, converted to format 2."""
    flat = json.loads(facts["model"])
    nested = nested_table(flat, facts.get("kind", "generator"))
    renamed = {name.replace("to_latent.", "latent.entry."): tensor for name, tensor in tensors.items()}
    model, objective = (json.dumps(nested[name]) for name in ("model", "objective"))
    return {"kind": "generator", **facts, "format": "2", "model": model, "objective": objective}, renamed


def nested_table(flat: Mapping[str, Any], kind: str = "generator") -> dict[str, dict]:
    """The tables "model" and "objective" of a flat table, without settings that the kinds of its parts do not have."""
    nested: dict[str, dict] = {"model": {}, "objective": {"kind": flat.get("objective", "ce")}}
    if kind == "generator":
        nested["model"]["latent"] = {"kind": flat.get("latent_kind", "bernoulli")}
    for name, value in flat.items():
        *path, last = MOVED.get(name, f"model.{name}").split(".")
        table: Any = nested
        for step in path:
            table = table.setdefault(step, {})
        table[last] = value
    return {name: _of_kind(table, "bernoulli") for name, table in nested.items()}


def _of_kind(table: dict, kind: str) -> dict:
    """The table without settings of other kinds. kind: that of the table, if it does not name its own."""
    kind = table.get("kind", kind)
    own = {}
    for name, value in table.items():
        if ONLY.get(name, kind) != kind or (name == "conditional" and kind not in ("bernoulli", "codes")):
            continue
        own[name] = _of_kind(value, kind) if isinstance(value, dict) else value
    return own
