"""From the bytes of a picture file to upright 8-bit pixels, whatever the file's mode.

The only place that knows Pillow's modes, orientation tags and errors.
"""

from __future__ import annotations

import io
import math
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageColor, ImageOps, UnidentifiedImageError

from dreambooth.data.color_profiles import in_srgb
from dreambooth.data.png_chunks import without_texts
from dreambooth.errors import PhotoError

__all__ = ["SIGNATURE_BYTES", "DecodedPicture", "Pixels", "decode", "flatten", "signature"]

Pixels = NDArray[np.uint8]

SIGNATURE_BYTES = 16
"""How many of a file's first bytes `signature` wants."""

_FORMATS = ("JPEG", "MPO", "PNG", "WEBP", "GIF", "BMP", "TIFF", "PPM", "JPEG2000", "AVIF", "HEIF")
_MOST_TIMES_LARGER = 4  # than what Pillow opens without a warning, 89 megapixels; larger ones would fill the memory
_UNREADABLE = {"HEIC": "HEIC", "AVIF": "AVIF", "JXL": "JPEG XL"}  # AVIF only where Pillow was built without it
_PACKAGES = {"HEIC": "pillow-heif", "AVIF": "--upgrade pillow"}

_SIGNATURES = (
    (b"\xff\xd8\xff", "JPEG"),
    (b"\x89PNG\r\n\x1a\n", "PNG"),
    (b"GIF8", "GIF"),
    (b"II*\0", "TIFF"),
    (b"MM\0*", "TIFF"),
    (b"\0\0\0\x0cjP  ", "JPEG2000"),
    (b"\0\0\0\x0cJXL ", "JXL"),
    (b"\xff\x0a", "JXL"),
)
_BRANDS = {b"avif": "AVIF", b"avis": "AVIF"} | dict.fromkeys(
    (b"heic", b"heix", b"hevc", b"hevx", b"heim", b"heis", b"mif1", b"msf1"), "HEIC"
)


@dataclass(frozen=True)
class DecodedPicture:
    """The first frame of a picture: pixels (H, W, 3), or (H, W, 4) with alpha last, and how many frames the file has."""

    pixels: Pixels
    num_frames: int


def signature(head: bytes) -> str | None:
    """The picture format whose signature opens a file with these first bytes, or None."""
    if head[4:8] == b"ftyp":
        return _BRANDS.get(head[8:12])
    if head[:4] == b"RIFF" and head[8:12] == b"WEBP":
        return "WEBP"
    return next((name for start, name in _SIGNATURES if head.startswith(start)), None)


def decode(data: bytes) -> DecodedPicture:
    """Decode a whole file: the first frame, turned upright by its orientation tag, in sRGB, 8 bits a channel, alpha kept.

    16-bit grey is scaled to 8 bits, not clipped. More than 89 megapixels are decoded at half the width and height. Raises
    PhotoError for everything that cannot be decoded to the last pixel: `problems` is what is wrong without the file's name,
    `hint` what to do.
    """
    if not data:
        raise PhotoError("is empty (0 bytes)", hint="Copy it again from the source, or remove it.")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Pillow's remarks about odd metadata are no use to anybody here
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        try:
            with _larger_limit():
                return _decode(data)
        except PhotoError:
            raise
        except (Image.DecompressionBombWarning, Image.DecompressionBombError) as error:
            limit = _MOST_TIMES_LARGER * (Image.MAX_IMAGE_PIXELS or 0) // 1_000_000
            raise PhotoError(
                f"has more than {limit} megapixels",
                hint="Downscale it: 4096 pixels per side are more than any training size needs.",
            ) from error
        except UnidentifiedImageError as error:
            raise _unidentified(data) from error
        except Exception as error:  # a damaged file can make a decoder raise almost anything
            reason = str(error) or type(error).__name__
            raise PhotoError(
                f"cannot be decoded completely: {reason}", hint="The file is damaged: copy it again, or remove it."
            ) from error


@contextmanager
def _larger_limit() -> Iterator[None]:
    """Inside, Pillow opens larger pictures: they are decoded smaller."""
    usual = Image.MAX_IMAGE_PIXELS
    Image.MAX_IMAGE_PIXELS = None if usual is None else _MOST_TIMES_LARGER * usual
    try:
        yield
    finally:
        Image.MAX_IMAGE_PIXELS = usual


def _unidentified(data: bytes) -> PhotoError:
    form = signature(data[:SIGNATURE_BYTES])
    if form in _UNREADABLE and not _can_read(form):
        convert = "onvert it to JPEG or PNG (on an iPhone: Settings, Camera, Formats, Most Compatible)."
        return PhotoError(
            f"is in the {_UNREADABLE[form]} format, which is not supported",
            hint=f"C{convert}" if form == "JXL" else f"Type: pip install {_PACKAGES[form]}, or c{convert}",
        )
    if form == "TIFF":
        return PhotoError(
            "is a kind of TIFF that is not supported, such as floating-point RGB, or its header is damaged",
            hint="Save it as an ordinary JPEG or PNG.",
        )
    if form in _UNREADABLE:
        return PhotoError(f"is a damaged {_UNREADABLE[form]} file", hint="Copy it again, or remove it.")
    return PhotoError("is not an image, or its header is damaged", hint="Copy it again, or remove it.")


def _decode(data: bytes) -> DecodedPicture:
    Image.init()
    if signature(data[:SIGNATURE_BYTES]) == "HEIC":
        _add_heic()
    formats = [name for name in _FORMATS if name in Image.OPEN]
    with Image.open(io.BytesIO(without_texts(data)), formats=formats) as image:
        # Phones keep a depth or brightness map as a further "frame" of an MPO or HEIC; that is no animation.
        num_frames = 1 if image.format in ("MPO", "HEIF") else int(getattr(image, "n_frames", 1))
        width, height = image.size
        is_large = width * height * _MOST_TIMES_LARGER > (Image.MAX_IMAGE_PIXELS or math.inf)
        if is_large:
            image.draft(None, (width // 2, height // 2))  # a JPEG is not even unpacked whole
        is_still_large = is_large and image.size == (width, height)
        image.load()
        turned = _eight_bit(_upright(image))  # after load(), which turns TIFF pictures by itself
        if is_still_large:
            turned = turned.reduce(2)
        return DecodedPicture(np.array(turned), num_frames)


def _can_read(form: str) -> bool:
    plugin = "HEIF" if form == "HEIC" else form
    return plugin in _FORMATS and plugin in Image.OPEN


def _add_heic() -> None:
    """Let Pillow read HEIC, where the package for that is installed."""
    try:
        import pillow_heif
    except ImportError:
        return
    pillow_heif.register_heif_opener()


def _upright(image: Image.Image) -> Image.Image:
    try:
        return ImageOps.exif_transpose(image)
    except Exception:  # damaged metadata around a whole picture: it stays as it lies
        return image


def _eight_bit(image: Image.Image) -> Image.Image:
    """The picture in mode RGB, or RGBA when anything of it can be seen through."""
    if image.mode == "I" or image.mode.startswith("I;16"):
        grey = np.asarray(image).astype(np.int64)
        if grey.min() < 0 or grey.max() > 65535:
            raise _unclear_range(image.mode)
        eight = Image.fromarray(((grey * 255 + 32767) // 65535).astype(np.uint8))
        eight.info = image.info
        image = eight
    if image.mode == "F":
        raise _unclear_range(image.mode)
    image = in_srgb(image)
    return image.convert("RGBA" if image.has_transparency_data else "RGB")


def _unclear_range(mode: str) -> PhotoError:
    return PhotoError(
        f"contains 32-bit values (mode {mode}) of unknown range",
        hint="Save it as an ordinary JPEG or PNG.",
    )


def flatten(pixels: Pixels, background: str) -> Pixels:
    """Pixels (H, W, 3): those given, laid on the colour `background` where they can be seen through."""
    if pixels.shape[2] == 3:
        return pixels
    picture = Image.fromarray(pixels)
    ground = Image.new("RGBA", picture.size, ImageColor.getrgb(background))
    return np.array(Image.alpha_composite(ground, picture).convert("RGB"))
