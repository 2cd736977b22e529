"""Sets of class images that the base model made, each in a folder of its own named by everything that made it.

A set is `<class word>-<key>/` with `manifest.json` and pictures `00000.png`, `00001.png`, ... Picture number k depends on
the request and k alone, so that a set can be filled in any order, stopped, continued and made larger.

Beside `00000.png` stands `00000.safetensors`, the latent that the picture was decoded from, so that nobody has to encode
what our own sampler made. It names its picture by content: beside an exchanged picture it is not used. It may be missing,
as in sets made before there were latents; that alone does not make a picture be made again.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from dreambooth.config import is_text
from dreambooth.data.listing import LATENT_SUFFIX, MANIFEST_NAME
from dreambooth.data.photos import read_photo
from dreambooth.data.records import CaptionedPhoto, Photo
from dreambooth.errors import PhotoError
from dreambooth.files import atomic_file, remove_stale, write_json
from dreambooth.reading import parse_json, read_json, reason_of
from dreambooth.seals import sealed, unsealed

__all__ = ["MadeLatent", "PriorRequest", "PriorSet", "prompt_of_set"]

_FORMAT = "dreambooth class images, version 1"
_TENSOR = "x_0"
_PICTURE = "picture"  # in a latent's metadata: the digest of its picture
_DAMAGE = (OSError, ValueError, SafetensorError, KeyError)  # what reading a damaged latent raises


@dataclass(frozen=True)
class PriorRequest:
    """Everything that decides the pictures of a set. Their number is not part of it."""

    prompt: str
    model_digest: str
    sampler: str
    sampling_steps: int
    guidance_scale: float
    height: int
    width: int
    seed: int

    @property
    def key(self) -> str:
        """The first 16 hex digits of the SHA-256 of the request."""
        return hashlib.sha256(json.dumps(self._as_dict(), sort_keys=True).encode()).hexdigest()[:16]

    def manifest(self) -> dict[str, Any]:
        """What `manifest.json` of a set holds."""
        return {"format": _FORMAT, "key": self.key, "request": self._as_dict()}

    def _as_dict(self) -> dict[str, Any]:
        return {**asdict(self), "guidance_scale": float(self.guidance_scale)}  # 10 and 10.0 are one request


@dataclass(frozen=True)
class MadeLatent:
    """The latent (C, h, w) of a class image as the sampler left it, float32, scaled as the UNet sees it.

    `digest` is the SHA-256 of its numbers, in hex.
    """

    x_0_CHW: Tensor
    digest: str


@dataclass(frozen=True)
class PriorSet:
    """A folder of class images that belongs to one request."""

    folder: Path
    request: PriorRequest

    @classmethod
    def open(cls, root: Path, class_word: str, request: PriorRequest) -> PriorSet:
        """The set of a request below `root`: made, with its manifest, when it is not there yet.

        Raises PhotoError when the folder's manifest is missing beside pictures, cannot be read or tells of another request.
        """
        folder = root / f"{_slug(class_word)}-{request.key}"
        path = folder / MANIFEST_NAME
        if path.is_file():
            if _read_manifest(path) != request.manifest():
                raise PhotoError(f"{path}: does not match the name of its folder", hint=_remedy(folder))
        elif any(folder.glob("*.png")):
            raise PhotoError(f"{folder}: contains images but no {MANIFEST_NAME} that describes them", hint=_remedy(folder))
        else:
            write_json(path, request.manifest())
        remove_stale(folder)
        return cls(folder, request)

    def path(self, index: int) -> Path:
        """Where picture number `index` belongs."""
        return self.folder / f"{index:05d}.png"

    def missing(self, num: int, *, with_latents: Collection[str] = ()) -> list[int]:
        """Which of the pictures 0 to num - 1 are still to be made: not there, not decodable to the end, or of another size.

        One whose latent is there and damaged is made again with it; so is one that has no latent, if `with_latents` holds the
        digest of its file.
        """
        return [index for index in range(num) if (one := self._read(index)) is None or self._lacks(one.photo, with_latents)]

    def without_latent(self, num: int, *, with_latents: Collection[str]) -> list[int]:
        """Which of the pictures 0 to num - 1 are there without the latent that they had."""
        read = {index: self._read(index) for index in range(num)} if with_latents else {}
        return [index for index, one in read.items() if one is not None and self._has_lost_latent(one.photo, with_latents)]

    def _lacks(self, photo: Photo, with_latents: Collection[str]) -> bool:
        return self._has_damaged_latent(photo) or self._has_lost_latent(photo, with_latents)

    def _has_lost_latent(self, photo: Photo, with_latents: Collection[str]) -> bool:
        return photo.digest in with_latents and not photo.path.with_suffix(LATENT_SUFFIX).exists()

    def _has_damaged_latent(self, photo: Photo) -> bool:
        try:
            self._stored_latent(photo)
        except _DAMAGE:
            return True
        return False

    def images(self, num: int) -> tuple[CaptionedPhoto, ...]:
        """Pictures 0 to num - 1 with the prompt that made them; `missing(num)` must be empty."""
        images = [self._read(index) for index in range(num)]
        assert all(image is not None for image in images), "make what is missing first"
        return tuple(image for image in images if image is not None)

    def put_latent(self, index: int, x_0_CHW: Tensor, *, picture: Path) -> None:
        """Keep the latent of picture number `index`, in float32, bound to the content of the file `picture`.

        Put it before that file is renamed to `path(index)`: then every new picture that stands has its latent, and one that
        was begun by a killed process is made again whole.
        """
        photo, _ = read_photo(picture)
        own_CHW = x_0_CHW.detach().to("cpu", torch.float32).clone(memory_format=torch.contiguous_format)
        data = save({_TENSOR: own_CHW}, {_PICTURE: photo.digest})
        with atomic_file(self.path(index).with_suffix(LATENT_SUFFIX)) as partial:
            partial.write_bytes(sealed(data))

    def latent(self, photo: Photo) -> MadeLatent | None:
        """The latent of a picture of this set; None when there is none, it is damaged or it belongs to another picture."""
        try:
            return self._stored_latent(photo)
        except _DAMAGE:
            return None

    def _stored_latent(self, photo: Photo) -> MadeLatent | None:
        """The same; one of _DAMAGE for a damaged one."""
        path = photo.path.with_suffix(LATENT_SUFFIX)
        if not path.exists():
            return None
        data = path.read_bytes()
        if _metadata(data).get(_PICTURE) != photo.digest:
            return None
        x_0_CHW = load(data)[_TENSOR]
        if x_0_CHW.dtype != torch.float32 or x_0_CHW.ndim != 3 or not x_0_CHW.isfinite().all():
            raise ValueError("no latent")
        return MadeLatent(x_0_CHW, hashlib.sha256(x_0_CHW.numpy().tobytes()).hexdigest())

    def _read(self, index: int) -> CaptionedPhoto | None:
        try:
            photo, _ = read_photo(self.path(index))
        except PhotoError:
            return None
        is_right = (photo.height, photo.width) == (self.request.height, self.request.width)
        return CaptionedPhoto(photo, self.request.prompt) if is_right else None


def prompt_of_set(folder: Path) -> str | None:
    """The prompt that made the class images in `folder`, or None when it is not a made set.

    Raises PhotoError when its manifest cannot be read.
    """
    path = folder / MANIFEST_NAME
    if not path.is_file():
        return None
    manifest = _read_manifest(path)
    if not isinstance(manifest, dict) or manifest.get("format") != _FORMAT:
        return None  # some other program's file
    try:
        prompt = manifest["request"]["prompt"]
        if not isinstance(prompt, str) or not is_text(prompt):
            raise TypeError("the prompt is no text")
        return prompt
    except (KeyError, TypeError) as error:
        raise PhotoError(f"{path}: has no prompt", hint=_remedy(folder)) from error


def _metadata(data: bytes) -> Mapping[str, str]:
    """The metadata of a latent's file. Raises ValueError when it is not as it was written; sets made earlier have no digest."""
    length = int.from_bytes(data[:8], "little")
    header = parse_json(data[8 : 8 + length].decode())
    metadata = header.get("__metadata__") if isinstance(header, dict) else None
    return metadata if isinstance(metadata, dict) and metadata.keys() == {_PICTURE} else unsealed(data)


def _read_manifest(path: Path) -> Any:
    try:
        return read_json(path)
    except (OSError, ValueError) as error:
        raise PhotoError(f"{path}: cannot be read: {reason_of(error)}", hint=_remedy(path.parent)) from error


def _remedy(folder: Path) -> str:
    return f"Restore {folder / MANIFEST_NAME}, or move the whole folder away."


def _slug(class_word: str) -> str:
    """The class word as a part of a folder's name: letters and digits of any script, all else a dash."""
    words = "".join(letter if letter.isalnum() else " " for letter in class_word.lower()).split()
    return "-".join(words)[:40] or "class"
