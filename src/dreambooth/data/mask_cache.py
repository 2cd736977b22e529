"""Masks of views in the size of their latents, kept on the disk, so that no photo is decoded again for its mask.

As in `latent_cache`, an entry is found by what it was made of.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from dreambooth.data.mask_rendering import render_mask
from dreambooth.data.masks import read_transparency
from dreambooth.data.records import Photo
from dreambooth.data.size import Size
from dreambooth.data.views import View
from dreambooth.files import atomic_file
from dreambooth.seals import sealed, unsealed

__all__ = ["MaskCache"]

_VERSION = 1
_TENSOR = "mask"


@dataclass(frozen=True)
class MaskCache:
    """A folder with one small .safetensors file for every view of a photo with a mask."""

    folder: Path
    downsampling: int
    """Pixels of a view for each latent, along one side."""

    def masks(self, views: Iterable[tuple[Photo, View]]) -> dict[tuple[str, str, View], Tensor]:
        """How much of the subject each latent shows, (h, w) float32 in [0, 1], by photo, mask and view; photos without one
        are left out.

        Raises PhotoError when a mask cannot be read any longer.
        """
        of_photo: dict[Photo, list[View]] = {}
        for photo, view in views:
            if photo.mask is not None:
                of_photo.setdefault(photo, []).append(view)
        return {
            (photo.digest, photo.mask.digest, view): mask_hw
            for photo, of_it in of_photo.items()
            if photo.mask is not None
            for view, mask_hw in self._of_photo(photo, of_it).items()
        }

    def _of_photo(self, photo: Photo, views: Sequence[View]) -> dict[View, Tensor]:
        known = {view: mask for view in views if (mask := self._get(photo, view)) is not None}
        missing = [view for view in views if view not in known]
        shown = read_transparency(photo) if missing else None
        for view in missing:
            assert shown is not None
            known[view] = render_mask(shown, photo, view, self._latent(view))
            with atomic_file(self._path(photo, view)) as partial:
                partial.write_bytes(sealed(save({_TENSOR: known[view].contiguous()})))
        return known

    def _get(self, photo: Photo, view: View) -> Tensor | None:
        try:
            data = self._path(photo, view).read_bytes()
            unsealed(data)
            mask_hw = load(data)[_TENSOR]
        except (OSError, ValueError, SafetensorError, KeyError):
            return None
        latent = self._latent(view)
        is_right = mask_hw.dtype == torch.float32 and mask_hw.shape == (latent.height, latent.width)
        return mask_hw if is_right else None

    def _latent(self, view: View) -> Size:
        return Size(view.size.height // self.downsampling, view.size.width // self.downsampling)

    def _path(self, photo: Photo, view: View) -> Path:
        assert photo.mask is not None
        made_of = {
            "version": _VERSION,
            "photo": [photo.digest, photo.height, photo.width],
            "mask": [photo.mask.digest, photo.mask.path is None],
            "view": asdict(view),
            "downsampling": self.downsampling,
        }
        key = hashlib.sha256(json.dumps(made_of, sort_keys=True).encode()).hexdigest()
        return self.folder / f"{key}.safetensors"
