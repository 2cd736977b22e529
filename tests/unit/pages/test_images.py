from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image

from dreambooth.pages import images
from dreambooth.pages.images import grid_rows, save_picture, to_image, with_caption, write_contact_sheet


def plain(red: int, *, height: int = 20, width: int = 30) -> NDArray[np.uint8]:
    return np.full((height, width, 3), (red, 0, 0), dtype=np.uint8)


def read(path: Path) -> NDArray[np.uint8]:
    with Image.open(path) as image:
        return np.asarray(image.convert("RGB"))


def test_levels_are_rounded_not_truncated() -> None:
    levels = torch.tensor([0.0, 0.49 / 255, 0.51 / 255, 127.6 / 255, 1.0, -1.0, 2.0])
    pixels = levels.reshape(1, 1, -1).expand(3, 1, -1)
    assert to_image(pixels)[0, :, 0].tolist() == [0, 0, 1, 128, 255, 0, 255]
    assert to_image(torch.zeros(3, 4, 6)).shape == (4, 6, 3)


def test_a_picture_carries_its_settings_in_every_script(tmp_path: Path) -> None:
    text = {"parameters": "Käse 犬 🐶\nSteps: 3", "dreambooth": '{"a": 1}'}
    pixels = torch.rand((3, 8, 16), generator=torch.Generator().manual_seed(0))
    save_picture(tmp_path / "a.png", pixels, text)
    with Image.open(tmp_path / "a.png") as image:
        assert image.format == "PNG"
        assert image.size == (16, 8)
        assert image.text == text  # type: ignore[attr-defined]
    assert np.array_equal(read(tmp_path / "a.png"), to_image(pixels))
    assert [entry.name for entry in tmp_path.iterdir()] == ["a.png"]


def test_grids_are_nearly_square() -> None:
    shapes = {num: [len(row) for row in grid_rows([plain(0)] * num)] for num in (1, 2, 3, 4, 5, 7, 9, 10)}
    assert shapes == {1: [1], 2: [2], 3: [2, 1], 4: [2, 2], 5: [3, 2], 7: [3, 3, 1], 9: [3, 3, 3], 10: [4, 4, 2]}


def test_a_sheet_shows_every_image_in_its_place_from_memory_and_files(tmp_path: Path) -> None:
    Image.fromarray(plain(200, height=10, width=15)).save(tmp_path / "small.png")
    (sheet,) = write_contact_sheet(tmp_path / "sheet.png", [[plain(10), plain(20)], [tmp_path / "small.png"]])
    assert sheet == tmp_path / "sheet.png"
    pixels = read(sheet)
    assert pixels.shape == (2 * 24, 2 * 34, 3)
    assert pixels[5, 5].tolist() == [10, 0, 0]
    assert pixels[5, 34 + 5].tolist() == [20, 0, 0]
    assert pixels[24 + 5, 5].tolist() == [200, 0, 0]
    assert pixels[24 + 15, 5].tolist() == [255, 255, 255]
    assert pixels[24 + 5, 34 + 5].tolist() == [255, 255, 255]


def test_labels_stand_left_and_above_and_never_on_an_image(tmp_path: Path) -> None:
    rows = [[plain(10, width=64, height=64), plain(20, width=64, height=64)]] * 2
    long = "photo of a sks backpack on top of the highest mountain of the world in a snow storm at night"
    (sheet,) = write_contact_sheet(
        tmp_path / "sheet.png", rows, row_labels=[long, "unbreakable" * 9], column_labels=["step 100000000000", "step 2"]
    )
    pixels = read(sheet)
    assert pixels.shape == (36 + 2 * 68, 160 + 2 * 68, 3)
    for down in (0, 1):
        for across, red in enumerate((10, 20)):
            cell = pixels[36 + down * 68 :, 160 + across * 68 :][:64, :64]
            assert (cell == (red, 0, 0)).all()
    assert (pixels[:36, 160:] < 128).any()
    assert (pixels[36 : 36 + 64, :156] < 128).any()
    assert (pixels[36 + 68 : 36 + 68 + 64, :156] < 128).any()


def test_what_exceeds_a_side_is_cut_into_sheets_that_hold_everything(tmp_path: Path) -> None:
    rows = [[plain(10 * down + across) for across in range(5)] for down in range(4)]
    sheets = write_contact_sheet(
        tmp_path / "sheet.png", rows, row_labels=["a", "b", "c", "d"], column_labels=list("12345"), max_side=160 + 2 * 34
    )
    assert [sheet.name for sheet in sheets] == ["sheet.png", "sheet-2.png", "sheet-3.png"]
    seen = set()
    for sheet in sheets:
        pixels = read(sheet)
        assert max(pixels.shape) <= 160 + 2 * 34
        seen |= {int(red) for red in np.unique(pixels[..., 0][(pixels[..., 1] == 0) & (pixels[..., 2] == 0)])}
    assert {10 * down + across for down in range(4) for across in range(5)} <= seen


def test_what_exceeds_the_pixels_is_cut_too(tmp_path: Path) -> None:
    sheets = write_contact_sheet(tmp_path / "sheet.png", grid_rows([plain(1)] * 16), max_pixels=4 * 34 * 24 * 2)
    assert [read(sheet).shape[:2] for sheet in sheets] == [(48, 136), (48, 136)]


def test_the_default_limits_hold_for_the_largest_pictures(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sizes: list[tuple[int, int]] = []
    monkeypatch.setattr(images, "_save", lambda path, image, text: sizes.append(image.size))
    write_contact_sheet(tmp_path / "sheet.png", [[plain(1, height=2048, width=2048)] * 9] * 3)
    assert len(sizes) == 4
    assert all(max(size) <= 16384 and size[0] * size[1] <= 2**26 for size in sizes)


def test_a_long_label_above_a_column_is_wrapped_and_not_cut(tmp_path: Path) -> None:
    image = np.full((64, 64, 3), 200, dtype=np.uint8)
    heights = []
    for label in ("photo", "photo of a sks vase on the moon"):
        (path,) = write_contact_sheet(tmp_path / "sheet.png", [[image]], column_labels=[label])
        with Image.open(path) as sheet:
            heights.append(sheet.height - 68)
            ink = np.asarray(sheet.convert("L"))[: heights[-1]] < 128
        lines = [ink[top : top + 18].any() for top in range(0, heights[-1], 18)]
        assert all(lines)
    assert heights == [18, 4 * 18]


def test_a_caption_is_a_line_below_its_image() -> None:
    image = np.full((64, 64, 3), 200, dtype=np.uint8)
    assert with_caption(image, "", side=64)[64:].min() == 255
    named = with_caption(image, "step 100", side=64)
    assert named.shape == (82, 64, 3)
    assert (named[:64] == 200).all() and named[64:].min() < 128
