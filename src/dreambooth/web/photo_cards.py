"""Photos as cards: the picture with the square that training sees, its caption, and its problems."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from dreambooth.data.decoding import decode, flatten
from dreambooth.data.focus import cropped_around, with_focus
from dreambooth.data.frames import fixed_view
from dreambooth.data.listing import CAPTION_SUFFIXES, FolderListing, list_folder
from dreambooth.data.photos import MaskSource, PhotoReport, scan_photos
from dreambooth.data.problems import PhotoProblem
from dreambooth.data.records import Photo
from dreambooth.data.settings import Crop, ViewSettings
from dreambooth.data.size import Size
from dreambooth.pages.thumbnails import thumbnail
from dreambooth.web.projects import NoSuchError

__all__ = ["FRAMED", "PhotoReader", "other_problems", "photo_cards", "photo_id"]

_MOST_KEPT = 400  # thumbnails
_MOST_REPORTS = 20

FRAMED: tuple[Crop, ...] = ("center", "subject", "squash")
"""Crops that show one part of a photo in every step, so that a card can frame it."""


def photo_id(path: Path, folder: Path) -> str:
    """The name by which a browser names a photo: nothing of its path is in it."""
    return hashlib.sha256(path.relative_to(folder).as_posix().encode("utf-8", "surrogateescape")).hexdigest()[:16]


class PhotoReader:
    """Reports and thumbnails of photos, kept while their files do not change."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._reports: dict[tuple[object, ...], PhotoReport] = {}
        self._thumbnails: dict[tuple[object, ...], bytes] = {}

    def report(self, folder: Path, resolution: int, *, has_masks: bool = True, crop: str = "center") -> PhotoReport:
        """What the command line would say of a folder of photos, and of the masks beside them.

        With the crop `subject`, photos know where their subject is.
        """
        key = (folder, resolution, has_masks, crop == "subject", *_signature(folder))
        with self._lock:
            if key not in self._reports:
                if len(self._reports) >= _MOST_REPORTS:
                    self._reports.clear()
                self._reports[key] = _scanned(folder, resolution, has_masks=has_masks, is_around_subject=crop == "subject")
            return self._reports[key]

    def picture(self, folder: Path, name: str, side: int) -> bytes:
        """A photo by its id, made anew as a JPEG of at most `side` pixels. Raises NoSuchError or PhotoError."""
        path = self.path(folder, name)
        state = path.stat()
        key = (path, state.st_mtime_ns, state.st_size, side)
        if key not in self._thumbnails:
            made = thumbnail(flatten(decode(path.read_bytes()).pixels, "white"), side)
            if len(self._thumbnails) >= _MOST_KEPT:
                self._thumbnails.clear()
            self._thumbnails[key] = made
        return self._thumbnails[key]

    def path(self, folder: Path, name: str) -> Path:
        """The file of a photo by its id, found by looking through the folder. Raises NoSuchError when there is none."""
        for path in list_folder(folder).pictures:
            if photo_id(path, folder) == name and path.resolve().is_relative_to(folder.resolve()):
                return path
        raise NoSuchError("no such photo", hint="Use the id of a card, as the list of photos holds it.")


def _scanned(folder: Path, resolution: int, *, has_masks: bool, is_around_subject: bool) -> PhotoReport:
    views = ViewSettings(crop="subject") if is_around_subject else None
    masks = MaskSource() if has_masks else None
    report = scan_photos(folder, role="instance", resolution=resolution, masks=masks, views=views)
    if not is_around_subject:
        return report
    return replace(report, photos=with_focus(report.photos, report.clues, lambda _: ""))


def photo_cards(folder: Path, report: PhotoReport, *, caption: str, crop: str, resolution: int) -> list[dict[str, Any]]:
    """A card for each picture, broken ones too, in the order of their names; `caption` is that of photos without their own."""
    whole = {photo.path: photo for photo in report.photos}
    listing = list_folder(folder)
    by_picture = _by_picture(report.problems, listing)
    return [
        {
            **_card(path, folder, whole.get(path), by_picture.get(path, ())),
            **_frame(whole.get(path), crop, resolution),
            "cropped_around": cropped_around(whole[path]) if crop == "subject" and path in whole else None,
            "usual_caption": caption,
        }
        for path in listing.pictures
    ]


def other_problems(folder: Path, report: PhotoReport) -> list[dict[str, str]]:
    """The problems that belong to no card: of the folder itself, or of files that are no pictures."""
    at_cards = {id(one) for some in _by_picture(report.problems, list_folder(folder)).values() for one in some}
    others = [problem for problem in report.problems if id(problem) not in at_cards]
    return [
        {**told(one, folder), "file": "" if one.path == folder else one.path.relative_to(folder).as_posix()} for one in others
    ]


def _by_picture(problems: Sequence[PhotoProblem], listing: FolderListing) -> dict[Path, list[PhotoProblem]]:
    """The problems of each picture, of its caption file and of its mask."""
    owners = {path.with_suffix(suffix): path for path in listing.pictures for suffix in CAPTION_SUFFIXES}
    owners |= {mask: path for path, mask in listing.masks.items()}
    owners |= {path: path for path in listing.pictures}
    found: dict[Path, list[PhotoProblem]] = {}
    for problem in problems:
        if problem.path in owners:
            found.setdefault(owners[problem.path], []).append(problem)
    return found


def told(problem: PhotoProblem, folder: Path) -> dict[str, str]:
    """A problem in the command line's words, without the path of the folder."""
    message = problem.message.replace(f"{folder}/", "")
    return {"severity": problem.severity, "message": message, "advice": problem.advice}


def _frame(photo: Photo | None, crop: str, resolution: int) -> dict[str, Mapping[str, int] | None]:
    """What training sees of a photo, in its pixels: a frame, and that once more as a square where it is one."""
    known = next((one for one in FRAMED if one == crop), None)
    if photo is None or known is None:
        return {"frame": None, "square": None}
    view = fixed_view(photo, known, Size.square(resolution))
    frame = {"left": view.left, "top": view.top, "width": view.width, "height": view.height}
    is_square = view.width == view.height
    return {"frame": frame, "square": {"left": view.left, "top": view.top, "side": view.width} if is_square else None}


def _card(path: Path, folder: Path, photo: Photo | None, problems: Sequence[PhotoProblem]) -> dict[str, Any]:
    return {
        "id": photo_id(path, folder),
        "name": path.relative_to(folder).as_posix(),
        "width": None if photo is None else photo.width,
        "height": None if photo is None else photo.height,
        "has_mask": photo is not None and photo.mask is not None and photo.mask.path is not None,
        "caption": "" if photo is None else photo.caption or "",
        "problems": [told(problem, folder) for problem in problems],
    }


def _signature(folder: Path) -> list[tuple[str, int, int]]:
    """Names, times and sizes of all files: as long as they are the same, so is the report."""
    files = sorted(path for path in folder.rglob("*") if path.is_file()) if folder.is_dir() else []
    return [(str(path), path.stat().st_mtime_ns, path.stat().st_size) for path in files]
