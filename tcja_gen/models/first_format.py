"""Checkpoints of format 1, whose model was one flat table of settings, and whose first latent layer stood beside the
latent. `MOVED` says where every setting is now."""

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
ONLY = {  # settings of one kind of part; the table of format 1 held those of all
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
    """Metadata and weights as format 2 has them."""
    flat = json.loads(facts["model"])
    nested = nested_table(flat, facts.get("kind", "generator"))
    renamed = {name.replace("to_latent.", "latent.entry."): tensor for name, tensor in tensors.items()}
    model, objective = (json.dumps(nested[name]) for name in ("model", "objective"))
    return {"kind": "generator", **facts, "format": "2", "model": model, "objective": objective}, renamed


def nested_table(flat: Mapping[str, Any], kind: str = "generator") -> dict[str, dict]:
    """The tables "model" and "objective" of a flat table, without settings that the kinds of its parts do not have."""
    made: dict[str, dict] = {"model": {}, "objective": {"kind": flat.get("objective", "ce")}}
    if kind == "generator":
        made["model"]["latent"] = {"kind": flat.get("latent_kind", "bernoulli")}
    for name, value in flat.items():
        *path, last = MOVED.get(name, f"model.{name}").split(".")
        table: Any = made
        for step in path:
            table = table.setdefault(step, {}) if table is not None else None
        table[last] = value
    return {name: _own(table, "bernoulli") for name, table in made.items()}


def _own(table: dict, kind: str) -> dict:
    """A table without settings of other kinds than its own."""
    kind = table.get("kind", kind)
    kept = {}
    for name, value in table.items():
        if ONLY.get(name, kind) != kind or (name == "conditional" and kind not in ("bernoulli", "codes")):
            continue
        kept[name] = _own(value, kind) if isinstance(value, dict) else value
    return kept
