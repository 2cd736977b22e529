"""Colors as their ICC profile means them, in sRGB, which is what models learned from.

Phones save photos in Display P3 and cameras in Adobe RGB: without the conversion their colors are too dull.
"""

from __future__ import annotations

import io
from functools import cache

import numpy as np
from PIL import Image, ImageCms

__all__ = ["in_srgb"]

_MODES = {"RGB": "RGB", "GRAY": "L", "CMYK": "CMYK"}
"""The color space of a profile to the mode of the pixels that it describes."""

_LEVELS = np.linspace(0, 255, 9).astype(np.uint8)
_SAME = 2
"""A profile that changes no color by more levels than this is sRGB by another name; such pixels stay as they are."""


def in_srgb(image: Image.Image) -> Image.Image:
    """The image in sRGB, with its alpha; as it is when it has no profile, a damaged one, or one of another kind of pixels."""
    data = image.info.get("icc_profile")
    if not isinstance(data, bytes) or not data:
        return image
    if image.mode in ("YCbCr", "RGBX"):
        image = image.convert("RGB")
    elif image.mode == "P" or (image.has_transparency_data and image.mode not in ("RGBA", "LA")):
        image = image.convert("RGBA" if image.has_transparency_data else "RGB")
    alpha = image.getchannel("A") if image.mode in ("RGBA", "LA") else None
    colors = image if alpha is None else image.convert(image.mode[:-1])
    try:
        profile = ImageCms.ImageCmsProfile(io.BytesIO(data))
        if _MODES.get(profile.profile.xcolor_space.strip()) != colors.mode or _is_srgb(data, colors.mode):
            return image
        intent = ImageCms.Intent.RELATIVE_COLORIMETRIC
        converted = ImageCms.profileToProfile(colors, profile, _srgb(), renderingIntent=intent, outputMode="RGB")
    except (ImageCms.PyCMSError, OSError, TypeError, ValueError):
        return image
    assert converted is not None, "not in place"
    if alpha is not None:
        converted.putalpha(alpha)
    return converted


@cache
def _srgb() -> ImageCms.ImageCmsProfile:
    return ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB"))


@cache
def _is_srgb(data: bytes, mode: str) -> bool:
    """Whether the profile leaves RGB colors as they are; tried on a grid of them, since its name may be anything."""
    if mode != "RGB":
        return False
    grid = np.stack(np.meshgrid(_LEVELS, _LEVELS, _LEVELS), axis=-1).reshape(1, -1, 3)
    intent, profile = ImageCms.Intent.RELATIVE_COLORIMETRIC, ImageCms.ImageCmsProfile(io.BytesIO(data))
    converted = ImageCms.profileToProfile(Image.fromarray(grid), profile, _srgb(), renderingIntent=intent, outputMode="RGB")
    return bool((np.abs(np.asarray(converted, dtype=np.int16) - grid) <= _SAME).all())
