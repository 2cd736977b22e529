"""Which part of a picture a view shows, where nothing is drawn by chance. Loads no torch: the browser interface shows it."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction

from dreambooth.data.records import Photo, SubjectBox
from dreambooth.data.settings import Crop
from dreambooth.data.size import Size

__all__ = ["View", "box_at", "central_view", "fixed_view", "slack"]

_MARGIN = Fraction(5, 4)
"""Side of the box around the subject, relative to the subject's own."""

_FACE_MARGIN = Fraction(5, 2)
"""Side of the box around a face relative to the face's own: it shows hair, neck and shoulders."""

_LEAST_OF_SALIENT = Fraction(4, 5)
"""Side of the box around what stands out, at least, relative to the largest one: it may be only a part of the subject."""


@dataclass(frozen=True)
class View:
    """A box in the pixels of the upright picture, resized to `size` and perhaps mirrored."""

    size: Size
    top: int
    left: int
    height: int
    width: int
    flip: bool


def central_view(photo: Photo, size: Size, *, flip: bool = False) -> View:
    """The largest box of the size's proportions in the middle of a photo."""
    return box_at(photo, size, offset=slack(photo, size) // 2, flip=flip)


def fixed_view(photo: Photo, crop: Crop, size: Size, *, flip: bool = False) -> View:
    """The view of a crop that is not random: what it cuts out is the same in every step."""
    if crop == "squash":
        return View(size, top=0, left=0, height=photo.height, width=photo.width, flip=flip)
    if crop == "subject" and photo.subject_box is not None:
        return _around(photo.subject_box, photo, size, flip=flip)
    return central_view(photo, size, flip=flip)


def _around(subject: SubjectBox, photo: Photo, size: Size, *, flip: bool) -> View:
    """The smallest box of the size's proportions around the subject and a margin, within the photo.

    It has at least as many pixels as the view, so a small subject is not enlarged, if the photo is large enough.
    """
    largest = _largest_box(photo, size)
    source = "mask" if photo.focus is None else photo.focus.source
    margin = float(_FACE_MARGIN if source == "face" else _MARGIN)
    least = float(_LEAST_OF_SALIENT) if source == "saliency" else 0.0
    share = max(
        margin * max(subject.height / largest.height, subject.width / largest.width), size.height / largest.height, least
    )
    height, width = (max(1, round(min(1.0, share) * side)) for side in (largest.height, largest.width))
    top = min(max(0, round(subject.top + (subject.height - height) / 2)), photo.height - height)
    left = min(max(0, round(subject.left + (subject.width - width) / 2)), photo.width - width)
    return View(size, top=top, left=left, height=height, width=width, flip=flip)


def box_at(photo: Photo, size: Size, *, offset: int, flip: bool) -> View:
    """The largest box of the size's proportions, `offset` pixels from the beginning of the side that it does not fill."""
    box = _largest_box(photo, size)
    top, left = (offset, 0) if photo.height > box.height else (0, offset)
    return View(size, top=top, left=left, height=box.height, width=box.width, flip=flip)


def slack(photo: Photo, size: Size) -> int:
    """Pixels by which the largest box of the size's proportions may move."""
    box = _largest_box(photo, size)
    return photo.height - box.height + photo.width - box.width


def _largest_box(photo: Photo, size: Size) -> Size:
    """The largest box of the size's proportions in a picture; it fills one side at least."""
    if photo.width * size.height >= photo.height * size.width:
        return Size(photo.height, max(1, round(Fraction(photo.height * size.width, size.height))))
    return Size(max(1, round(Fraction(photo.width * size.height, size.width))), photo.width)
