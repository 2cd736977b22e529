from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from dreambooth.data.decoding import Pixels, decode
from dreambooth.data.duplicates import NEAR_DISTANCE, Duplicate, find_duplicates, fingerprint

NEAR = "nearly identical to"


@pytest.fixture(scope="module")
def pictures(real_photos: Path) -> list[Pixels]:
    return [decode(path.read_bytes()).pixels for path in sorted(real_photos.glob("*.jpg"))]


def changed(pixels: Pixels, how: str) -> Pixels:
    image = Image.fromarray(pixels)
    if how == "compressed":
        buffer = io.BytesIO()
        image.save(buffer, "JPEG", quality=30)
        return decode(buffer.getvalue()).pixels
    if how == "smaller":
        return np.asarray(image.resize((200, 200)))
    if how == "brighter":
        return np.asarray(image.point(lambda value: min(255, round(value * 1.15))))
    return np.asarray(image.crop((5, 0, image.width, image.height)))


def test_different_photos_of_one_subject_are_no_duplicates(pictures: list[Pixels]) -> None:
    assert find_duplicates([fingerprint(pixels) for pixels in pictures], near=True) == []


@pytest.mark.parametrize("how", ["compressed", "smaller", "brighter", "cropped"])
def test_a_changed_copy_is_nearly_the_same(pictures: list[Pixels], how: str) -> None:
    prints = [fingerprint(pixels) for pixels in [*pictures, changed(pictures[1], how)]]
    assert find_duplicates(prints, near=True) == [Duplicate(3, 1, NEAR)]
    assert find_duplicates(prints, near=False) == []


def test_a_mirrored_copy_is_told(pictures: list[Pixels]) -> None:
    prints = [fingerprint(pixels) for pixels in [*pictures, pictures[0][:, ::-1]]]
    assert find_duplicates(prints, near=True) == [Duplicate(3, 0, "nearly a mirror image of")]


def test_equal_pixels_are_the_same(pictures: list[Pixels]) -> None:
    prints = [fingerprint(pixels) for pixels in [*pictures, pictures[2].copy(), pictures[2].copy()]]
    expected = [Duplicate(3, 2, "identical to"), Duplicate(4, 2, "identical to")]
    assert find_duplicates(prints, near=False) == expected
    assert find_duplicates(prints, near=True) == expected


def test_the_shape_is_part_of_a_picture() -> None:
    flat = np.zeros((20, 30, 3), dtype=np.uint8)
    assert fingerprint(flat).pixels != fingerprint(flat.reshape(30, 20, 3)).pixels


def test_flat_pictures_have_no_pattern() -> None:
    grey = [np.full((40, 40, 3), value, dtype=np.uint8) for value in (10, 113, 200)]
    assert not any(fingerprint(pixels).bits.any() for pixels in grey)


def test_the_threshold_is_far_from_chance() -> None:
    random = np.random.default_rng(0)
    noise = [fingerprint(random.integers(0, 256, (40, 40, 3), dtype=np.uint8)) for _ in range(60)]
    distances = [int((one.bits != other.bits).sum()) for index, one in enumerate(noise) for other in noise[:index]]
    assert min(distances) > NEAR_DISTANCE
    assert 30 < np.mean(distances) < 34
