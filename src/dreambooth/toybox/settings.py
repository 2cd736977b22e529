"""Settings of the renderer. Does not import torch."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from pydantic import Field

from dreambooth.config import Settings

__all__ = ["PhotosSettings", "SheetSettings"]


class PhotosSettings(Settings):
    """Render photos of one toybox subject to train on."""

    subject: str = "banded-container"
    """Subject: banded-container, zigzag-mug, marked-ball, belted-vase, crossed-teapot, upright-lamp, banded-car, zigzag-cone,
    upright-mug, marked-container, or an integer seed that draws one at random."""

    num_photos: Annotated[int, Field(ge=1, le=100)] = 5
    """Number of photos, each from a different angle in different light; the first eight have different backgrounds."""

    side: Annotated[int, Field(ge=64, le=1024)] = 128
    """Width and height in pixels."""

    seed: Annotated[int, Field(ge=0, lt=2**31)] = 1
    """Random seed of backgrounds, camera angles and lighting."""

    output: Path | None = None
    """Folder for the photos; it must not contain others; default: photos/SUBJECT."""


class SheetSettings(Settings):
    """Render a contact sheet of the toybox world: every class on every background, and the subjects."""

    side: Annotated[int, Field(ge=64, le=512)] = 64
    """Width and height of each image in pixels."""

    seed: Annotated[int, Field(ge=0, lt=2**31)] = 1
    """Random seed."""

    output: Path = Path("world.png")
    """PNG file to write."""
