"""Small copies of pictures as JPEG bytes, and the settings that a picture of ours carries. Loads no torch."""

from __future__ import annotations

import io
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

__all__ = ["gray_png", "paint_png", "picture_settings", "thumbnail"]

_QUALITY = 85


def thumbnail(pixels_HWC: NDArray[np.uint8], side: int) -> bytes:
    """Pixels (H, W, 3), uint8, as a JPEG of at most `side` pixels, without any metadata of the original."""
    picture = Image.fromarray(pixels_HWC)
    picture.thumbnail((side, side), Image.Resampling.BICUBIC)
    buffer = io.BytesIO()
    picture.save(buffer, format="JPEG", quality=_QUALITY)
    return buffer.getvalue()


def gray_png(shown_HW: NDArray[np.uint8]) -> bytes:
    """Brightness (H, W), uint8, as a PNG."""
    return _png(Image.fromarray(shown_HW))


def paint_png(shown_HW: NDArray[np.uint8], *, white: bool, opacity: float, size: tuple[int, int]) -> bytes:
    """A PNG of one color, white or black, of `size` (width, height), as opaque as `shown_HW` (H, W) is bright."""
    alpha = Image.fromarray(shown_HW).resize(size, Image.Resampling.BILINEAR).point(lambda value: round(value * opacity))
    picture = Image.new("LA", size, (255 if white else 0, 0))
    picture.putalpha(alpha)
    return _png(picture)


def _png(picture: Image.Image) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, format="PNG")
    return buffer.getvalue()


def picture_settings(path: Path) -> Mapping[str, Any]:
    """How a PNG of ours was made, as it says itself; empty for any other file."""
    try:
        with Image.open(path, formats=["PNG"]) as picture:
            settings = json.loads(picture.text.get("dreambooth", "{}"))  # type: ignore[attr-defined]
    except (OSError, ValueError, SyntaxError, AttributeError):
        return {}
    return settings if isinstance(settings, dict) else {}
