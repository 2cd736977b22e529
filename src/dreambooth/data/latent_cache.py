"""Posterior moments of views, kept on the disk so that the VAE's encoder sees each view once.

An entry is found by what it was made of, never by a place or a name: moving, renaming or reordering photos changes nothing,
and another photo, view, background, model or number format never finds the wrong entry.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save

from dreambooth.data.records import Photo
from dreambooth.data.views import View
from dreambooth.diffusion.latents import LatentMoments
from dreambooth.files import atomic_file
from dreambooth.seals import sealed, unsealed

__all__ = ["LatentCache"]

_VERSION = 3
"""Goes up when rendering a view or encoding it comes to mean something else."""


@dataclass(frozen=True)
class LatentCache:
    """A folder with one small .safetensors file for every view; it is made when the first entry is put."""

    folder: Path

    @staticmethod
    def key(photo: Photo, view: View, *, background: str, model_digest: str, dtype: torch.dtype = torch.float32) -> str:
        """SHA-256, in hex, of everything that decides a view's moments; `dtype` is what the encoder computes in."""
        made_of = {
            "version": _VERSION,
            "photo": photo.digest,
            "view": asdict(view),
            "background": background,
            "model": model_digest,
            "dtype": str(dtype).removeprefix("torch."),
        }
        return hashlib.sha256(json.dumps(made_of, sort_keys=True).encode()).hexdigest()

    def get(self, key: str) -> LatentMoments | None:
        """The moments put under `key`, float32 on the CPU; None when there are none or the file is not as it was written."""
        try:
            data = self._path(key).read_bytes()
            unsealed(data)
            tensors = load(data)
            mean, deviation = tensors["mean"], tensors["deviation"]
        except (OSError, ValueError, SafetensorError, KeyError):
            return None
        if mean.dtype != torch.float32 or deviation.dtype != torch.float32 or mean.shape != deviation.shape:
            return None
        if not bool(mean.isfinite().all() and deviation.isfinite().all()):
            return None
        return LatentMoments(mean, deviation)

    def has(self, key: str) -> bool:
        """Whether there is an entry under `key`, damaged or not."""
        return self._path(key).exists()

    def put(self, key: str, moments: LatentMoments) -> None:
        """Keep moments of one view, in float32. The file is there whole or not at all."""
        tensors = {"mean": moments.mean, "deviation": moments.deviation}
        own = {name: tensor.detach().to("cpu", torch.float32).clone() for name, tensor in tensors.items()}
        data = save({name: tensor.contiguous() for name, tensor in own.items()})
        with atomic_file(self._path(key)) as partial:
            partial.write_bytes(sealed(data))

    def _path(self, key: str) -> Path:
        return self.folder / f"{key}.safetensors"
