"""Uploads photos through the browser into a folder, and checks them."""

from __future__ import annotations

import hashlib
import re
import unicodedata
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from dreambooth.data.photos import PhotoReport, read_pixels, scan_photos
from dreambooth.data.problems import PROBLEM_COLUMNS
from dreambooth.files import atomic_file
from dreambooth.notebook.markup import captioned, note, picture, table
from dreambooth.notebook.showing import Area, find_widgets, show
from dreambooth.pages.images import enlarged
from dreambooth.pages.templates import Markup

__all__ = ["ask_for_photos", "photo_report", "safe_name", "save_uploads"]

_SIDE = 128
_MOST_THUMBNAILS = 24
_SIGNS = 6
_LONGEST_STEM = 80


def ask_for_photos(folder: str | Path, *, resolution: int = 512) -> None:
    """Show a button that uploads photos into `folder`, and below it the photos in the folder and their problems.

    Upload your own captions in the same way, as .txt files named like the photos. Without widgets, only the folder is shown.
    """
    place = Path(folder)
    place.mkdir(parents=True, exist_ok=True)
    widgets = find_widgets()
    if widgets is None:
        show(photo_report(place, resolution=resolution))
        return
    button = widgets.FileUpload(multiple=True, accept="image/*,.heic,.heif,.txt,.caption", description="Upload photos")
    show(button)
    area = Area(photo_report(place, resolution=resolution))

    def take(change: Mapping[str, Any]) -> None:
        if change["new"]:
            save_uploads(change["new"], place)
            # Clear the button, or the photos would stay in memory and be saved with the notebook.
            button.value = type(button.value)()
            area.update(photo_report(place, resolution=resolution))

    button.observe(take, names="value")


def save_uploads(files: Sequence[Mapping[str, Any]] | Mapping[str, Mapping[str, Any]], folder: Path) -> list[Path]:
    """Write the files of a FileUpload widget into `folder` and return their paths.

    `files` are records with `name` and `content`, or, in the older widgets on Colab, a mapping of name to a record with
    `content`. A file with the same name is replaced, so uploading the same photos again changes nothing. A name that had to
    be changed gets a short hash at the end, so that two names never collide; a photo and its caption get the same hash.
    """
    named = files.items() if isinstance(files, Mapping) else ((file["name"], file) for file in files)
    written = []
    for name, file in named:
        path = folder / safe_name(str(name))
        with atomic_file(path) as partial:
            partial.write_bytes(bytes(file["content"]))
        written.append(path)
    return written


def safe_name(name: str) -> str:
    """A file name without folders, blanks and control characters that is not hidden."""
    last = unicodedata.normalize("NFC", re.split(r"[/\\]", name)[-1])
    stem, dot, suffix = last.rpartition(".")
    if not dot or not stem.strip("."):
        stem, suffix = last, ""
    safe = re.sub(r"[^\w.-]+", "-", stem).strip(".-")[:_LONGEST_STEM] or "file"
    if safe != stem:
        safe += f"-{hashlib.sha256(stem.encode()).hexdigest()[:_SIGNS]}"
    stem, suffix = safe, re.sub(r"\W", "", suffix).lower()
    return f"{stem}.{suffix}" if suffix else stem


def photo_report(folder: Path, *, resolution: int) -> Markup:
    """Thumbnails of the photos in a folder, and the table of problems that the command line shows."""
    report = scan_photos(folder, role="instance", resolution=resolution)
    shown = report.photos[:_MOST_THUMBNAILS]
    thumbnails = Markup("").join(
        captioned(picture(_thumbnail(photo.path)), f"{photo.path.name} {photo.width} x {photo.height}", width=_SIDE)
        for photo in shown
    )
    more = len(report.photos) - len(shown)
    rest = note(f"and {more} more") if more else Markup("")
    problems = table(PROBLEM_COLUMNS, report.rows()) if report.problems else Markup("")
    return note(_summary(folder, report)) + thumbnails + rest + problems


def _summary(folder: Path, report: PhotoReport) -> str:
    usable = f"{folder}: {len(report.photos)} usable photos"
    errors, warnings = len(report.errors), len(report.warnings)
    if not report.problems:
        return f"{usable}, no problems"
    return f"{usable}, {errors} errors (fix these before training), {warnings} warnings"


def _thumbnail(path: Path) -> np.ndarray[Any, np.dtype[np.uint8]]:
    """The central square of a photo, scaled down."""
    pixels = read_pixels(path, background="white")
    height, width = pixels.shape[:2]
    side = min(height, width)
    top, left = (height - side) // 2, (width - side) // 2
    return enlarged(np.ascontiguousarray(pixels[top : top + side, left : left + side]), _SIDE)
