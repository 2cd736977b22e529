"""Photos that do not lie in a folder yet: datasets on the Hugging Face hub, and archives."""

from __future__ import annotations

from pathlib import Path

from dreambooth.data.archives import is_archive, unpack
from dreambooth.data.hub_address import hub_dataset
from dreambooth.data.settings import SubjectSettings

__all__ = ["photo_folder", "with_photo_folders"]


def with_photo_folders(subject: SubjectSettings, archives: Path) -> SubjectSettings:
    """The settings with folders in the place of datasets and of archives, which are unpacked below `archives`.

    Raises PhotoError when a dataset cannot be downloaded or an archive cannot be unpacked, and SettingsError for an address
    that is none of a dataset.
    """
    folders = {one.photos: photo_folder(one.photos, archives) for one in (subject, *subject.each())}
    if all(photos == folder for photos, folder in folders.items()):
        return subject
    subjects = tuple(one.model_copy(update={"photos": folders[one.photos]}) for one in subject.subjects)
    return subject.model_copy(update={"photos": folders[subject.photos], "subjects": subjects})


def photo_folder(photos: Path, archives: Path) -> Path:
    """The folder of photos given as a folder, as an archive, or as a dataset on the hub."""
    if (dataset := hub_dataset(photos)) is not None:
        from dreambooth.weights.hub_photos import fetch_photos  # loads huggingface_hub, which nothing else here needs

        return fetch_photos(dataset)
    return unpack(photos, archives) if is_archive(photos) else photos
