"""Photos with a color profile look in training as they look on a screen."""

from __future__ import annotations

import io
import struct

import numpy as np
import PIL
import pillow_heif
import pytest
from PIL import Image, ImageCms

from dreambooth.data.color_profiles import in_srgb
from dreambooth.data.decoding import decode

# Red, green and blue of Display P3 and of sRGB, as XYZ under the light of profiles (D50).
P3 = np.array([[0.51512, 0.24120, -0.00105], [0.29198, 0.69225, 0.04189], [0.15710, 0.06657, 0.78407]])
SRGB = np.array([[0.43607, 0.22249, 0.01392], [0.38515, 0.71687, 0.09708], [0.14307, 0.06061, 0.71410]])


def profile(primaries: np.ndarray, *, space: bytes = b"RGB ", gamma: float = 2.2) -> bytes:
    """An ICC profile (version 2) of a screen, or with `space` GRAY of a grey one."""

    def fixed(*numbers: float) -> bytes:
        return b"".join(struct.pack(">i", round(number * 65536)) for number in numbers)

    curve = b"curv\0\0\0\0" + struct.pack(">IHxx", 1, round(gamma * 256))
    tags = {b"wtpt": b"XYZ \0\0\0\0" + fixed(0.9642, 1.0, 0.8249), b"desc": b"desc\0\0\0\0\0\0\0\2a\0" + bytes(78)}
    if space == b"GRAY":
        tags[b"kTRC"] = curve
    else:
        for letter, primary in zip((b"r", b"g", b"b"), primaries, strict=True):
            tags[letter + b"XYZ"] = b"XYZ \0\0\0\0" + fixed(*primary)
            tags[letter + b"TRC"] = curve
    place, table, data = 128 + 4 + 12 * len(tags), b"", b""
    for name, value in tags.items():
        table += name + struct.pack(">II", place + len(data), len(value))
        data += value + bytes(-len(value) % 4)
    head = struct.pack(">I4sI4s4s4s", place + len(data), b"lcms", 0x02100000, b"mntr", space, b"XYZ ")
    head += bytes(12) + b"acsp" + bytes(28) + fixed(0.9642, 1.0, 0.8249)
    return head.ljust(128, b"\0") + struct.pack(">I", len(tags)) + table + data


def shown(color: tuple[int, ...], primaries: np.ndarray, gamma: float = 2.2) -> list[int]:
    """The sRGB levels that look like a color of a screen."""
    linear = (np.array(color) / 255) ** gamma @ primaries @ np.linalg.inv(SRGB)
    linear = linear.clip(0, 1)
    encoded = np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)
    return [round(float(level) * 255) for level in encoded]


def decoded(image: Image.Image, form: str, icc: bytes) -> np.ndarray:
    buffer = io.BytesIO()
    image.save(buffer, form, icc_profile=icc, **({"quality": 100, "subsampling": 0} if form == "JPEG" else {}))
    return decode(buffer.getvalue()).pixels


@pytest.mark.parametrize("form", ["PNG", "JPEG", "TIFF", "WEBP"])
@pytest.mark.parametrize("color", [(200, 60, 40), (90, 180, 80), (128, 128, 128)])
def test_wide_colors_become_those_of_a_screen(form: str, color: tuple[int, int, int]) -> None:
    pixels = decoded(Image.new("RGB", (16, 16), color), form, profile(P3))
    expected = shown(color, P3)
    assert np.abs(pixels[8, 8].astype(int) - expected).max() <= 3
    assert color == (128, 128, 128) or np.abs(np.array(expected) - color).max() > 8  # else this would show nothing


@pytest.mark.parametrize("mode", ["RGBA", "P"])
def test_other_modes_of_colors_and_their_alpha(mode: str) -> None:
    image = Image.new("RGBA", (16, 16), (200, 60, 40, 255))
    image.paste((200, 60, 40, 0), (0, 0, 8, 16))
    pixels = decoded(image if mode == "RGBA" else image.quantize(4), "PNG", profile(P3))
    assert pixels.shape == (16, 16, 4) and pixels[8, 2, 3] == 0 and pixels[8, 12, 3] == 255
    assert np.abs(pixels[8, 12, :3].astype(int) - shown((200, 60, 40), P3)).max() <= 3


@pytest.mark.skipif(PIL.__version__ < "13", reason="Pillow 12 cannot read the TIFF in YCbCr that it writes")
def test_a_tiff_that_stores_brightness_and_two_colors() -> None:
    image = Image.new("RGB", (16, 16), (180, 80, 90)).convert("YCbCr")
    pixels = decoded(image, "TIFF", profile(P3))
    assert np.abs(pixels[8, 8].astype(int) - shown((180, 80, 90), P3)).max() <= 5


def test_photos_of_an_iphone_have_wide_colors() -> None:
    pillow_heif.register_heif_opener()
    pixels = decoded(Image.new("RGB", (64, 64), (200, 60, 40)), "HEIF", profile(P3))
    assert np.abs(pixels[32, 32].astype(int) - shown((200, 60, 40), P3)).max() <= 6


def test_grey_with_a_curve_of_its_own() -> None:
    pixels = decoded(Image.new("L", (16, 16), 100), "PNG", profile(P3, space=b"GRAY", gamma=1.0))
    assert np.abs(pixels[8, 8].astype(int) - shown((100, 100, 100), SRGB, gamma=1.0)).max() <= 2


def test_pixels_that_are_srgb_already_stay_bit_for_bit() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (32, 32, 3), dtype=np.uint8)
    image = Image.fromarray(pixels)
    srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    assert np.array_equal(decoded(image, "PNG", srgb), pixels)
    assert in_srgb(image) is image


@pytest.mark.parametrize("icc", [b"nonsense", profile(P3)[:200], profile(P3, space=b"CMYK"), profile(P3, space=b"GRAY")])
def test_a_profile_that_does_not_fit_is_passed_over(icc: bytes) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (8, 8, 3), dtype=np.uint8)
    assert np.array_equal(decoded(Image.fromarray(pixels), "PNG", icc), pixels)


def test_inks_are_converted_by_their_profile_kind_only() -> None:
    image = Image.new("CMYK", (8, 8), (0, 200, 200, 0))
    assert np.array_equal(decoded(image, "TIFF", profile(P3)), np.asarray(image.convert("RGB")))
