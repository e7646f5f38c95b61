"""`push`: a model to the Hugging Face Hub, where "hf:owner/name" finds it (`models/hub.py`).

The repository gets the model's file, a model card made of what the run knows (`card.py`), a picture of samples, and the
run's settings, without the names of folders on this machine.
"""

import re
from pathlib import Path
from tempfile import TemporaryDirectory

from ..errors import UserError
from ..evaluation import pictures
from ..files import write
from ..models.hub import library
from ..models.store import WEIGHTS, save_copy
from ..report.subject import Subject
from ..shipped import HUB
from ..training.config import text, without_places
from .card import PICTURE, card

SEEDS = range(36)  # of the picture


def push(run: str | Path, repository: str, private: bool = False) -> str:
    """Publishes a model and returns the address of its page.

    run: what `load` finds. repository: owner/name; it is made if it does not exist. UserError, one line, if the hub
    refuses or cannot be reached. The token is that of `hf auth login`, or $HF_TOKEN.
    """
    hub, repository = library(), repository.removeprefix(HUB)
    if not re.fullmatch(r"[^/\s]+/[^/\s]+", repository):
        raise UserError(f"{repository!r}: the name of a repository is owner/name")
    subject = Subject(run)
    with TemporaryDirectory() as folder:
        write_repository(subject, repository, Path(folder))
        try:
            api = hub.HfApi(library_name="tcja_gen")
            api.create_repo(repository, private=private, exist_ok=True)
            api.upload_folder(repo_id=repository, folder_path=folder, commit_message="Model of tcja_gen")
        except (hub.errors.HTTPError, OSError, ValueError) as error:
            told = " ".join(str(error).split())
            raise UserError(f"{repository}: not pushed to {hub.constants.ENDPOINT}: {told}") from None
    return f"{hub.constants.ENDPOINT}/{repository}"


def write_repository(subject: Subject, repository: str, folder: Path) -> None:
    """Writes all files of a repository into a folder."""
    save_copy(subject.file, folder / WEIGHTS)
    if subject.config:
        write(folder / "config.toml", text(without_places(subject.config)))
    if subject.samples_are_made:
        pixels = pictures.samples(subject.model.sample(SEEDS), SEEDS)
        facts = pictures.made_by(subject.model, SEEDS) | {"command": f"tcja-gen push {repository}"}
        pictures.save(pixels, folder / PICTURE, facts)
    write(folder / "README.md", card(subject, repository))
