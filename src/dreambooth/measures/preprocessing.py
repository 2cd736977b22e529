"""What a picture becomes before an encoder sees it: resized, cropped and normalised as the encoder was trained with.

Written here so that no picture processor of a library is needed (the quick ones want torchvision), and so that the numbers do
not change with one. Shapes: B pictures, C channels, H and W sizes in pixels.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from dreambooth.errors import ModelFileError
from dreambooth.reading import read_json

__all__ = ["PREPROCESSOR_FILE", "Preprocessing", "read_preprocessing"]

PREPROCESSOR_FILE = "preprocessor_config.json"

_LARGEST_SIDE = 4096
_Three = tuple[float, float, float]


@dataclass(frozen=True)
class Preprocessing:
    """Resize to a shorter side, crop the middle, normalise."""

    shorter_side: int
    crop: int
    """Side of the square that is left, not above `shorter_side`."""
    mean: _Three
    deviation: _Three

    def __call__(self, pixels_BCHW: Tensor) -> Tensor:
        """Pixels in [0, 1] to what the encoder takes, (B, 3, crop, crop) float32 on the CPU.

        The resizing is bicubic with antialiasing on 8-bit values, that of Pillow, which the published numbers were made with.
        """
        eight_bits = pixels_BCHW.mul(255).round().clamp(0, 255).to("cpu", torch.uint8)
        height, width = eight_bits.shape[2:]
        shorter = min(height, width)
        if shorter != self.shorter_side:
            size = [self.shorter_side * side // shorter for side in (height, width)]
            eight_bits = F.interpolate(eight_bits, size=size, mode="bicubic", antialias=True)
        top, left = ((side - self.crop) // 2 for side in eight_bits.shape[2:])
        cropped = eight_bits[:, :, top : top + self.crop, left : left + self.crop].float() / 255
        return self._normalised(cropped)

    def squashed(self, pixels_HWC: NDArray[np.uint8]) -> Tensor:
        """A whole photo squashed into the square, (1, 3, crop, crop) float32: what models that answer about photos take."""
        pixels_1CHW = torch.from_numpy(pixels_HWC.copy()).permute(2, 0, 1).unsqueeze(0)
        resized = F.interpolate(pixels_1CHW, size=(self.crop, self.crop), mode="bicubic", antialias=True)
        return self._normalised(resized.float() / 255)

    def _normalised(self, pixels_BCHW: Tensor) -> Tensor:
        return (pixels_BCHW - torch.tensor(self.mean).view(3, 1, 1)) / torch.tensor(self.deviation).view(3, 1, 1)


def read_preprocessing(folder: Path) -> Preprocessing:
    """The sizes, mean and deviation in a model folder's preprocessor_config.json, as older and newer releases write them.

    Two things in it are not followed. Without a crop of its own (DINO's) it would squeeze a picture that is not square; the
    middle square is taken instead. And the interpolation is always bicubic, as in DINO's own evaluation, though DINO's file
    names bilinear.
    Raises ModelFileError when the file is not there or does not say them.
    """
    path = folder / PREPROCESSOR_FILE
    hint = f"Download {PREPROCESSOR_FILE} of the same model into {folder}, and try again."
    try:
        config = read_json(path)
    except FileNotFoundError as error:
        raise ModelFileError(f"{path}: no such file; it defines the model's image preprocessing", hint=hint) from error
    except (OSError, ValueError) as error:
        raise ModelFileError(f"{path}: cannot be read as JSON: {error}", hint=hint) from error
    try:
        side = _side(config["size"])
        crop = _side(config["crop_size"]) if config.get("do_center_crop", False) else side
        mean, deviation = _three(config["image_mean"]), _three(config["image_std"])
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
        raise ModelFileError(
            f"{path}: expected size, image_mean and image_std of an image encoder ({type(error).__name__}: {error})", hint=hint
        ) from error
    if not 0 < crop <= side <= _LARGEST_SIDE or not min(deviation) > 0 or not all(map(math.isfinite, (*mean, *deviation))):
        raise ModelFileError(f"{path}: impossible values: crop {crop} of size {side}, image_std {deviation}", hint=hint)
    return Preprocessing(side, crop, mean, deviation)


def _side(size: Any) -> int:
    """A number, or a record with `shortest_edge`, or with equal `height` and `width`."""
    if isinstance(size, dict):
        if "shortest_edge" not in size and size["height"] != size["width"]:
            raise ValueError(f"{size['height']} x {size['width']} is not square")
        size = size.get("shortest_edge", size.get("height"))
    return int(size)


def _three(values: Any) -> _Three:
    red, green, blue = (float(value) for value in values)
    return red, green, blue
