"""Masks: where they are found, what they weigh, and what is wrong with them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from dreambooth.data.mask_cache import MaskCache
from dreambooth.data.mask_rendering import mask_weights, render_mask
from dreambooth.data.masks import read_transparency
from dreambooth.data.photos import MaskSource, PhotoReport, scan_photos
from dreambooth.data.records import SubjectBox
from dreambooth.data.size import Size
from dreambooth.data.views import View, central_view

MakePhoto = Callable[..., Path]


def square(path: Path, *, width: int = 96, height: int = 80, box: tuple[int, int, int, int] = (16, 8, 48, 40)) -> Path:
    """A mask that is white in a box (left, top, right, bottom)."""
    path.parent.mkdir(parents=True, exist_ok=True)
    image = Image.new("L", (width, height))
    image.paste(255, box)
    image.save(path)
    return path


def scan(folder: Path, masks: Path | None = None) -> PhotoReport:
    return scan_photos(folder, role="instance", resolution=16, masks=MaskSource(masks))


def problems(report: PhotoReport) -> list[tuple[str, str, str]]:
    return [(one.path.name, one.severity, one.message) for one in report.problems]


@pytest.fixture
def folder(tmp_path: Path, make_photo: MakePhoto) -> Path:
    for index in range(3):
        make_photo(f"{index}.png", seed=index)
    return tmp_path / "photos"


def test_a_mask_lies_beside_its_photo_and_is_no_photo(folder: Path) -> None:
    for index in range(3):
        square(folder / f"{index}-mask.png")
    report = scan(folder)
    assert [photo.path.name for photo in report.photos] == ["0.png", "1.png", "2.png"]
    assert report.problems == ()
    mask = report.photos[0].mask
    assert mask is not None
    assert mask.path == folder / "0-mask.png"
    assert mask.box == SubjectBox(top=8, left=16, height=32, width=32)
    without = scan_photos(folder, role="instance", resolution=16)
    assert [photo.mask for photo in without.photos] == [None] * 3


def test_a_photo_that_is_named_like_a_mask_stays_a_photo(folder: Path, make_photo: MakePhoto) -> None:
    make_photo("gas-mask.png", seed=7)
    assert [photo.path.name for photo in scan(folder).photos] == ["0.png", "1.png", "2.png", "gas-mask.png"]


def test_masks_of_another_folder_have_the_names_of_their_photos(folder: Path, tmp_path: Path) -> None:
    square(folder / "0-mask.png")
    masks = tmp_path / "masks"
    square(masks / "0.png", box=(0, 0, 8, 8))
    square(masks / "1-masklabel.png")
    square(masks / "other.png")
    report = scan(folder, masks)
    assert [photo.mask and photo.mask.path for photo in report.photos] == [masks / "0.png", masks / "1-masklabel.png", None]
    assert problems(report) == [
        ("other.png", "warning", "is a mask without a photo; skipped"),
        ("photos", "warning", "1 of 3 photos have no mask, such as 2.png"),
    ]


def test_a_missing_folder_of_masks_is_an_error(folder: Path, tmp_path: Path) -> None:
    assert problems(scan(folder, tmp_path / "gone"))[0] == ("gone", "error", "does not exist")


def test_every_faulty_mask_is_named(folder: Path) -> None:
    square(folder / "0-mask.png", width=80, height=80)
    (folder / "1-mask.png").write_bytes(b"\x89PNG\r\n\x1a\nno mask")
    square(folder / "2-mask.png", box=(0, 0, 0, 0))
    report = scan(folder)
    assert problems(report)[:2] == [
        ("0-mask.png", "error", "is 80 x 80 pixels, and its photo 0.png is 96 x 80"),
        ("1-mask.png", "error", "is not an image, or its header is damaged"),
    ]
    assert ("2-mask.png", "warning", "is a mask that marks nothing, so it has no effect") in problems(report)


def test_the_alpha_channel_is_a_mask_unless_a_file_says_otherwise(folder: Path) -> None:
    pixels = np.full((80, 96, 4), 200, dtype=np.uint8)
    pixels[:, :, 3] = 0
    pixels[8:40, 16:48, 3] = 255
    Image.fromarray(pixels).save(folder / "3.png")
    mask = scan(folder).photos[3].mask
    assert mask is not None
    assert (mask.path, mask.box) == (None, SubjectBox(8, 16, 32, 32))
    square(folder / "3-mask.png", box=(0, 0, 96, 80))
    assert (mask := scan(folder).photos[3].mask) is not None
    assert mask.path == folder / "3-mask.png"


@pytest.mark.parametrize("ground", [0, 255])
def test_white_on_nothing_is_white_on_black(folder: Path, ground: int) -> None:
    pixels = np.full((80, 96, 4), ground, dtype=np.uint8)
    pixels[:, :, 3] = 0
    pixels[8:40, 16:48] = 255
    Image.fromarray(pixels).save(folder / "0-mask.png")
    mask = scan(folder).photos[0].mask
    assert mask is not None
    assert mask.box == SubjectBox(8, 16, 32, 32)


def test_a_mask_follows_crop_and_flip(folder: Path) -> None:
    square(folder / "0-mask.png")
    photo = scan(folder).photos[0]
    view = View(Size.square(64), top=0, left=16, height=80, width=80, flip=False)
    mask_hw = render_mask(read_transparency(photo), photo, view, Size.square(10))
    expected = torch.zeros(10, 10)
    expected[1:5, 0:4] = 1
    assert torch.equal(mask_hw, expected)
    flipped = render_mask(read_transparency(photo), photo, replace(view, flip=True), Size.square(10))
    assert torch.equal(flipped, expected.flip(1))


def test_a_mask_may_be_smaller_than_its_photo(folder: Path) -> None:
    square(folder / "0-mask.png", width=48, height=40, box=(8, 4, 24, 20))
    photo = scan(folder).photos[0]
    assert photo.mask is not None
    assert photo.mask.box == SubjectBox(8, 16, 32, 32)
    mask_hw = render_mask(read_transparency(photo), photo, central_view(photo, Size.square(64)), Size.square(10))
    assert torch.equal(mask_hw.nonzero().amin(0), torch.tensor([1, 1]))
    assert torch.equal(mask_hw.nonzero().amax(0), torch.tensor([4, 4]))


def test_weights_have_mean_one_and_keep_their_proportion() -> None:
    mask_hw = torch.zeros(4, 4)
    mask_hw[1:3, 1:3] = 1
    weights_hw = mask_weights(mask_hw, 0.1)
    assert weights_hw is not None
    assert float(weights_hw.mean()) == pytest.approx(1)
    assert float(weights_hw[0, 0] / weights_hw[1, 1]) == pytest.approx(0.1)


@pytest.mark.parametrize(("mask", "outside"), [(1.0, 0.1), (0.0, 0.1), (0.0, 0.0), (0.3, 0.0)])
def test_a_mask_that_is_the_same_everywhere_changes_nothing(mask: float, outside: float) -> None:
    assert mask_weights(torch.full((4, 4), mask), outside) is None


def test_a_weight_of_one_changes_nothing() -> None:
    assert mask_weights(torch.rand(4, 4), 1.0) is None


def test_masks_are_kept_and_not_read_again(folder: Path, tmp_path: Path) -> None:
    square(folder / "0-mask.png")
    photo, other = scan(folder).photos[:2]
    view = central_view(photo, Size.square(64))
    cache = MaskCache(tmp_path / "cache", downsampling=8)
    (key, mask_hw), *rest = cache.masks([(photo, view), (other, view)]).items()
    assert key == (photo.digest, photo.mask.digest if photo.mask else "", view)
    assert mask_hw.shape == (8, 8) and not rest
    (folder / "0-mask.png").unlink()
    assert torch.equal(cache.masks([(photo, view)])[key], mask_hw)
    (entry,) = cache.folder.iterdir()
    entry.write_bytes(entry.read_bytes()[:-1])
    square(folder / "0-mask.png")
    assert torch.equal(cache.masks([(photo, view)])[key], mask_hw)


def test_a_changed_mask_is_another_entry(folder: Path, tmp_path: Path) -> None:
    cache, view = MaskCache(tmp_path / "cache", downsampling=8), central_view(scan(folder).photos[0], Size.square(64))
    found = []
    for box in ((16, 8, 48, 40), (40, 40, 96, 80)):
        square(folder / "0-mask.png", box=box)
        found += cache.masks([(scan(folder).photos[0], view)]).values()
    assert not torch.equal(found[0], found[1])
