"""How a picture takes the size of the training: a view is a recorded crop and flip, not an act of chance.

Everything is resampled with Pillow's bicubic filter, which widens with the scale and so does not alias when a picture is made
smaller. It is the original's filter, so that `squash` gives the original's numbers, and it rings less than Lanczos.

Shapes: C colours, H and W height and width.
"""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from dreambooth.data.decoding import Pixels
from dreambooth.data.frames import View, box_at, central_view, fixed_view, slack
from dreambooth.data.records import Photo, Role
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

HELD_OUT_SCALE = Fraction(9, 10)
"""Side of the held-out view relative to the picture's shorter side."""


def all_training_views(photo: Photo, settings: ViewSettings, size: Size, seed: int, role: Role) -> tuple[View, ...]:
    """Every distinct view of a picture that training may use: each crop, with each flip that is not impossible."""
    flipped = _flip_probability(settings, role)
    flips = [flip for flip, share in ((False, 1 - flipped), (True, flipped)) if share > 0]
    if settings.crop == "random":
        indices = range(NUM_RANDOM_CROPS)
        views = [_random_crop(photo, size, seed, index=index, flip=flip) for index in indices for flip in flips]
    else:
        views = [fixed_view(photo, settings.crop, size, flip=flip) for flip in flips]
    return tuple(dict.fromkeys(views))


def draw_view(photo: Photo, settings: ViewSettings, size: Size, seed: int, role: Role, *key: Key) -> View:
    """One of `all_training_views`, chosen by the seed, the role and the key alone.

    The flip and the crop are drawn apart: changing the flip probability moves no crop.
    """
    flip = uniform(seed, "flip", role, *key) < _flip_probability(settings, role)
    if settings.crop == "random":
        index = uniform_integer(NUM_RANDOM_CROPS, seed, "crop", role, *key)
        return _random_crop(photo, size, seed, index=index, flip=flip)
    return fixed_view(photo, settings.crop, size, flip=flip)


def held_out_view(photo: Photo, size: Size) -> View:
    """A view that training never uses, the same in every run: the upper left nine tenths of the central box."""
    whole = central_view(photo, size)
    height, width = (min(side - 1, round(HELD_OUT_SCALE * side)) for side in (whole.height, whole.width))
    return replace(whole, height=height, width=width)


def _flip_probability(settings: ViewSettings, role: Role) -> float:
    if role == "prior" and settings.prior_flip_probability is not None:
        return settings.prior_flip_probability
    return settings.flip_probability


def _random_crop(photo: Photo, size: Size, seed: int, *, index: int, flip: bool) -> View:
    """Crop number `index` of the pool: uniform within its own share of what is cut off, so that the pool covers all of it."""
    num_offsets = slack(photo, size) + 1
    position = (index + uniform(seed, "crop position", photo.digest, index)) / NUM_RANDOM_CROPS
    return box_at(photo, size, offset=min(int(position * num_offsets), num_offsets - 1), flip=flip)


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
