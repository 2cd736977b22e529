"""The photos of the subject as they are compared with generated pictures."""

from __future__ import annotations

from collections.abc import Iterable

from torch import Tensor

from dreambooth.data.photos import read_pixels
from dreambooth.data.records import Photo
from dreambooth.data.size import Size
from dreambooth.data.views import View, render_view

__all__ = ["photo_squares"]


def photo_squares(photos: Iterable[Photo], *, background: str, side: int) -> list[Tensor]:
    """The largest square in the middle of each photo, (3, side, side) in [0, 1]."""
    return [(render_view(read_pixels(one.path, background=background), _middle(one, side)) + 1) / 2 for one in photos]


def _middle(photo: Photo, side: int) -> View:
    square = min(photo.width, photo.height)
    top, left = (photo.height - square) // 2, (photo.width - square) // 2
    return View(Size.square(side), top=top, left=left, height=square, width=square, flip=False)
