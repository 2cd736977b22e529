"""Where the subject of photos without a mask is: a face that is marked in the file, else what stands out."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, replace

from dreambooth.data.decoding import Pixels
from dreambooth.data.face_regions import Face, faces_in
from dreambooth.data.records import Focus, Photo, SubjectBox
from dreambooth.data.saliency import salient_boxes, small_copy
from dreambooth.data.size import Size

__all__ = ["Clue", "clue_of", "cropped_around", "with_focus"]


@dataclass(frozen=True)
class Clue:
    """What is kept of a photo to find its subject: the faces marked in its file, and a small copy (h, w, 3)."""

    faces: tuple[Face, ...]
    copy: Pixels


def clue_of(data: bytes, pixels: Pixels) -> Clue:
    """The clue of a file with its upright pixels (H, W, 3 or 4)."""
    height, width = pixels.shape[:2]
    return Clue(faces_in(data, Size(height, width)), small_copy(pixels))


def with_focus(photos: Sequence[Photo], clues: Sequence[Clue], subject_of: Callable[[Photo], Hashable]) -> tuple[Photo, ...]:
    """The photos, those whose mask does not show the subject with what is likely to be it.

    `subject_of` tells the subjects apart: what is common is looked for among the photos of one. Of several faces in a photo
    it is the one whose name is in the most photos of the subject, and else the largest.
    """
    groups: dict[Hashable, list[int]] = {}
    for index, photo in enumerate(photos):
        groups.setdefault(subject_of(photo), []).append(index)
    focused = list(photos)
    for indices in groups.values():
        unmasked = {index for index in indices if (mask := photos[index].mask) is None or mask.box is None}
        if not unmasked:
            continue
        sizes = [Size(photos[index].height, photos[index].width) for index in indices]
        salient = salient_boxes([clues[index].copy for index in indices], sizes)
        names = Counter(name for index in indices for name in {face.name for face in clues[index].faces if face.name})
        for index, size, box in zip(indices, sizes, salient, strict=True):
            photo, faces = photos[index], clues[index].faces
            if index not in unmasked:
                continue
            if faces:
                face = max(faces, key=lambda one: (names[one.name], one.height * one.width))
                focused[index] = replace(photo, focus=Focus(_pixels(face, size), "face"))
            elif box is not None:
                focused[index] = replace(photo, focus=Focus(box, "saliency"))
    return tuple(focused)


def cropped_around(photo: Photo) -> str:
    """Where the crop of a photo lies with `--crop subject`, and what says so."""
    if photo.focus is not None:
        return {
            "face": "around the face that is marked in the file",
            "saliency": "around what stands out (saliency); a mask shows it exactly",
        }[photo.focus.source]
    return "in the middle" if photo.subject_box is None else "around the mask"


def _pixels(face: Face, size: Size) -> SubjectBox:
    top, left = int(face.top * size.height), int(face.left * size.width)
    bottom, right = round((face.top + face.height) * size.height), round((face.left + face.width) * size.width)
    return SubjectBox(top, left, max(1, bottom - top), max(1, right - left))
