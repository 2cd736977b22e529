"""Photos as training sees them: a page that opens in any browser without a network, and a sheet."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from dreambooth.files import write_text
from dreambooth.pages.images import inline_image, write_contact_sheet
from dreambooth.pages.templates import render

__all__ = ["CheckedPhoto", "write_photo_page", "write_photo_sheet"]

_MOST_CAPTIONS = 6


@dataclass(frozen=True)
class CheckedPhoto:
    """A photo as the page shows it."""

    name: str
    captions: tuple[str, ...]
    views: tuple[NDArray[np.uint8], ...]
    """All its views, (H, W, 3) each."""
    cropped_around: str | None = None
    """What its views are cropped around, if anything."""
    subject: str = ""
    """Its subject, as a prompt names it."""

    @property
    def sources(self) -> list[str]:
        """The views as data URIs."""
        return [inline_image(view) for view in self.views]

    @property
    def said(self) -> list[str]:
        """The captions that are shown; of many only the first."""
        captions = list(dict.fromkeys(self.captions))
        more = len(captions) - _MOST_CAPTIONS
        return captions if more <= 0 else [*captions[:_MOST_CAPTIONS], f"and {more} more"]


def write_photo_page(
    path: Path, photos: Sequence[CheckedPhoto], *, about: str, problems: Sequence[tuple[str, ...]], warnings: Sequence[str]
) -> Path:
    """Write one HTML page with all views, grouped by subject if there are several. Returns the path.

    `problems` are a row of headings and the rows below it.
    """
    columns, *rows = problems
    groups = {name: [one for one in photos if one.subject == name] for name in dict.fromkeys(one.subject for one in photos)}
    page = render("photos.html", title="Photos", about=about, groups=groups, columns=columns, problems=rows, warnings=warnings)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_text(path, page)
    return path


def write_photo_sheet(path: Path, photos: Sequence[CheckedPhoto]) -> tuple[Path, ...]:
    """Write one row of views for each photo as PNG files, labeled with its name and first caption; the files written."""
    labels = [f"{photo.name}: {photo.said[0]}" for photo in photos]
    return write_contact_sheet(path, [photo.views for photo in photos], row_labels=labels)
