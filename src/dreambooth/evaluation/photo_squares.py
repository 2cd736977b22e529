"""The photos of the subject in the form in which they are compared with generated images."""

from __future__ import annotations

from collections.abc import Iterable

from torch import Tensor

from dreambooth.data.photos import read_pixels
from dreambooth.data.records import Photo
from dreambooth.data.size import Size
from dreambooth.data.views import central_view, render_view

__all__ = ["photo_squares"]


def photo_squares(photos: Iterable[Photo], *, background: str, side: int) -> list[Tensor]:
    """The largest central square of each photo, (3, side, side) in [0, 1]."""
    size = Size.square(side)
    pixels = ((read_pixels(photo.path, background=background), central_view(photo, size)) for photo in photos)
    return [(render_view(image, view) + 1) / 2 for image, view in pixels]
