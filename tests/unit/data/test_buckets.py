"""Sizes with the proportions of the photos."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from dreambooth.data.buckets import WIDEST, Buckets, bucket_sizes, sizes_in_turn
from dreambooth.data.examples import ExampleSource
from dreambooth.data.picture_sizes import PictureSizes
from dreambooth.data.records import CaptionedPhoto, Photo
from dreambooth.data.settings import ViewSettings
from dreambooth.data.size import Size
from dreambooth.data.views import all_training_views

CASES = [(512, 8), (768, 8), (1024, 8), (520, 8), (64, 4), (64, 8), (256, 8)]


def photo(width: int, height: int, name: str = "a") -> Photo:
    return Photo(Path(f"{name}.jpg"), name, width, height, None)


@pytest.mark.parametrize(("side", "downsampling"), CASES)
def test_buckets_have_at_most_the_area_of_the_square_and_bounded_proportions(side: int, downsampling: int) -> None:
    buckets = bucket_sizes(side, downsampling)
    assert buckets.square == Size.square(side)
    step = 64 if side >= 512 else downsampling
    for size in buckets.others:
        assert size.height % step == size.width % step == 0
        assert size.height * size.width <= side * side
        assert max(size.height, size.width) <= WIDEST * min(size.height, size.width)
    assert len(set(buckets.others)) == len(buckets.others)
    assert {Size(size.width, size.height) for size in buckets.others} == set(buckets.others)
    assert max(size.width / size.height for size in buckets.others) == WIDEST


@pytest.mark.parametrize(
    ("side", "downsampling", "width", "height", "expected"),
    [
        (512, 8, 700, 700, Size(512, 512)),
        (512, 8, 3000, 2000, Size(384, 640)),
        (512, 8, 2000, 3000, Size(640, 384)),
        (512, 8, 4000, 1000, Size(320, 640)),
        (512, 8, 1000, 990, Size(512, 512)),
        (1024, 8, 3000, 2000, Size(832, 1216)),
        (64, 4, 3000, 2000, Size(48, 80)),
        (64, 4, 100, 100, Size(64, 64)),
    ],
)
def test_a_photo_has_the_nearest_proportions(side: int, downsampling: int, width: int, height: int, expected: Size) -> None:
    assert bucket_sizes(side, downsampling).of(photo(width, height)) == expected


def test_little_of_a_photo_is_cut_off() -> None:
    buckets = bucket_sizes(512, 8)
    for width in range(1000, 2001, 50):
        one = photo(width, 1000)
        (view,) = all_training_views(one, ViewSettings(crop="bucket", flip_probability=0), buckets.of(one), 0, "instance")
        assert view.height * view.width >= 0.83 * width * 1000, width
        assert abs(view.width / view.height - view.size.width / view.size.height) < 0.01


def test_every_beginning_of_the_sizes_has_the_proportions_of_the_photos() -> None:
    wide, tall, square = Size(384, 640), Size(640, 384), Size(512, 512)
    sizes = sizes_in_turn({wide: 5, square: 3, tall: 1}, 90)
    assert Counter(sizes) == {wide: 50, square: 30, tall: 10}
    for end in range(1, 91):
        for size, share in ((wide, 5 / 9), (square, 3 / 9), (tall, 1 / 9)):
            assert abs(sizes[:end].count(size) - share * end) <= 1
    assert sizes_in_turn({wide: 2}, 3) == [wide] * 3


def source(size: Size | Buckets, *photos: Photo, crop: str) -> ExampleSource:
    instances = tuple(CaptionedPhoto(one, "a") for one in photos)
    priors = tuple(CaptionedPhoto(replace(one, digest=f"class {one.digest}"), "b") for one in photos)
    return ExampleSource(instances, priors, ViewSettings.model_validate({"crop": crop}), size, 2, 23)


def test_square_photos_in_buckets_are_seen_as_without() -> None:
    photos = [photo(side, side, f"{side}") for side in (500, 512, 900)]
    bucketed = source(bucket_sizes(512, 8), *photos, crop="bucket")
    plain = source(Size.square(512), *photos, crop="center")
    assert [bucketed.examples_at(step) for step in range(1, 9)] == [plain.examples_at(step) for step in range(1, 9)]
    assert bucketed.views_used(8) == plain.views_used(8)


def test_order_flips_and_captions_do_not_depend_on_sizes() -> None:
    photos = [photo(500, 500, "square"), photo(900, 600, "wide"), photo(600, 900, "tall")]
    bucketed = source(bucket_sizes(512, 8), *photos, crop="bucket")
    plain = source(Size.square(512), *photos, crop="center")
    for step in range(1, 9):
        for one, other in zip(bucketed.examples_at(step), plain.examples_at(step), strict=True):
            assert (one.photo, one.view.flip, one.caption, one.slot) == (
                other.photo,
                other.view.flip,
                other.caption,
                other.slot,
            )
            assert one.view.size == bucketed.size_of(one.photo)
    assert {view.size for _, view in bucketed.views_used(8)} == {Size(512, 512), Size(384, 640), Size(640, 384)}


def test_the_size_conditioning_follows_the_view() -> None:
    one = photo(3000, 2000)
    size = bucket_sizes(1024, 8).of(one)
    (view,) = all_training_views(one, ViewSettings(crop="bucket", flip_probability=0), size, 0, "instance")
    expected = torch.tensor([2000.0, 3000.0, 0.0, round((3000 - view.width) // 2 * size.width / view.width), 832.0, 1216.0])
    assert torch.equal(PictureSizes.of_view(one, view).numbers(), expected)
