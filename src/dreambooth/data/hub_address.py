"""Addresses of datasets on the Hugging Face hub, given in the place of a folder of photos: hf://datasets/OWNER/NAME.

They are those of huggingface_hub and datasets: `@REVISION` may follow the name, and then a folder.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from urllib.parse import unquote

from dreambooth.errors import SettingsError

__all__ = ["HubDataset", "hub_dataset"]

_FORM = "hf://datasets/OWNER/NAME"
_PAGES = ("huggingface.co", "www.huggingface.co", "hf.co")


@dataclass(frozen=True)
class HubDataset:
    """A dataset, or a folder of it."""

    repo: str
    """OWNER/NAME."""
    revision: str | None = None
    """Branch, tag or commit; None for the newest."""
    folder: str = ""
    """A folder below the dataset's own, with slashes; empty for all of it."""

    def __str__(self) -> str:
        """The address."""
        revision = "" if self.revision is None else f"@{self.revision.replace('/', '%2F')}"
        return f"hf://datasets/{self.repo}{revision}" + (f"/{self.folder}" if self.folder else "")


def hub_dataset(photos: Path) -> HubDataset | None:
    """The dataset that `photos` names; None for any other path, and for one that exists.

    Raises SettingsError for another address of the hub.
    """
    parts = photos.parts
    scheme = parts[0].lower() if parts else ""
    if scheme not in ("hf:", "https:", "http:") or photos.exists():
        return None
    if scheme != "hf:":
        if len(parts) < 2 or parts[1] not in _PAGES:
            return None
        repo = "/".join(parts[3:5]) if parts[2:3] == ("datasets",) and len(parts) >= 5 else "OWNER/NAME"
        raise SettingsError(f"photos is {_typed(parts)}: a web page", hint=f"For a dataset give hf://datasets/{repo}.")
    name, at, revision = parts[3].partition("@") if len(parts) > 3 else ("", "", "")
    is_whole = parts[0] == scheme and parts[1:2] == ("datasets",) and bool(name) and bool(revision) == bool(at)
    if not is_whole or ".." in parts:
        raise SettingsError(f"photos is {_typed(parts)}: expected {_FORM}, {_FORM}@REVISION or {_FORM}/FOLDER")
    return HubDataset(f"{parts[2]}/{name}", unquote(revision) or None, str(PurePosixPath(*parts[4:])) if parts[4:] else "")


def _typed(parts: tuple[str, ...]) -> str:
    """The address as it was typed: a path joins the two slashes."""
    return f"{parts[0]}//{'/'.join(parts[1:])}"
