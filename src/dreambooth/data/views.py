"""How a picture takes the size of the training: a view is a recorded crop and flip, not an act of chance.

Everything is resampled with Pillow's bicubic filter, which widens with the scale and so does not alias when a picture is made
smaller. It is the original's filter, so that `squash` gives the original's numbers, and it rings less than Lanczos.

Shapes: C colours, H and W height and width.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from fractions import Fraction

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from dreambooth.data.decoding import Pixels
from dreambooth.data.records import Photo, Role, SubjectBox
from dreambooth.data.settings import ViewSettings
from dreambooth.data.size import Size
from dreambooth.diffusion.randomness import Key, uniform, uniform_integer

__all__ = [
    "HELD_OUT_SCALE",
    "NUM_RANDOM_CROPS",
    "View",
    "all_training_views",
    "central_view",
    "draw_view",
    "held_out_view",
    "render_view",
]

NUM_RANDOM_CROPS = 8
"""Random crops come from a fixed pool of this size for each image: every distinct view is encoded once and kept."""

_MARGIN = Fraction(5, 4)
"""Side of the box around the subject, relative to the subject's own."""

_FACE_MARGIN = Fraction(5, 2)
"""Side of the box around a face relative to the face's own: it shows hair, neck and shoulders."""

_LEAST_OF_SALIENT = Fraction(4, 5)
"""Side of the box around what stands out, at least, relative to the largest one: it may be only a part of the subject."""

HELD_OUT_SCALE = Fraction(9, 10)
"""Side of the held-out view relative to the picture's shorter side."""


@dataclass(frozen=True)
class View:
    """A box in the pixels of the upright picture, resized to `size` and perhaps mirrored."""

    size: Size
    top: int
    left: int
    height: int
    width: int
    flip: bool


def all_training_views(photo: Photo, settings: ViewSettings, size: Size, seed: int, role: Role) -> tuple[View, ...]:
    """Every distinct view of a picture that training may use: each crop, with each flip that is not impossible."""
    flipped = _flip_probability(settings, role)
    flips = [flip for flip, share in ((False, 1 - flipped), (True, flipped)) if share > 0]
    if settings.crop == "random":
        indices = range(NUM_RANDOM_CROPS)
        views = [_random_crop(photo, size, seed, index=index, flip=flip) for index in indices for flip in flips]
    else:
        views = [_only_crop(photo, settings, size, flip=flip) for flip in flips]
    return tuple(dict.fromkeys(views))


def draw_view(photo: Photo, settings: ViewSettings, size: Size, seed: int, role: Role, *key: Key) -> View:
    """One of `all_training_views`, chosen by the seed, the role and the key alone.

    The flip and the crop are drawn apart: changing the flip probability moves no crop.
    """
    flip = uniform(seed, "flip", role, *key) < _flip_probability(settings, role)
    if settings.crop == "random":
        index = uniform_integer(NUM_RANDOM_CROPS, seed, "crop", role, *key)
        return _random_crop(photo, size, seed, index=index, flip=flip)
    return _only_crop(photo, settings, size, flip=flip)


def central_view(photo: Photo, size: Size, *, flip: bool = False) -> View:
    """The largest box of the size's proportions in the middle of a photo."""
    return _crop(photo, size, offset=_slack(photo, size) // 2, flip=flip)


def held_out_view(photo: Photo, size: Size) -> View:
    """A view that training never uses, the same in every run: the upper left nine tenths of the central box."""
    whole = central_view(photo, size)
    height, width = (min(side - 1, round(HELD_OUT_SCALE * side)) for side in (whole.height, whole.width))
    return replace(whole, height=height, width=width)


def _flip_probability(settings: ViewSettings, role: Role) -> float:
    if role == "prior" and settings.prior_flip_probability is not None:
        return settings.prior_flip_probability
    return settings.flip_probability


def _only_crop(photo: Photo, settings: ViewSettings, size: Size, *, flip: bool) -> View:
    if settings.crop == "squash":
        return View(size, top=0, left=0, height=photo.height, width=photo.width, flip=flip)
    if settings.crop == "subject" and photo.subject_box is not None:
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


def _random_crop(photo: Photo, size: Size, seed: int, *, index: int, flip: bool) -> View:
    """Crop number `index` of the pool: uniform within its own share of what is cut off, so that the pool covers all of it."""
    num_offsets = _slack(photo, size) + 1
    position = (index + uniform(seed, "crop position", photo.digest, index)) / NUM_RANDOM_CROPS
    return _crop(photo, size, offset=min(int(position * num_offsets), num_offsets - 1), flip=flip)


def _crop(photo: Photo, size: Size, *, offset: int, flip: bool) -> View:
    """The largest box of the size's proportions, `offset` pixels from the beginning of the side that it does not fill."""
    box = _largest_box(photo, size)
    top, left = (offset, 0) if photo.height > box.height else (0, offset)
    return View(size, top=top, left=left, height=box.height, width=box.width, flip=flip)


def _slack(photo: Photo, size: Size) -> int:
    """Pixels by which the largest box of the size's proportions may move."""
    box = _largest_box(photo, size)
    return photo.height - box.height + photo.width - box.width


def _largest_box(photo: Photo, size: Size) -> Size:
    """The largest box of the size's proportions in a picture; it fills one side at least."""
    if photo.width * size.height >= photo.height * size.width:
        return Size(photo.height, max(1, round(Fraction(photo.height * size.width, size.height))))
    return Size(max(1, round(Fraction(photo.width * size.height, size.width))), photo.width)


def render_view(pixels: Pixels, view: View) -> Tensor:
    """The view of pixels (H, W, 3), uint8, as a tensor (3, H, W) of the view's size, float32 in [-1, 1].

    The arithmetic is the original's: resize to bytes, mirror, x / 127.5 - 1 in double precision.
    """
    box = (view.left, view.top, view.left + view.width, view.top + view.height)
    size = (view.size.width, view.size.height)
    resized = np.asarray(Image.fromarray(pixels).resize(size, Image.Resampling.BICUBIC, box=box))
    if view.flip:
        resized = resized[:, ::-1]
    return torch.from_numpy((resized / 127.5 - 1.0).astype(np.float32).transpose(2, 0, 1).copy())
