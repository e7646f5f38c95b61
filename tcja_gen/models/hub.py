"""Models on the Hugging Face Hub, by name: "hf:owner/name", or "hf:owner/name@revision".

Such a repository holds the model's file as `model.safetensors`; `sharing.hub` writes one. Files are kept by
huggingface_hub in its cache. Without a network the copy there is used.
"""

from pathlib import Path

from ..errors import MissingFile, UserError
from ..shipped import HUB


def find(name: str, file: str) -> Path:
    """A file of the repository `name`, fetched unless the cache has its newest state. MissingFile, one line, if there
    is no such repository or file, or neither a network nor a copy; UserError if `name` cannot be one."""
    hub = library()
    repository, _, revision = name.removeprefix(HUB).partition("@")
    where = {"repo_id": repository, "filename": file, "revision": revision or None}
    try:
        offline = not _answers(hub, where)
        return Path(hub.hf_hub_download(**where, library_name="tcja_gen", local_files_only=offline))
    except hub.errors.HFValidationError:
        raise UserError(f"{name}: not the name of a repository; wanted {HUB}owner/name") from None
    except hub.errors.LocalEntryNotFoundError:
        told = f"{name}: {hub.constants.ENDPOINT} cannot be reached, and this machine has no copy of the model"
    except hub.errors.RepositoryNotFoundError:
        told = f"{name}: no such repository at {hub.constants.ENDPOINT}, or a private one (hf auth login)"
    except hub.errors.RevisionNotFoundError:
        told = f"{name}: the repository has no revision {revision!r}"
    except hub.errors.EntryNotFoundError:
        told = f"{name}: the repository has no {file}, so it holds no model of tcja_gen"
    raise MissingFile(told)


def _answers(hub, where: dict) -> bool:
    """Whether the hub can be reached. It is asked once; a download would ask again and again for half a minute."""
    try:
        hub.get_hf_file_metadata(hub.hf_hub_url(**where))
    except hub.errors.HfHubHTTPError:
        raise
    except (hub.errors.HTTPError, ConnectionError):
        return False
    return True


def library():
    """The module huggingface_hub. UserError if it is not installed."""
    try:
        import huggingface_hub
        import huggingface_hub.constants
        import huggingface_hub.errors
    except ImportError:
        raise UserError('models of the hub need huggingface_hub: pip install "tcja_gen[hub]"') from None
    return huggingface_hub
