"""A feature cache on disk, so that each image is encoded only once.

Entries are keyed by the image's content and the encoder's weights and preprocessing, so moving or renaming images changes
nothing. Shapes: N images, B of a batch, C channels, H and W sizes in pixels, D width of features.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from dreambooth.errors import ModelFileError
from dreambooth.files import atomic_file, remove_stale
from dreambooth.measures.encoders import ImageEncoder
from dreambooth.seals import sealed, unsealed

__all__ = ["FeatureCache", "PictureSource", "features_of"]

_VERSION = 2
"""Increases whenever the encoding of images changes."""

_BATCH = 32


@dataclass(frozen=True)
class PictureSource:
    """An image that is decoded only if its features are not cached."""

    digest: str
    """SHA-256, in hex, of its pixels or of its file."""
    pixels: Callable[[], Tensor]
    """Gives the pixels in [0, 1], (3, H, W)."""

    @staticmethod
    def of_pixels(pixels_CHW: Tensor) -> PictureSource:
        """An image that is already in memory."""
        plain = pixels_CHW.detach().float().cpu().contiguous()
        found = hashlib.sha256(repr(tuple(plain.shape)).encode())
        found.update(plain.numpy().data)
        return PictureSource(found.hexdigest(), lambda: plain)


@dataclass(frozen=True)
class FeatureCache:
    """A folder with one small .safetensors file per image and encoder; created with the first entry."""

    folder: Path

    @staticmethod
    def key(picture_digest: str, encoder: ImageEncoder) -> str:
        """SHA-256, in hex, of everything that determines an image's features."""
        made_of = {"version": _VERSION, "picture": picture_digest, "name": encoder.name, "encoder": encoder.digest}
        return hashlib.sha256(json.dumps(made_of, sort_keys=True).encode()).hexdigest()

    def get(self, key: str) -> Tensor | None:
        """The features stored under `key`, (D,) float32; None if there are none, or the file is damaged or foreign."""
        try:
            data = self._path(key).read_bytes()
            width = unsealed(data).get(key)
            features_D: Tensor = load(data)["features"]
        except (OSError, ValueError, SafetensorError, KeyError):
            return None
        is_own = features_D.dtype == torch.float32 and features_D.ndim == 1 and str(len(features_D)) == width
        is_whole = is_own and bool(features_D.isfinite().all())
        return features_D if is_whole else None

    def has(self, key: str) -> bool:
        """Whether there is an entry under `key`, damaged or not."""
        return self._path(key).exists()

    def put(self, key: str, features_D: Tensor) -> None:
        """Store the features of one image, atomically."""
        kept_D = features_D.detach().to("cpu", torch.float32).clone().contiguous()
        data = save({"features": kept_D}, {key: str(len(kept_D))})
        with atomic_file(self._path(key)) as partial:
            partial.write_bytes(sealed(data))

    def _path(self, key: str) -> Path:
        return self.folder / f"{key}.safetensors"


def features_of(
    encoder: ImageEncoder,
    pictures: Sequence[PictureSource],
    cache: FeatureCache,
    *,
    say: Callable[[str], None] = lambda _: None,
) -> Tensor:
    """The features of `pictures` in order, (N, D) float32, from the cache or newly encoded and cached.

    Damaged entries are told with `say` and computed again. Repeated images are encoded once, and features are stored after
    every batch. Needs at least one image.
    Raises ModelFileError when the encoder returns values that are not finite.
    """
    keys = [cache.key(picture.digest, encoder) for picture in pictures]
    found = {key: cache.get(key) for key in dict.fromkeys(keys)}
    missing = {key: picture for key, picture in zip(keys, pictures, strict=True) if found[key] is None}
    if missing:
        remove_stale(cache.folder)
    if num_damaged := sum(map(cache.has, missing)):
        say(f"{num_damaged} damaged {'file' if num_damaged == 1 else 'files'} of features in {cache.folder}: computed again")
    for batch in _batches(missing):
        features_BD = encoder.encode(torch.stack(list(batch.values())))
        if not features_BD.isfinite().all():
            raise ModelFileError(
                f"{encoder.name}: returned features that are not finite", hint="Its weights are damaged: download them again."
            )
        for key, features_D in zip(batch, features_BD, strict=True):
            cache.put(key, features_D)
            found[key] = features_D
    return torch.stack([features for key in keys if (features := found[key]) is not None])


def _batches(pictures: dict[str, PictureSource]) -> Iterator[dict[str, Tensor]]:
    """Decoded pictures by key, of one size in each batch."""
    batch: dict[str, Tensor] = {}
    for key, picture in pictures.items():
        pixels_CHW = picture.pixels()
        if batch and (len(batch) == _BATCH or pixels_CHW.shape != next(iter(batch.values())).shape):
            yield batch
            batch = {}
        batch[key] = pixels_CHW
    if batch:
        yield batch
