"""What ships with the package, by name: recipes of trainings, and weights of trained models. Imports nothing heavy."""

from pathlib import Path

HERE = Path(__file__).parent
RECIPES, WEIGHTS = HERE / "recipes", HERE / "weights"


def recipes() -> dict[str, Path]:
    """Files of the recipes, by name: mnist-tcja, classify/digits, ..."""
    return {p.relative_to(RECIPES).with_suffix("").as_posix(): p for p in sorted(RECIPES.rglob("*.toml"))}


def weights() -> dict[str, Path]:
    """Files of the pretrained models, by name. NAME.md beside each tells how it was made, and what it is worth."""
    return {p.stem: p for p in sorted(WEIGHTS.glob("*.safetensors"))}


def no_model(name: str) -> str:
    """What to say of a name that is no model."""
    known = ", ".join(weights())
    wanted = f"a run folder, a .safetensors file or a pretrained model ({known}) is wanted"
    return f"{name}: no such run or checkpoint; {wanted}"
