from __future__ import annotations

import io
import struct
import warnings
from typing import Any

import numpy as np
import pillow_heif
import pytest
from PIL import Image, features
from PIL.PngImagePlugin import PngInfo

from dreambooth.data import decoding
from dreambooth.data.decoding import decode, flatten, signature
from dreambooth.data.png_chunks import without_texts
from dreambooth.errors import PhotoError

RED, BLUE = (255, 0, 0), (0, 0, 255)


def saved(image: Image.Image, form: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, form, **options)
    return buffer.getvalue()


def corner() -> Image.Image:
    """Blue, 24 wide and 16 high, with the upper left quarter red."""
    image = Image.new("RGB", (24, 16), BLUE)
    image.paste(RED, (0, 0, 12, 8))
    return image


TURNS = {  # orientation tag: how a camera that wrote it had turned the picture
    1: None,
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_90,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_270,
}
ORIENTED_FORMATS = ["PNG", "TIFF", "WEBP", *(["AVIF"] if features.check("avif") else [])]


@pytest.mark.parametrize("orientation", TURNS)
@pytest.mark.parametrize("form", ORIENTED_FORMATS)
def test_every_orientation_is_turned_upright_once(form: str, orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    turn = TURNS[orientation]
    stored = corner() if turn is None else corner().transpose(turn)
    options = {"lossless": True} if form == "WEBP" else {"quality": 100, "subsampling": "4:4:4"} if form == "AVIF" else {}
    pixels = decode(saved(stored, form, exif=exif, **options)).pixels
    assert pixels.shape == (16, 24, 3)
    np.testing.assert_allclose(pixels.astype(int), np.asarray(corner()).astype(int), atol=8 if form == "AVIF" else 0)


@pytest.mark.parametrize("exif", [b"Exif\0\0garbage!", b"Exif\0\0II*\0\x08\0\0\0", b"Exif\0\0II*\0\xff\xff\xff\x7fgarbage"])
def test_damaged_metadata_do_not_lose_the_picture(exif: bytes) -> None:
    with warnings.catch_warnings(record=True) as heard:
        warnings.simplefilter("always")
        pixels = decode(saved(corner(), "PNG", exif=exif)).pixels
    np.testing.assert_array_equal(pixels, np.asarray(corner()))
    assert heard == []


def test_alpha_is_kept_and_laid_on_the_background() -> None:
    image = Image.new("RGBA", (4, 2), (*RED, 0))
    image.putpixel((0, 0), (*RED, 255))
    image.putpixel((1, 0), (*RED, 128))
    pixels = decode(saved(image, "PNG")).pixels
    assert pixels.shape == (2, 4, 4)
    laid = flatten(pixels, "#00ff00")
    assert laid.shape == (2, 4, 3)
    assert laid[0, 0].tolist() == [255, 0, 0]
    assert laid[0, 1].tolist() == [128, 127, 0]
    assert laid[1, 3].tolist() == [0, 255, 0]


@pytest.mark.parametrize("transparency", [None, 1, bytes([255, 0])])
def test_palette_pictures(transparency: int | bytes | None) -> None:
    image = Image.new("P", (3, 1))
    image.putpalette([*RED, *BLUE])
    image.putdata([0, 1, 0])
    options = {} if transparency is None else {"transparency": transparency}
    laid = flatten(decode(saved(image, "PNG", **options)).pixels, "white")
    expected = [list(RED), list(BLUE) if transparency is None else [255, 255, 255], list(RED)]
    assert laid[0].tolist() == expected


def test_a_transparent_colour_of_an_rgb_picture() -> None:
    laid = flatten(decode(saved(corner(), "PNG", transparency=RED)).pixels, "white")
    assert laid[0, 0].tolist() == [255, 255, 255]
    assert laid[15, 23].tolist() == list(BLUE)


@pytest.mark.parametrize("mode", ["1", "L", "LA", "CMYK", "YCbCr"])
def test_other_modes_become_colours(mode: str) -> None:
    grey = Image.fromarray(np.tile(np.array([0, 255], dtype=np.uint8), (8, 8)))
    data = saved(grey.convert(mode), "JPEG" if mode == "YCbCr" else "TIFF", **({"quality": 100} if mode == "YCbCr" else {}))
    laid = flatten(decode(data).pixels, "blue")
    assert laid.shape == (8, 16, 3) and laid.dtype == np.uint8
    np.testing.assert_allclose(laid.astype(int), np.repeat(np.asarray(grey)[:, :, None].astype(int), 3, axis=2), atol=3)


def test_cmyk_jpeg_is_not_inverted() -> None:
    pixels = decode(saved(Image.new("RGB", (16, 16), (250, 250, 250)).convert("CMYK"), "JPEG", quality=95)).pixels
    assert pixels.min() > 240


@pytest.mark.parametrize("form", ["PNG", "TIFF", "PPM"])
def test_sixteen_bit_grey_is_scaled_not_clipped(form: str) -> None:
    ramp = np.array([[0, 256, 257, 32768, 65279, 65535]], dtype=np.uint16)
    pixels = decode(saved(Image.fromarray(ramp), form)).pixels
    assert pixels.shape == (1, 6, 3)
    assert pixels[0, :, 1].tolist() == [0, 1, 1, 128, 254, 255]


@pytest.mark.parametrize(("mode", "value"), [("F", 0.5), ("I", 70000), ("I", -1)])
def test_numbers_without_a_known_white_are_refused(mode: str, value: float) -> None:
    with pytest.raises(PhotoError) as caught:
        decode(saved(Image.new(mode, (2, 2), value), "TIFF"))
    assert caught.value.problems == (f"contains 32-bit values (mode {mode}) of unknown range",)


@pytest.mark.parametrize("form", ["GIF", "PNG", "WEBP", "TIFF"])
def test_of_an_animation_the_first_frame_is_taken(form: str) -> None:
    frames = [Image.new("RGB", (8, 8), colour) for colour in (RED, BLUE, (0, 255, 0))]
    options = {"lossless": True} if form == "WEBP" else {}
    picture = decode(saved(frames[0], form, save_all=True, append_images=frames[1:], **options))
    assert picture.num_frames == 3
    assert flatten(picture.pixels, "white")[4, 4].tolist() == list(RED)


def test_the_second_picture_of_a_phone_is_no_animation() -> None:
    picture = decode(saved(corner(), "MPO", save_all=True, append_images=[corner()]))
    assert picture.num_frames == 1


def test_an_empty_file() -> None:
    with pytest.raises(PhotoError) as caught:
        decode(b"")
    assert caught.value.problems == ("is empty (0 bytes)",)


@pytest.mark.parametrize("form", ["JPEG", "PNG", "WEBP", "TIFF", "BMP", "GIF"])
def test_a_truncated_file(form: str) -> None:
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8))
    data = saved(noise, form)
    with pytest.raises(PhotoError, match=r"cannot be decoded completely: \S|is not an image, or its header is damaged"):
        decode(data[: len(data) * 2 // 3])


@pytest.mark.parametrize("data", [b"hello", b"<svg></svg>", b"%PDF-1.7\n", b"\0" * 1000, b"P7\nnonsense"])
def test_what_is_no_picture(data: bytes) -> None:
    with pytest.raises(PhotoError) as caught:
        decode(data)
    assert caught.value.problems == ("is not an image, or its header is damaged",)


def test_formats_that_need_converting_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decoding, "_FORMATS", ("JPEG", "PNG"))  # as without pillow-heif
    heic = b"\0\0\0\x24ftypheic\0\0\0\0mif1heic" + b"\0" * 100
    with pytest.raises(PhotoError) as caught:
        decode(heic)
    assert caught.value.problems == ("is in the HEIC format, which is not supported",)
    assert caught.value.hint is not None and "onvert it to JPEG or PNG" in caught.value.hint
    assert caught.value.hint.startswith("Type: pip install pillow-heif, or ")
    with pytest.raises(PhotoError, match="is in the JPEG XL format"):
        decode(b"\0\0\0\x0cJXL \r\n\x87\n" + b"\0" * 100)


def test_avif_without_the_decoder_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decoding, "_FORMATS", ("JPEG", "PNG"))
    with pytest.raises(PhotoError, match="is in the AVIF format, which is not supported"):
        decode(b"\0\0\0\x20ftypavif\0\0\0\0avifmif1" + b"\0" * 100)


@pytest.mark.parametrize("factor", [1, 3])
def test_a_picture_too_large_to_open(monkeypatch: pytest.MonkeyPatch, factor: int) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 250_000)
    with pytest.raises(PhotoError) as caught:
        decode(saved(Image.new("L", (1000 * factor, 1001)), "PNG"))
    assert caught.value.problems == ("has more than 1 megapixels",)
    assert caught.value.hint == "Downscale it: 4096 pixels per side are more than any training size needs."
    assert Image.MAX_IMAGE_PIXELS == 250_000


@pytest.mark.parametrize("form", ["JPEG", "PNG", "WEBP", "TIFF"])
@pytest.mark.parametrize("mode", ["RGB", "L", "P"])
def test_a_large_picture_is_decoded_smaller(monkeypatch: pytest.MonkeyPatch, form: str, mode: str) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 10_000)
    exif = Image.Exif()
    exif[0x0112] = 6
    half = Image.new("L", (200, 190))
    half.paste(255, (100, 0, 200, 190))
    image = half.convert("RGB").quantize(4) if mode == "P" and form in ("PNG", "TIFF") else half.convert("RGB")
    pixels = decode(saved(image if mode != "L" or form == "WEBP" else half, form, exif=exif)).pixels
    assert pixels.shape == (100, 95, 3)
    assert pixels[:45].max() <= 4 and pixels[55:].min() >= 251
    assert decode(saved(half.crop((0, 0, 100, 100)), "PNG")).pixels.shape == (100, 100, 3)


@pytest.mark.parametrize("is_packed", [True, False])
@pytest.mark.parametrize("add", ["add_text", "add_itxt"])
def test_long_texts_do_not_lose_the_picture(add: str, is_packed: bool) -> None:
    texts = PngInfo()
    getattr(texts, add)("workflow", "x" * 5_000_000, zip=is_packed)
    assert np.array_equal(decode(saved(corner(), "PNG", pnginfo=texts)).pixels, np.asarray(corner()))


def test_an_overlong_profile_does_not_lose_the_picture() -> None:
    data = saved(corner(), "PNG", icc_profile=bytes(2_000_000))
    assert np.array_equal(decode(data).pixels, np.asarray(corner()))
    for short in (saved(corner(), "PNG", icc_profile=b"x" * 1000), saved(corner(), "PNG")):
        assert without_texts(short) == short


def test_an_orientation_that_stands_in_a_text_is_kept() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    raw = exif.tobytes().removeprefix(b"Exif\0\0")
    texts = PngInfo()
    texts.add_text("Raw profile type exif", f"\nexif\n{len(raw) + 6:8}\n{(b'Exif' + bytes(2) + raw).hex()}\n", zip=True)
    texts.add_text("comment", "left out")
    data = saved(corner(), "PNG", pnginfo=texts)
    assert b"left out" not in without_texts(data) and b"Raw profile type exif" in without_texts(data)
    width, height = corner().size
    assert decode(data).pixels.shape == (width, height, 3)


def test_photos_of_an_iphone_are_read(monkeypatch: pytest.MonkeyPatch) -> None:
    pillow_heif.register_heif_opener()
    data = saved(corner(), "HEIF", quality=100)
    monkeypatch.delitem(Image.OPEN, "HEIF")
    picture = decode(data)
    assert picture.num_frames == 1
    assert np.abs(picture.pixels.astype(int) - np.asarray(corner()).astype(int)).max() <= 16
    with pytest.raises(PhotoError, match=r"cannot be decoded completely|is a damaged HEIC file"):
        decode(data[: len(data) // 2])


def test_other_kinds_of_tiff_are_named() -> None:
    # width, height, bits, compression, RGB, place, channels, rows, bytes, floating point
    entries = [(256, 8), (257, 8), (258, 32), (259, 1), (262, 2), (273, 200), (277, 3), (278, 8), (279, 768), (339, 3)]
    table = b"".join(struct.pack("<HHII", tag, 3, 1, value) for tag, value in entries)
    data = b"II*\0" + struct.pack("<IH", 8, len(entries)) + table
    with pytest.raises(PhotoError, match="is a kind of TIFF that is not supported, such as floating-point RGB"):
        decode(data.ljust(200, b"\0") + bytes(768))


@pytest.mark.parametrize("form", ["JPEG", "PNG", "WEBP", "GIF", "TIFF", "BMP", "JPEG2000"])
def test_no_damage_raises_anything_else(form: str) -> None:
    random = np.random.default_rng(1)
    whole = np.frombuffer(saved(corner().resize((48, 32)), form), dtype=np.uint8)
    outcomes = set()
    for _ in range(60):
        damaged = whole.copy()
        damaged[random.integers(0, len(damaged), 3)] = random.integers(0, 256, 3)
        damaged[random.integers(0, 32, 2)] = random.integers(0, 256, 2)
        try:
            decode(damaged.tobytes())
            outcomes.add("decoded")
        except PhotoError as error:
            assert len(error.problems) == 1 and error.hint
            outcomes.add("refused")
    assert "refused" in outcomes


@pytest.mark.parametrize("form", ["JPEG", "PNG", "WEBP", "GIF", "TIFF", "JPEG2000"])
def test_signatures_of_what_pillow_writes(form: str) -> None:
    assert signature(saved(corner(), form)[:16]) == form


def test_signatures_of_other_files() -> None:
    assert signature(b"") is None
    assert signature(b"\0\0\0\x18ftypmp42isommp42") is None
    assert signature(b"RIFF\0\0\0\0WAVEfmt ") is None
