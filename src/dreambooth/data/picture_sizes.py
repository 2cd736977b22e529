"""The sizes that Stable Diffusion XL is told beside a caption (SDXL, Podell et al., arXiv 2307.01952, section 2.2).

With them it learned which of its training pictures were small or cut, so it must be told the same about every picture that it
learns from.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from dreambooth.data.records import Photo
from dreambooth.data.size import Size
from dreambooth.data.views import View

__all__ = ["PictureSizes"]


@dataclass(frozen=True)
class PictureSizes:
    """The size of a picture before anything was done to it, and where in the resized picture the crop of size `target` lies."""

    original: Size
    top: int
    left: int
    target: Size

    @classmethod
    def of_view(cls, photo: Photo, view: View) -> PictureSizes:
        """The sizes of a view as it was taken: a mirrored picture is cropped on its other side."""
        scale_down, scale_across = view.size.height / view.height, view.size.width / view.width
        left = photo.width - view.left - view.width if view.flip else view.left
        return cls(Size(photo.height, photo.width), round(view.top * scale_down), round(left * scale_across), view.size)

    @classmethod
    def whole(cls, size: Size) -> PictureSizes:
        """The sizes of a picture that is generated in `size`: whole and not resized."""
        return cls(size, 0, 0, size)

    def numbers(self) -> Tensor:
        """The six numbers as the model takes them, (6,) float32, which is exact: heights come before widths."""
        sizes = self.original.height, self.original.width, self.top, self.left, self.target.height, self.target.width
        return torch.tensor(sizes, dtype=torch.float32)
