from __future__ import annotations

from dataclasses import astuple
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from dreambooth.data.records import Mask, Photo, Role, SubjectBox
from dreambooth.data.settings import Crop, ViewSettings
from dreambooth.data.size import Size
from dreambooth.data.views import NUM_RANDOM_CROPS, View, all_training_views, draw_view, held_out_view, render_view

CROPS: tuple[Crop, ...] = ("center", "random", "squash")
SIZES = [(16, 16), (17, 16), (16, 40), (320, 240), (241, 320), (300, 300), (2000, 51), (33, 2500)]  # width, height


def photo(width: int, height: int, digest: str = "a") -> Photo:
    return Photo(Path("a.jpg"), digest, width, height, None)


def picture(width: int, height: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)


@pytest.mark.parametrize(("width", "height"), SIZES)
@pytest.mark.parametrize("crop", CROPS)
def test_every_view_stays_inside_the_picture(crop: Crop, width: int, height: int) -> None:
    for seed in range(2):
        views = [
            *all_training_views(photo(width, height), ViewSettings(crop=crop), Size.square(64), seed, "instance"),
            held_out_view(photo(width, height), Size.square(64)),
        ]
        for view in views:
            assert view.top >= 0 and view.top + view.height <= height and view.height >= 1
            assert view.left >= 0 and view.left + view.width <= width and view.width >= 1
            rendered = render_view(picture(width, height), view)
            assert rendered.shape == (3, 64, 64) and rendered.dtype == torch.float32
            assert rendered.min() >= -1 and rendered.max() <= 1


@pytest.mark.parametrize(("width", "height"), SIZES)
@pytest.mark.parametrize("crop", ["center", "random"])
def test_crops_keep_the_aspect_and_the_whole_shorter_side(crop: Crop, width: int, height: int) -> None:
    for view in all_training_views(photo(width, height), ViewSettings(crop=crop), Size.square(64), 7, "instance"):
        assert view.width == view.height == min(width, height)


def test_a_centre_crop_is_central() -> None:
    (view,) = all_training_views(photo(640, 480), ViewSettings(flip_probability=0), Size.square(64), 0, "instance")
    assert view == View(Size.square(64), top=0, left=80, height=480, width=480, flip=False)
    (view,) = all_training_views(photo(480, 641), ViewSettings(flip_probability=1), Size.square(64), 0, "instance")
    assert view == View(Size.square(64), top=80, left=0, height=480, width=480, flip=True)


def test_squash_gives_the_original_s_numbers() -> None:
    pixels = picture(90, 60)
    expected = Image.fromarray(pixels).resize((64, 64), Image.Resampling.BICUBIC)
    for flip in (False, True):
        (view,) = all_training_views(
            photo(90, 60), ViewSettings(crop="squash", flip_probability=float(flip)), Size.square(64), 0, "instance"
        )
        image = expected.transpose(Image.Transpose.FLIP_LEFT_RIGHT) if flip else expected
        original = (np.array(image).astype(np.uint8) / 127.5 - 1.0).astype(np.float32)
        np.testing.assert_array_equal(render_view(pixels, view).numpy(), original.transpose(2, 0, 1))


def test_flips_are_exact() -> None:
    pixels = picture(90, 60)
    plain = View(Size.square(48), top=3, left=5, height=50, width=50, flip=False)
    mirrored = View(Size.square(48), top=3, left=5, height=50, width=50, flip=True)
    assert torch.equal(render_view(pixels, mirrored), render_view(pixels, plain).flip(2))


def test_a_crop_of_the_training_size_copies_the_pixels() -> None:
    pixels = picture(70, 50)
    rendered = render_view(pixels, View(Size.square(32), top=11, left=30, height=32, width=32, flip=False))
    np.testing.assert_array_equal(((rendered.numpy() + 1) * 127.5).round().transpose(1, 2, 0), pixels[11:43, 30:62])


def test_small_photos_are_enlarged_without_a_border() -> None:
    pixels = np.full((20, 30, 3), 200, dtype=np.uint8)
    for view in all_training_views(photo(30, 20), ViewSettings(crop="random"), Size.square(256), 0, "instance"):
        np.testing.assert_allclose(render_view(pixels, view).numpy(), 200 / 127.5 - 1, atol=1e-6)


def test_making_smaller_does_not_alias() -> None:
    stripes = np.tile(np.array([0, 255], dtype=np.uint8), (512, 256))[:, :, None].repeat(3, axis=2)
    rendered = render_view(stripes, View(Size.square(64), top=0, left=0, height=512, width=512, flip=False))
    assert rendered[:, :, 1:-1].abs().max() < 0.01  # an even grey: half a byte is 0.004


def test_rendering_leaves_the_pixels_alone() -> None:
    pixels = picture(90, 60)
    before = pixels.copy()
    render_view(pixels, View(Size.square(32), top=0, left=0, height=60, width=60, flip=True))
    np.testing.assert_array_equal(pixels, before)


@pytest.mark.parametrize("crop", CROPS)
@pytest.mark.parametrize(("probability", "flips"), [(0.0, {False}), (0.5, {False, True}), (1.0, {True})])
def test_draws_are_the_announced_views(crop: Crop, probability: float, flips: set[bool]) -> None:
    settings = ViewSettings(crop=crop, flip_probability=probability)
    announced = all_training_views(photo(640, 480), settings, Size.square(64), 3, "instance")
    drawn = {draw_view(photo(640, 480), settings, Size.square(64), 3, "instance", step, 0) for step in range(300)}
    assert drawn == set(announced) and len(announced) == len(set(announced))
    assert {view.flip for view in announced} == flips
    assert len(announced) == len(flips) * (NUM_RANDOM_CROPS if crop == "random" else 1)


def test_a_square_picture_has_no_random_crops() -> None:
    assert len(all_training_views(photo(500, 500), ViewSettings(crop="random"), Size.square(64), 3, "instance")) == 2


def test_the_flip_probability_holds_and_moves_no_crop() -> None:
    def draws(probability: float) -> list[View]:
        settings = ViewSettings(crop="random", flip_probability=probability)
        return [draw_view(photo(640, 480), settings, Size.square(64), 3, "instance", step) for step in range(2000)]

    often, never = draws(0.25), draws(0)
    assert sum(view.flip for view in often) / 2000 == pytest.approx(0.25, abs=0.03)  # 3 standard deviations
    assert [view.left for view in often] == [view.left for view in never]


def test_random_crops_cover_the_longer_side_evenly() -> None:
    settings = ViewSettings(crop="random", flip_probability=0)
    for seed in range(20):
        offsets = [view.top for view in all_training_views(photo(100, 901), settings, Size.square(64), seed, "instance")]
        assert [offset * NUM_RANDOM_CROPS // 802 for offset in offsets] == list(range(NUM_RANDOM_CROPS))


def test_draws_depend_on_seed_photo_and_key_alone() -> None:
    def draws(seed: int, digest: str, role: Role, crop: Crop = "random") -> list[tuple[int, ...]]:
        settings = ViewSettings(crop=crop)
        return [astuple(draw_view(photo(640, 480, digest), settings, Size.square(64), seed, role, step)) for step in range(20)]

    base = draws(1, "a", "instance")
    assert base == draws(1, "a", "instance")
    assert base not in (draws(2, "a", "instance"), draws(1, "b", "instance"), draws(1, "a", "prior"))
    assert draws(1, "a", "instance", "center") != draws(2, "a", "instance", "center")  # the flips differ too


@pytest.mark.parametrize(("width", "height"), SIZES)
def test_the_held_out_view_is_never_trained_on(width: int, height: int) -> None:
    held_out = held_out_view(photo(width, height), Size.square(64))
    for crop in CROPS:
        for seed in range(5):
            boxes = {
                astuple(view)[:-1]
                for view in all_training_views(photo(width, height), ViewSettings(crop=crop), Size.square(64), seed, "instance")
            }
            assert astuple(held_out)[:-1] not in boxes
    assert held_out.width == held_out.height
    assert held_out.width / min(width, height) == pytest.approx(0.9, abs=0.5 / 16)


def test_the_held_out_view_of_known_sizes() -> None:
    assert held_out_view(photo(640, 480), Size.square(64)) == View(
        Size.square(64), top=0, left=80, height=432, width=432, flip=False
    )
    assert held_out_view(photo(100, 300), Size.square(512)) == View(
        Size.square(512), top=100, left=0, height=90, width=90, flip=False
    )


@pytest.mark.parametrize("crop", CROPS)
@pytest.mark.parametrize(("probability", "flips"), [(0.0, {False}), (0.5, {False, True}), (1.0, {True})])
def test_class_images_have_a_flip_probability_of_their_own(crop: Crop, probability: float, flips: set[bool]) -> None:
    settings = ViewSettings(crop=crop, flip_probability=0.25, prior_flip_probability=probability)
    announced = all_training_views(photo(640, 480), settings, Size.square(64), 3, "prior")
    drawn = {draw_view(photo(640, 480), settings, Size.square(64), 3, "prior", step, 0) for step in range(300)}
    assert drawn == set(announced)
    assert {view.flip for view in announced} == flips
    of_photos = [draw_view(photo(640, 480), settings, Size.square(64), 3, "instance", step, 0).flip for step in range(2000)]
    assert sum(of_photos) / 2000 == pytest.approx(0.25, abs=0.03)  # 3 standard deviations


def test_class_images_are_mirrored_like_photos_when_nothing_is_said() -> None:
    never, as_photos = ViewSettings(flip_probability=0), ViewSettings(flip_probability=0, prior_flip_probability=None)
    assert {draw_view(photo(640, 480), never, Size.square(64), 3, "prior", step).flip for step in range(50)} == {False}
    assert as_photos == never


@pytest.mark.parametrize("size", [Size(64, 96), Size(96, 64), Size(8, 40)])
@pytest.mark.parametrize(("width", "height"), [(640, 480), (480, 641), (500, 500), (37, 900), (96, 64)])
@pytest.mark.parametrize("crop", ["center", "random"])
def test_crops_for_any_size_keep_its_proportions_and_fill_a_side(size: Size, width: int, height: int, crop: Crop) -> None:
    picture_of = photo(width, height)
    views = all_training_views(picture_of, ViewSettings(crop=crop), size, 7, "instance")
    for view in (*views, held_out_view(picture_of, size)):
        assert view.size == size
        assert 0 <= view.top <= view.top + view.height <= height
        assert 0 <= view.left <= view.left + view.width <= width
    for view in views:
        assert view.height == height or view.width == width
        assert abs(view.width * size.height - view.height * size.width) <= max(size.height, size.width) / 2
    if crop == "center":
        view = views[0]
        assert abs(2 * view.top + view.height - height) <= 1
        assert abs(2 * view.left + view.width - width) <= 1
    held_out = held_out_view(picture_of, size)
    assert (held_out.top, held_out.left, held_out.height, held_out.width) not in {
        (view.top, view.left, view.height, view.width) for view in views
    }


def test_random_crops_for_any_size_reach_both_ends() -> None:
    views = [
        view
        for seed in range(200)
        for view in all_training_views(photo(100, 400), ViewSettings(crop="random"), Size(64, 96), seed, "instance")
    ]
    assert min(view.top for view in views) < 10
    assert max(view.top + view.height for view in views) > 390


def test_a_view_is_rendered_in_its_size() -> None:
    pixels = picture(90, 60)
    whole = render_view(pixels, View(Size(40, 24), top=0, left=0, height=60, width=90, flip=False))
    assert whole.shape == (3, 40, 24)
    unchanged = render_view(pixels, View(Size(60, 90), top=0, left=0, height=60, width=90, flip=False))
    torch.testing.assert_close(unchanged, torch.from_numpy(pixels).permute(2, 0, 1) / 127.5 - 1)


def masked(box: SubjectBox | None, width: int = 900, height: int = 600) -> Photo:
    return Photo(Path("a.jpg"), "a", width, height, None, Mask(None, "m", box))


def around(photo: Photo, size: Size, crop: str = "subject") -> View:
    settings = ViewSettings.model_validate({"crop": crop, "flip_probability": 0})
    (view,) = all_training_views(photo, settings, size, 0, "instance")
    return view


@pytest.mark.parametrize(
    ("box", "expected"),
    [
        (SubjectBox(top=200, left=100, height=200, width=160), (175, 55, 250)),  # a quarter more than the longer side
        (SubjectBox(top=0, left=740, height=200, width=160), (0, 650, 250)),  # moved back into the photo
        (SubjectBox(top=250, left=400, height=20, width=20), (228, 378, 64)),  # not enlarged
        (SubjectBox(top=0, left=200, height=600, width=400), (0, 100, 600)),  # not larger than the photo
    ],
)
def test_a_crop_around_the_subject(box: SubjectBox, expected: tuple[int, int, int]) -> None:
    top, left, side = expected
    assert around(masked(box), Size.square(64)) == View(
        Size.square(64), top=top, left=left, height=side, width=side, flip=False
    )


@pytest.mark.parametrize("width", [50, 300, 900])
@pytest.mark.parametrize("left", [0, 100, 850])
def test_a_crop_around_the_subject_lies_in_the_photo(width: int, left: int) -> None:
    photo = masked(SubjectBox(top=20, left=left, height=30, width=min(width, 900 - left)))
    for size in (Size.square(64), Size(48, 80), Size(80, 48)):
        view = around(photo, size)
        assert 0 <= view.top <= view.top + view.height <= 600
        assert 0 <= view.left <= view.left + view.width <= 900
        assert view.width / view.height == pytest.approx(size.width / size.height, rel=0.02)


def test_a_photo_without_a_known_subject_is_cropped_in_the_middle() -> None:
    for photo in (masked(None), Photo(Path("a.jpg"), "a", 900, 600, None)):
        assert around(photo, Size.square(64)) == around(photo, Size.square(64), "center")
