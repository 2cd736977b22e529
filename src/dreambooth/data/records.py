"""A photo, its role and its caption."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    pass


__all__ = ["CaptionedPhoto", "Photo", "Role"]

Role = Literal["instance", "prior"]
"""What a picture is for: a photo of the subject, or a class image."""


@dataclass(frozen=True)
class CaptionedPhoto:
    """A picture and what is said about it, with every placeholder filled in."""

    photo: Photo
    caption: str


@dataclass(frozen=True)
class Photo:
    """A picture that can be used: its SHA-256, its size in pixels after turning it upright, its own caption template."""

    path: Path
    digest: str
    width: int
    height: int
    caption: str | None
