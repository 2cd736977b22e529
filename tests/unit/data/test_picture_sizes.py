"""What Stable Diffusion XL is told about the sizes of a picture: what was really done to it."""

from __future__ import annotations

from pathlib import Path

import pytest

from dreambooth.data.picture_sizes import PictureSizes
from dreambooth.data.records import Photo
from dreambooth.data.size import Size
from dreambooth.data.views import View, central_view, held_out_view

SQUARE = Size.square(64)


def photo(*, height: int, width: int) -> Photo:
    return Photo(Path("photo.jpg"), "digest", width=width, height=height, caption=None)


def numbers(picture: Photo, view: View) -> list[float]:
    values: list[float] = PictureSizes.of_view(picture, view).numbers().tolist()
    return values


@pytest.mark.parametrize(
    ("height", "width", "expected"),
    [
        (128, 192, [128, 192, 0, 16, 64, 64]),  # resized to 64 x 96, of which the middle is taken
        (192, 128, [192, 128, 16, 0, 64, 64]),
        (32, 32, [32, 32, 0, 0, 64, 64]),  # a small picture is told as small, although it was made larger
    ],
)
def test_heights_come_first_and_the_crop_is_counted_in_the_resized_picture(
    height: int, width: int, expected: list[float]
) -> None:
    picture = photo(height=height, width=width)
    assert numbers(picture, central_view(picture, SQUARE)) == expected


def test_a_mirrored_picture_is_cropped_on_its_other_side() -> None:
    picture = photo(height=128, width=256)
    left = View(SQUARE, top=0, left=32, height=128, width=128, flip=False)
    mirrored = View(SQUARE, top=0, left=32, height=128, width=128, flip=True)
    assert numbers(picture, left) == [128, 256, 0, 16, 64, 64]
    assert numbers(picture, mirrored) == [128, 256, 0, 48, 64, 64]  # 256 - 128 - 32 = 96 before resizing


def test_what_is_not_square_and_the_held_out_view_have_their_own_scale() -> None:
    wide = Size(64, 96)
    picture = photo(height=300, width=300)
    assert numbers(picture, central_view(picture, wide)) == [300, 300, 16, 0, 64, 96]  # 50 rows above, at 64 / 200
    assert numbers(picture, held_out_view(picture, wide))[4:] == [64, 96]


def test_a_generated_picture_is_whole() -> None:
    assert PictureSizes.whole(Size(64, 96)).numbers().tolist() == [64, 96, 0, 0, 64, 96]
