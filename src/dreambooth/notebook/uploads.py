"""Photos from a person's own machine: chosen in the browser, written into a folder, looked at."""

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

__all__ = ["ask_for_photos", "photo_report", "safe_name", "save_uploads"]

_SIDE = 128
_MOST_THUMBNAILS = 24
_SIGNS = 6
_LONGEST_STEM = 80


def ask_for_photos(folder: str | Path, *, resolution: int = 512) -> None:
    """Show a button that uploads photos into `folder`, and below it what the folder holds and what is wrong with it.

    Captions of your own are .txt files of the same names, uploaded in the same way. Without the widgets the folder is shown
    as it is.
    """
    place = Path(folder)
    place.mkdir(parents=True, exist_ok=True)
    widgets = find_widgets()
    if widgets is None:
        show(photo_report(place, resolution=resolution))
        return
    button = widgets.FileUpload(multiple=True, accept="image/*,.txt", description="Upload photos")
    show(button)
    area = Area(photo_report(place, resolution=resolution))

    def take(change: Mapping[str, Any]) -> None:
        if change["new"]:
            save_uploads(change["new"], place)
            # Photos that stay in the button would be kept in memory, and saved with the notebook.
            button.value = type(button.value)()
            area.update(photo_report(place, resolution=resolution))

    button.observe(take, names="value")


def save_uploads(files: Sequence[Mapping[str, Any]] | Mapping[str, Mapping[str, Any]], folder: Path) -> list[Path]:
    """Write what a FileUpload holds into `folder`; the paths.

    It holds records with `name` and `content`, or, in the older widgets that Colab has, records with `content` by name. A file
    of the same name is replaced: uploading the same photos again changes nothing. Names that had to be changed say so by a
    few signs of their own at the end, so that two of them never meet; a caption's ends like its photo's.
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
    """A file name that stays in its folder, is not hidden, and can be typed: no folders, no blanks, no control characters."""
    last = unicodedata.normalize("NFC", re.split(r"[/\\]", name)[-1])
    stem, dot, suffix = last.rpartition(".")
    if not dot or not stem.strip("."):
        stem, suffix = last, ""
    safe = re.sub(r"[^\w.-]+", "-", stem).strip(".-")[:_LONGEST_STEM] or "file"
    if safe != stem:
        safe += f"-{hashlib.sha256(stem.encode()).hexdigest()[:_SIGNS]}"
    stem, suffix = safe, re.sub(r"\W", "", suffix).lower()
    return f"{stem}.{suffix}" if suffix else stem


def photo_report(folder: Path, *, resolution: int) -> str:
    """The photos of a folder, small, and the table of problems that the command line would show."""
    report = scan_photos(folder, role="instance", resolution=resolution)
    shown = report.photos[:_MOST_THUMBNAILS]
    thumbnails = "".join(
        captioned(picture(_thumbnail(photo.path)), f"{photo.path.name} {photo.width} x {photo.height}", width=_SIDE)
        for photo in shown
    )
    more = len(report.photos) - len(shown)
    rest = note(f"and {more} more") if more else ""
    problems = table(PROBLEM_COLUMNS, report.rows()) if report.problems else ""
    return note(_summary(folder, report)) + thumbnails + rest + problems


def _summary(folder: Path, report: PhotoReport) -> str:
    found = f"{folder}: {len(report.photos)} photos that can be used"
    errors, warnings = len(report.errors), len(report.warnings)
    if not report.problems:
        return f"{found}, no problems"
    return f"{found}, {errors} errors (training will not start with them), {warnings} warnings"


def _thumbnail(path: Path) -> np.ndarray[Any, np.dtype[np.uint8]]:
    """The middle square of a photo, small."""
    pixels = read_pixels(path, background="white")
    height, width = pixels.shape[:2]
    side = min(height, width)
    top, left = (height - side) // 2, (width - side) // 2
    return enlarged(np.ascontiguousarray(pixels[top : top + side, left : left + side]), _SIDE)
