"""Files that ship with the package, by name: training recipes, and weights of trained models. Imports nothing heavy."""

from pathlib import Path

HERE = Path(__file__).parent
RECIPES, WEIGHTS = HERE / "recipes", HERE / "weights"


def recipes() -> dict[str, Path]:
    """Files of the recipes, by name: mnist-tcja, classify/digits, ..."""
    return {p.relative_to(RECIPES).with_suffix("").as_posix(): p for p in sorted(RECIPES.rglob("*.toml"))}


def weights() -> dict[str, Path]:
    """Files of the pretrained models, by name. NAME.md beside each says how it was made and how good it is."""
    return {p.stem: p for p in sorted(WEIGHTS.glob("*.safetensors"))}


def no_such_model(name: str) -> str:
    """The error message for a name that is neither a run, a checkpoint nor a pretrained model."""
    known = ", ".join(weights())
    wanted = f"a run folder, a .safetensors file, hf:owner/name or a pretrained model ({known})"
    return f"{name}: no such run or checkpoint; give {wanted}"
