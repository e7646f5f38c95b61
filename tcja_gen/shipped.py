"""Files that ship with the package, by name: training recipes, and weights of trained models; and which names are those
of models that are published. Imports nothing heavy."""

from pathlib import Path

HERE = Path(__file__).parent
RECIPES, WEIGHTS = HERE / "recipes", HERE / "weights"
HUB = "hf:"  # begins the name of a model on the Hugging Face Hub, see `models.hub`


def recipes() -> dict[str, Path]:
    """Files of the recipes, by name: mnist-tcja, classify/digits, ..."""
    return {p.relative_to(RECIPES).with_suffix("").as_posix(): p for p in sorted(RECIPES.rglob("*.toml"))}


def weights() -> dict[str, Path]:
    """Files of the pretrained models, by name. NAME.md beside each says how it was made and how good it is."""
    return {p.stem: p for p in sorted(WEIGHTS.glob("*.safetensors"))}


def is_published(name: str) -> bool:
    """Whether a name is that of a pretrained model, or of one on the hub."""
    return name in weights() or name.startswith(HUB)


def no_such_model(name: str) -> str:
    """The error message for a name that is neither a run, a checkpoint nor a pretrained model."""
    known = ", ".join(weights())
    wanted = f"a run folder, a .safetensors file, hf:owner/name or a pretrained model ({known})"
    return f"{name}: no such run or checkpoint; give {wanted}"
