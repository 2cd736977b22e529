"""Pictures are prepared as Pillow prepares them, from what the model's folder says."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from dreambooth.errors import ModelFileError
from dreambooth.measures.preprocessing import Preprocessing, read_preprocessing

MEAN, DEVIATION = (0.5, 0.4, 0.3), (0.2, 0.25, 0.3)
RECORD = {"image_mean": list(MEAN), "image_std": list(DEVIATION)}


def picture(height: int, width: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)


def pixels(array: np.ndarray) -> Tensor:
    return torch.from_numpy(array.copy()).permute(2, 0, 1).unsqueeze(0).float() / 255


def by_pillow(array: np.ndarray, side: int, crop: int) -> Tensor:
    height, width = array.shape[:2]
    size = (side, side * height // width) if width <= height else (side * width // height, side)
    resized = Image.fromarray(array).resize(size, Image.Resampling.BICUBIC)
    left, top = (resized.width - crop) // 2, (resized.height - crop) // 2
    cropped = np.asarray(resized.crop((left, top, left + crop, top + crop)), dtype=np.float32) / 255
    normalised = (cropped - np.array(MEAN, dtype=np.float32)) / np.array(DEVIATION, dtype=np.float32)
    return torch.from_numpy(normalised).permute(2, 0, 1).unsqueeze(0)


@pytest.mark.parametrize(("height", "width"), [(100, 80), (80, 130), (48, 48), (20, 31)])
@pytest.mark.parametrize("crop", [48, 40])
def test_a_picture_is_resized_and_cropped_as_pillow_does_it(height: int, width: int, crop: int) -> None:
    array = picture(height, width)
    prepared = Preprocessing(48, crop, MEAN, DEVIATION)(pixels(array))
    assert prepared.shape == (1, 3, crop, crop) and prepared.dtype == torch.float32
    levels = (prepared - by_pillow(array, 48, crop)).abs() * torch.tensor(DEVIATION).view(3, 1, 1) * 255
    # Noise is the hardest picture. Without antialiasing, or resized in float, it would be tens of levels off.
    assert float(levels.max()) < 2.01
    assert float((levels > 0.5).float().mean()) < 0.02


def test_a_picture_of_the_right_size_is_only_normalised() -> None:
    array = picture(48, 48)
    expected = (pixels(array) - torch.tensor(MEAN).view(3, 1, 1)) / torch.tensor(DEVIATION).view(3, 1, 1)
    torch.testing.assert_close(Preprocessing(48, 48, MEAN, DEVIATION)(pixels(array)), expected)


def test_pixels_a_little_outside_their_range_are_cut_off() -> None:
    beyond = torch.tensor([-0.1, 0.5, 1.1]).view(1, 3, 1, 1).expand(1, 3, 8, 8)
    prepared = Preprocessing(8, 8, (0.0, 0.0, 0.0), (1.0, 1.0, 1.0))(beyond)
    assert prepared[0, :, 0, 0].tolist() == pytest.approx([0.0, 128 / 255, 1.0])


def written(folder: Path, config: Any) -> Path:
    (folder / "preprocessor_config.json").write_text(config if isinstance(config, str) else json.dumps(config))
    return folder


@pytest.mark.parametrize(
    ("config", "side", "crop"),
    [
        ({"size": 224, "crop_size": 200, "do_center_crop": True}, 224, 200),
        ({"size": {"shortest_edge": 256}, "crop_size": {"height": 224, "width": 224}, "do_center_crop": True}, 256, 224),
        ({"size": {"height": 224, "width": 224}}, 224, 224),
        ({"size": 224, "crop_size": 100, "do_center_crop": False}, 224, 224),
    ],
)
def test_old_and_new_descriptions_are_understood(tmp_path: Path, config: dict[str, Any], side: int, crop: int) -> None:
    assert read_preprocessing(written(tmp_path, {**config, **RECORD})) == Preprocessing(side, crop, MEAN, DEVIATION)


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ("{", "cannot be read as JSON"),
        ([], "expected size, image_mean and image_std"),
        (RECORD, r"\(KeyError: 'size'\)"),
        ({**RECORD, "size": {"height": 8, "width": 9}}, "8 x 9 is not square"),
        ({**RECORD, "size": 8, "image_mean": [0.5]}, "expected size, image_mean and image_std"),
        ({**RECORD, "size": 8, "crop_size": 9, "do_center_crop": True}, "crop 9 of size 8"),
        ({**RECORD, "size": 8, "image_std": [0, 1, 1]}, "image_std"),
    ],
)
def test_a_description_that_says_too_little_is_refused(tmp_path: Path, config: Any, message: str) -> None:
    with pytest.raises(ModelFileError, match=message):
        read_preprocessing(written(tmp_path, config))


def test_a_folder_without_a_description_says_what_is_missing(tmp_path: Path) -> None:
    with pytest.raises(ModelFileError, match=r"preprocessor_config\.json: no such file(.|\n)*Download"):
        read_preprocessing(tmp_path)
