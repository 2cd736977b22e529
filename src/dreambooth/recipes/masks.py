"""`dreambooth masks`: masks that a segmentation model proposes, written beside the photos and shown for correction."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from dreambooth.data.decoding import decode
from dreambooth.data.photos import MaskSource, PhotoReport, read_pixels, scan_photos
from dreambooth.data.pictures import check_apart
from dreambooth.data.reading import bytes_of
from dreambooth.data.records import Photo
from dreambooth.data.size import Size
from dreambooth.data.views import View
from dreambooth.display import Display, counted
from dreambooth.measures.segmenter import CLIPSEG, Segmenter, load_segmenter
from dreambooth.measures.settings import MasksSettings
from dreambooth.pages.images import save_picture
from dreambooth.pages.photo_check import CheckedPhoto, write_photo_sheet
from dreambooth.pages.thumbnails import picture_settings
from dreambooth.recipes.photos import drawn_view
from dreambooth.runtime.device import choose_device
from dreambooth.trainer.preflight_tables import show_warnings
from dreambooth.weights.hub import fetch_encoder
from dreambooth.weights.transformers_folder import transformers_folder

__all__ = ["MaskProposals", "propose_masks"]

_BACKGROUND = "white"
_OUTSIDE = 0.1
"""How bright the sheet shows what a mask leaves out."""


@dataclass(frozen=True)
class MaskProposals:
    """The masks that were written, the photos that already had one, those in which nothing was found, and the sheet."""

    written: tuple[Path, ...]
    kept: tuple[Path, ...]
    empty: tuple[Path, ...]
    sheets: tuple[Path, ...]


def propose_masks(settings: MasksSettings, display: Display) -> MaskProposals:
    """Write NAME-mask.png beside each photo NAME that has no mask, and a sheet of all masks.

    Masks made or corrected by hand are kept, and so are earlier proposals unless `again` is set. Raises PhotoError for photos
    that cannot be used, and ModelFileError for a model that cannot be.
    """
    check_apart(settings.output, settings.photos)
    report = _scanned(settings.photos)
    show_warnings(report.warnings, display)
    report.raise_if_errors()
    without = [photo for photo in report.photos if photo.mask is None or (settings.again and _is_proposal(photo.mask.path))]
    written, empty = list[Path](), list[Path]()
    if without:
        folder = transformers_folder(settings.segmenter, example=CLIPSEG, fetch=fetch_encoder)
        segmenter = load_segmenter(folder, device=choose_device(settings.device))
        with display.progress("finding the subject", len(without), "photos") as advance:
            for photo in without:
                mask = _write_mask(photo, segmenter, settings)
                (empty if mask is None else written).append(mask or photo.path)
                advance(1)
    for path in empty:
        display.warn(
            f"{path.name}: nothing in it looks like '{settings.class_word}'; try a lower --threshold, or draw its mask"
        )
    sheets = _write_sheet(settings)
    handled = {photo.path for photo in without}
    kept = tuple(photo.path for photo in report.photos if photo.path not in handled)
    display.say(
        f"{counted(len(written), 'mask')} written, {len(kept)} kept: {', '.join(map(str, sheets))}. White is the subject: "
        "correct a mask in any image editor, and it is kept from then on"
    )
    return MaskProposals(tuple(written), kept, tuple(empty), sheets)


def _scanned(folder: Path) -> PhotoReport:
    return scan_photos(folder, role="instance", resolution=1, masks=MaskSource())


def _write_mask(photo: Photo, segmenter: Segmenter, settings: MasksSettings) -> Path | None:
    """The file of a photo's mask; None if the model finds nothing. Other files of that name are never replaced."""
    pixels = read_pixels(photo.path, background=_BACKGROUND)
    is_subject_HW = segmenter.probabilities(pixels, settings.class_word) >= settings.threshold
    path = photo.path.with_name(f"{photo.path.stem}-mask.png")
    if not is_subject_HW.any() or (path.exists() and not _is_proposal(path)):
        return None
    mask_CHW = is_subject_HW.float().expand(3, -1, -1)
    seal = _digest(bytes((is_subject_HW.to(torch.uint8) * 255).numpy().tobytes()))
    save_picture(path, mask_CHW, {"dreambooth": json.dumps({"mask": "proposed", "pixels": seal})})
    return path


def _is_proposal(path: Path | None) -> bool:
    """Whether a mask is one of ours as it was written: an editor that keeps our mark still changes the pixels."""
    if path is None or (sealed := picture_settings(path).get("pixels")) is None:
        return False
    return bool(_digest(decode(bytes_of(path)).pixels[:, :, 0].tobytes()) == sealed)


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def _write_sheet(settings: MasksSettings) -> tuple[Path, ...]:
    """Each photo beside what its mask leaves of it."""
    photos = list(_shown([photo for photo in _scanned(settings.photos).photos if photo.mask is not None]))
    return write_photo_sheet(settings.output / "masks.png", photos) if photos else ()


def _shown(photos: Sequence[Photo]) -> Iterator[CheckedPhoto]:
    for photo in photos:
        pixels = read_pixels(photo.path, background=_BACKGROUND)
        whole = View(Size(photo.height, photo.width), top=0, left=0, height=photo.height, width=photo.width, flip=False)
        plain = drawn_view(pixels, replace(photo, mask=None), whole, _OUTSIDE)
        kind = "proposed" if photo.mask is not None and _is_proposal(photo.mask.path) else "made by hand"
        yield CheckedPhoto(photo.path.name, (kind,), (plain, drawn_view(pixels, photo, whole, _OUTSIDE)))
