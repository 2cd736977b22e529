"""Masks say which pixels of a photo are the subject: white is the subject, black is not, gray is in between.

A mask is a file `NAME-mask.png` beside the photo `NAME`, a file of a folder of masks, or the photo's own alpha channel.
What training makes of them is in mask_rendering.py. Nothing here loads torch: the browser interface needs it at its start.

Shapes: H and W height and width in pixels.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from dreambooth.data.decoding import Pixels, decode
from dreambooth.data.listing import list_folder, mask_target, stem_of
from dreambooth.data.problems import PhotoProblem
from dreambooth.data.reading import bytes_of
from dreambooth.data.records import Mask, Photo, SubjectBox
from dreambooth.data.size import Size
from dreambooth.display import counted
from dreambooth.errors import PhotoError

__all__ = [
    "MaskFiles",
    "Transparency",
    "mask_of_alpha",
    "mask_of_file",
    "mask_problems",
    "read_transparency",
    "transparency_of",
]

Transparency = NDArray[np.uint8]
"""How much of the subject a pixel shows, (H, W): 255 is all of it."""

_HALF = 128
_ASPECT_TOLERANCE = 0.01


@dataclass
class MaskFiles:
    """The mask files of the photos of a folder, and which of them belong to a photo."""

    files: dict[str, Path]
    """Mask files by the stem of their photo's path below the folder of photos."""
    problems: list[PhotoProblem] = field(default_factory=list)
    _used: set[str] = field(default_factory=set)

    @classmethod
    def find(cls, photos: Path, beside: Mapping[Path, Path], folder: Path | None) -> MaskFiles:
        """Masks beside the photos, by photo, and those of a folder of masks, which come first."""
        found = cls({stem_of(photo.relative_to(photos)): mask for photo, mask in beside.items()})
        if folder is None:
            return found
        listing = list_folder(folder)
        found.problems += [problem for problem in listing.problems if problem.severity == "error"]
        named = {*listing.pictures, *listing.masks.values()}
        found.files |= {mask_target(path.relative_to(folder)): path for path in sorted(named)}
        return found

    def of(self, photos: Path, photo: Path) -> Path | None:
        """The mask of a photo below the folder `photos`; None if it has none."""
        stem = stem_of(photo.relative_to(photos))
        self._used.add(stem)
        return self.files.get(stem)

    def unused(self) -> Iterator[PhotoProblem]:
        """A warning for every mask that belongs to no photo that was asked for."""
        for stem, path in self.files.items():
            if stem not in self._used:
                advice = "Give it the name of its photo, with the suffix .png or -mask.png, or remove it."
                yield PhotoProblem(path, "warning", "is a mask without a photo; skipped", advice)


def mask_of_file(path: Path, photo: Photo) -> Mask:
    """The mask in a file. Raises PhotoError, with the problem without the file's name and the advice as its hint."""
    shown, digest = _read(path)
    height, width = shown.shape
    if abs(width * photo.height / (height * photo.width) - 1) > _ASPECT_TOLERANCE:
        raise PhotoError(
            f"is {width} x {height} pixels, and its photo {photo.path.name} is {photo.width} x {photo.height}",
            hint="Give a mask of the photo's size, or of the same proportions.",
        )
    return Mask(path, digest, _box(shown, Size(photo.height, photo.width)))


def mask_of_alpha(pixels: Pixels, photo: Photo) -> Mask | None:
    """The mask in the alpha channel of a photo's pixels; None if nothing of it is transparent."""
    if pixels.shape[2] == 3 or pixels[:, :, 3].min() == 255:
        return None
    shown = pixels[:, :, 3]
    return Mask(None, photo.digest, _box(shown, Size(photo.height, photo.width)))


def mask_problems(photos: Sequence[Photo], folder: Path) -> Iterator[PhotoProblem]:
    """A warning for every mask file that marks nothing, and one when only some photos have a mask."""
    for photo in photos:
        if photo.mask is not None and photo.mask.path is not None and photo.mask.box is None:
            what = "is a mask that marks nothing, so it has no effect"
            yield PhotoProblem(photo.mask.path, "warning", what, "Paint the subject white, or remove the mask.")
    without = [photo for photo in photos if photo.mask is None]
    if without and len(without) < len(photos):
        what = f"{len(without)} of {counted(len(photos), 'photo')} have no mask, such as {without[0].path.name}"
        yield PhotoProblem(folder, "warning", what, "Nothing, or add their masks: all of such a photo counts equally.")


def read_transparency(photo: Photo) -> Transparency:
    """What a photo's mask shows, (H, W) of the mask. Raises PhotoError when its file cannot be read any longer."""
    assert photo.mask is not None
    path = photo.mask.path
    if path is not None:
        return _read(path)[0]
    shown: Transparency = decode(bytes_of(photo.path)).pixels[:, :, 3]
    return shown


def _read(path: Path) -> tuple[Transparency, str]:
    """The brightness of a mask, and the digest of its file; white on nothing and white on black are the same."""
    data = bytes_of(path)
    return transparency_of(data), hashlib.sha256(data).hexdigest()


def transparency_of(data: bytes) -> Transparency:
    """What the content of a mask file shows, (H, W). Raises PhotoError for what is not a whole picture."""
    pixels = decode(data).pixels
    shown: Transparency = np.asarray(Image.fromarray(pixels[:, :, :3]).convert("L"))
    if pixels.shape[2] == 4:
        shown = (shown.astype(np.uint16) * pixels[:, :, 3] // 255).astype(np.uint8)
    return shown


def _box(shown: Transparency, photo: Size) -> SubjectBox | None:
    """The smallest box around all that shows at least half of the subject, in the photo's pixels."""
    rows, columns = (np.flatnonzero((shown >= _HALF).any(axis=axis)) for axis in (1, 0))
    if not len(rows):
        return None
    down, across = photo.height / shown.shape[0], photo.width / shown.shape[1]
    top, left = int(rows[0] * down), int(columns[0] * across)
    bottom, right = round((rows[-1] + 1) * down), round((columns[-1] + 1) * across)
    return SubjectBox(top, left, bottom - top, right - left)
