"""Where the subject of photos seems to be: what all photos have in common and what is unlike the border of each.

Colors are counted in small copies of the photos. A color speaks for the subject as far as it is more frequent in the other
photos than along the border of its own. Scores are rounded to whole numbers, so that a machine's last digits decide nothing.

Shapes: h and w height and width of a small copy, K kinds of color.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from dreambooth.data.decoding import Pixels
from dreambooth.data.records import SubjectBox
from dreambooth.data.size import Size

__all__ = ["salient_boxes", "small_copy"]

_SIDE = 48  # longer side of a small copy
_SHORTEST = 8
_BORDER = 0.08  # width of the border as a share of the shorter side
_LIGHTNESSES, _HUES = 8, 12  # kinds of color: one axis of lightness, two from a color to its opposite
_KINDS = (_LIGHTNESSES, _HUES, _HUES)
_MOST_OF_ONE_COLOR = 0.05  # share of a photo beyond which more of a color does not count: it is a background
_RARE = 0.0002  # share of a photo below which a color is as good as absent
_PRECISION = 1024

Kinds = NDArray[np.int64]
"""The kind of color of each pixel of a small copy, (h, w)."""


def small_copy(pixels: Pixels) -> Pixels:
    """A copy of pixels (H, W, 3 or 4) whose longer side has 48 pixels, (h, w, 3)."""
    height, width = pixels.shape[:2]
    scale = _SIDE / max(height, width)
    size = (max(_SHORTEST, round(width * scale)), max(_SHORTEST, round(height * scale)))
    return np.array(Image.fromarray(pixels[:, :, :3]).resize(size, Image.Resampling.BOX, reducing_gap=2.0))


def salient_boxes(copies: Sequence[Pixels], sizes: Sequence[Size]) -> list[SubjectBox | None]:
    """The box around the likely subject of each photo, in the pixels of its size; None where nothing stands out.

    `copies` are small copies of photos of one subject. A single photo is compared with its own border alone.
    """
    if not copies:
        return []
    kinds = [_kinds(copy) for copy in copies]
    shares = [_shares(one) for one in kinds]
    total_K = np.sum([np.minimum(share_K, _MOST_OF_ONE_COLOR) for share_K in shares], axis=0)
    boxes = []
    for one, share_K, size in zip(kinds, shares, sizes, strict=True):
        own_K = np.minimum(share_K, _MOST_OF_ONE_COLOR)
        common_K = (total_K - own_K) / (len(kinds) - 1) if len(kinds) > 1 else own_K
        border_K = _shares(one[_is_border(one)])
        score_K = np.log((common_K.clip(0) + _RARE) / (border_K + _RARE))
        boxes.append(_box(np.rint(score_K * _PRECISION).astype(np.int64)[one], size))
    return boxes


def _kinds(copy: Pixels) -> Kinds:
    red, green, blue = (copy[:, :, channel].astype(np.int64) for channel in range(3))
    lightness = (red + green + blue) // 3 * _LIGHTNESSES // 256
    return (lightness * _HUES + _hue(red - green)) * _HUES + _hue((red + green) // 2 - blue)


def _hue(difference: NDArray[np.int64]) -> NDArray[np.int64]:
    """Kinds of a difference of two channels, -255 to 255, narrower near gray, where eyes see more."""
    root = np.sign(difference) * np.sqrt(np.abs(difference) / 255)
    return np.clip(((root + 1) / 2 * _HUES).astype(np.int64), 0, _HUES - 1)


def _shares(kinds: Kinds) -> NDArray[np.float64]:
    """How much of the pixels has each kind of color, (K,); neighboring kinds share, since light and shadow shift colors."""
    counts = np.bincount(kinds.ravel(), minlength=_LIGHTNESSES * _HUES * _HUES).reshape(_KINDS).astype(np.float64)
    for axis in range(counts.ndim):
        padded = np.moveaxis(np.pad(counts, [(1, 1) if other == axis else (0, 0) for other in range(counts.ndim)]), axis, 0)
        counts = np.moveaxis(padded[:-2] + 2 * padded[1:-1] + padded[2:], 0, axis) / 4
    return counts.ravel() / kinds.size


def _is_border(kinds: Kinds) -> NDArray[np.bool_]:
    width = max(1, round(_BORDER * min(kinds.shape)))
    is_border = np.ones(kinds.shape, dtype=np.bool_)
    is_border[width:-width, width:-width] = False
    return is_border


def _box(scores_hw: NDArray[np.int64], size: Size) -> SubjectBox | None:
    """The rectangle with the largest sum of scores, each averaged with its neighbors, in the pixels of a photo of `size`."""
    padded = np.pad(scores_hw, 1, mode="edge")
    height, width = scores_hw.shape
    smooth_hw = sum(padded[down : down + height, across : across + width] for down in range(3) for across in range(3))
    assert isinstance(smooth_hw, np.ndarray)
    # All pairs of a first and a last row; of each the best columns: the sum up to a column less the smallest sum before it.
    first, last = np.triu_indices(height + 1, 1)
    below = np.concatenate([np.zeros((1, width), dtype=np.int64), smooth_hw.cumsum(axis=0)])
    sums = np.pad((below[last] - below[first]).cumsum(axis=1), [(0, 0), (1, 0)])
    gains = sums[:, 1:] - np.minimum.accumulate(sums[:, :-1], axis=1)
    pair, right = divmod(int(gains.argmax()), width)
    if gains[pair, right] <= 0:
        return None
    left = int(sums[pair, : right + 1].argmin())
    top, bottom, right = int(first[pair]), int(last[pair]), right + 1
    down, across = size.height / height, size.width / width
    if (bottom - top, right - left) == (height, width):
        return None
    box = SubjectBox(int(top * down), int(left * across), 0, 0)
    return SubjectBox(box.top, box.left, round(bottom * down) - box.top, round(right * across) - box.left)
