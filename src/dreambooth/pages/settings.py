"""Settings of the check of photos. Loads no torch."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from pydantic import Field

from dreambooth.config import Settings
from dreambooth.data.settings import SubjectSettings, ViewSettings

__all__ = ["PhotoCheckSettings"]


class PhotoCheckSettings(Settings):
    """Check photos as training does, and show on a page what training would see."""

    subject: SubjectSettings
    """Subject to check."""

    views: ViewSettings = Field(default_factory=ViewSettings)
    """How photos become training images; the default resolution is 512, since no model is read."""

    prior_images: Path | None = None
    """Folder of class images to check too."""

    seed: Annotated[int, Field(ge=0, lt=2**63)] = 23
    """Random seed of random crops; with a run's own seed they are the same as in that run."""

    most_photos: Annotated[int, Field(ge=1, le=10_000)] = 100
    """Maximum number of photos on the page; all photos are checked."""

    output: Path = Path("photo-check")
    """Folder for the page (photos.html) and the same views as PNG files."""
