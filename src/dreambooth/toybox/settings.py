"""What is asked of the renderer. Loads no torch."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from pydantic import Field

from dreambooth.config import Settings

__all__ = ["PhotosSettings", "SheetSettings"]


class PhotosSettings(Settings):
    """Render photos of one subject of the small world, to train on."""

    subject: str = "banded-container"
    """Which one: banded-container, zigzag-mug, marked-ball, belted-vase, crossed-teapot, upright-lamp, banded-car, zigzag-cone,
    upright-mug, marked-container, or a whole number from which one is drawn."""

    num_photos: Annotated[int, Field(ge=1, le=100)] = 5
    """How many, in other views and lights, the first eight each in another place."""

    side: Annotated[int, Field(ge=64, le=1024)] = 128
    """Width and height in pixels."""

    seed: Annotated[int, Field(ge=0, lt=2**31)] = 1
    """Number from which places, views and lights follow."""

    output: Path | None = None
    """Folder for the photos, which must not hold others; photos/SUBJECT when not given."""


class SheetSettings(Settings):
    """Render a sheet of the small world: every class in every place, and its subjects."""

    side: Annotated[int, Field(ge=64, le=512)] = 64
    """Width and height of each picture in pixels."""

    seed: Annotated[int, Field(ge=0, lt=2**31)] = 1
    """Number from which the pictures follow."""

    output: Path = Path("world.png")
    """PNG file to write."""
