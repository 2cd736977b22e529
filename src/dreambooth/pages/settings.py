"""Settings of the check of photos. Loads no torch."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from pydantic import Field

from dreambooth.config import Settings
from dreambooth.data.settings import SubjectSettings, ViewSettings

__all__ = ["PhotoCheckSettings"]


class PhotoCheckSettings(Settings):
    """Check photos as training does, and show every view that it would see."""

    subject: SubjectSettings
    """Subject to check."""

    views: ViewSettings = Field(default_factory=ViewSettings)
    """How photos become training images; without a model, the default resolution is 512."""

    prior_images: Path | None = None
    """Folder of class images to check as well."""

    seed: Annotated[int, Field(ge=0, lt=2**63)] = 23
    """Random seed of the run, which decides where random crops lie."""

    most_photos: Annotated[int, Field(ge=1, le=10_000)] = 100
    """Number of photos whose views are shown; all are checked."""

    output: Path = Path("photo-check")
    """Folder for the page and the sheets."""
