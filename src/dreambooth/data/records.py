"""A photo, its role and its caption."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

__all__ = ["CaptionedPhoto", "Focus", "Mask", "Photo", "Role", "SubjectBox"]

Role = Literal["instance", "prior"]
"""What a picture is for: a photo of the subject, or a class image."""


@dataclass(frozen=True)
class CaptionedPhoto:
    """A picture and what is said about it, with every placeholder filled in."""

    photo: Photo
    caption: str
    other_captions: tuple[str, ...] = ()
    """Alternatives: each step draws one of all."""

    @property
    def captions(self) -> tuple[str, ...]:
        """Every caption."""
        return (self.caption, *self.other_captions)


@dataclass(frozen=True)
class Photo:
    """A picture that can be used: its SHA-256, its size in pixels after turning it upright, its own caption template."""

    path: Path
    digest: str
    width: int
    height: int
    caption: str | None
    mask: Mask | None = None
    """Where the subject is; only photos of the subject have one."""
    other_captions: tuple[str, ...] = ()
    """More caption templates, of which each step draws one; empty without a caption."""
    focus: Focus | None = None
    """Where the subject seems to be, if the photos are cropped around it and no mask shows it."""

    @property
    def subject_box(self) -> SubjectBox | None:
        """The box around the subject, by the mask or else the focus."""
        if self.mask is not None and self.mask.box is not None:
            return self.mask.box
        return None if self.focus is None else self.focus.box


@dataclass(frozen=True)
class SubjectBox:
    """The box around the subject in the pixels of the upright photo."""

    top: int
    left: int
    height: int
    width: int


@dataclass(frozen=True)
class Focus:
    """The box around what is likely to be the subject, and what says so."""

    box: SubjectBox
    source: Literal["face", "saliency"]


@dataclass(frozen=True)
class Mask:
    """A mask: its file, or None for the photo's alpha channel, the SHA-256 of the file that holds it, and what it marks."""

    path: Path | None
    digest: str
    box: SubjectBox | None
    """None if it marks nothing."""
