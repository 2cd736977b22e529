"""Sizes of training images with the proportions of the photos: each photo is cropped to the nearest of a few sizes."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from dreambooth.data.records import Photo
from dreambooth.data.size import Size

__all__ = ["WIDEST", "Buckets", "bucket_sizes", "sizes_in_turn"]

WIDEST = 2
"""The longer side of a bucket relative to its shorter side, at most."""

_STEP = 8
"""Sides of buckets are multiples of this many latents, or of fewer for models that make small images."""


@dataclass(frozen=True)
class Buckets:
    """The sizes of a run: one square, or several sizes of at most its area."""

    square: Size
    others: tuple[Size, ...] = ()

    def of(self, photo: Photo) -> Size:
        """The size of a photo's views: the one whose proportions are nearest to its own."""
        return self.nearest(Size(photo.height, photo.width))

    def nearest(self, proportions: Size) -> Size:
        """The size whose proportions are nearest to the given ones."""
        if not self.others:
            return self.square
        own = math.log(proportions.width / proportions.height)
        return min((self.square, *self.others), key=lambda size: abs(math.log(size.width / size.height) - own))

    def count(self, photos: Iterable[Photo]) -> dict[Size, int]:
        """How many photos have each size, in the order in which sizes first appear."""
        counts: dict[Size, int] = {}
        for photo in photos:
            size = self.of(photo)
            counts[size] = counts.get(size, 0) + 1
        return counts


def bucket_sizes(side: int, downsampling: int) -> Buckets:
    """All buckets for the area of a square of `side` pixels: for each shorter side the largest longer one that fits."""
    step = downsampling * max(1, min(_STEP, side // (_STEP * downsampling)))
    others: dict[Size, None] = {}
    for short in range(side // step * step, 0, -step):
        long = min(side * side // short // step * step, WIDEST * short)
        others.update(dict.fromkeys((Size(short, long), Size(long, short))))
        if long == WIDEST * short:
            break
    others.pop(Size.square(side), None)
    return Buckets(Size.square(side), tuple(others))


def sizes_in_turn(counts: Mapping[Size, int], num: int) -> list[Size]:
    """`num` sizes in the proportions of `counts`; so is every beginning of them, as nearly as whole numbers allow."""
    total, given = sum(counts.values()), dict.fromkeys(counts, 0)
    sizes = []
    for place in range(1, num + 1):
        size = max(counts, key=lambda one: counts[one] * place - given[one] * total)
        given[size] += 1
        sizes.append(size)
    return sizes
