"""Large images pass through the autoencoder in tiles that overlap, so that its activations do not grow with the image."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

__all__ = ["LARGEST_WHOLE", "TILE", "tiled_if_large"]

LARGEST_WHOLE = 3 * 2**19
"""Pixels of the largest image that is encoded or decoded whole: one and a half times 1024 x 1024."""

TILE = 1024
"""Side of a tile in pixels; neighbors overlap by a quarter and are blended."""


@contextmanager
def tiled_if_large(autoencoder: Any, *, height: int, width: int, downsampling: int) -> Iterator[None]:
    """Inside, diffusers' `autoencoder` works in tiles if an image of this size in pixels is large."""
    names = ("use_tiling", "tile_sample_min_size", "tile_latent_min_size")
    before = {name: getattr(autoencoder, name) for name in names}
    inside = dict(zip(names, (height * width > LARGEST_WHOLE, TILE, TILE // downsampling), strict=True))
    try:
        for name, value in inside.items():
            setattr(autoencoder, name, value)
        yield
    finally:
        for name, value in before.items():
            setattr(autoencoder, name, value)
