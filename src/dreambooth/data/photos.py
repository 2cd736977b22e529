"""Photos and class images: found, decoded to the last pixel and checked, before any model is loaded."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from dreambooth.data.caption_search import find_captions
from dreambooth.data.decoding import DecodedPicture, Pixels, decode, flatten
from dreambooth.data.duplicates import Fingerprint, find_duplicates, fingerprint
from dreambooth.data.focus import Clue, clue_of
from dreambooth.data.listing import list_folder, stem_of
from dreambooth.data.masks import MaskFiles, mask_of_alpha, mask_of_file, mask_problems
from dreambooth.data.problems import PhotoProblem, problem_rows, raise_if_errors
from dreambooth.data.reading import bytes_of
from dreambooth.data.records import Photo, Role
from dreambooth.data.settings import ViewSettings
from dreambooth.errors import PhotoError

__all__ = ["MAX_PHOTOS", "MIN_PHOTOS", "MIN_SIDE", "MaskSource", "PhotoReport", "read_photo", "read_pixels", "scan_photos"]

MIN_PHOTOS = 3


MAX_PHOTOS = 100
"""Photos of a subject outside of these numbers work, but a warning is given."""


_DARK = 8  # of 255: compression does not make black lighter than that
_LONGEST = 3  # times the shorter side

MIN_SIDE = 16
"""A picture whose shorter side has fewer pixels is refused."""


@dataclass(frozen=True)
class MaskSource:
    """Photos have masks: alpha channels, files beside them and, if given, those of a folder."""

    folder: Path | None = None


@dataclass(frozen=True)
class PhotoReport:
    """What a folder holds: the usable pictures in the order of their paths, and every problem found."""

    photos: tuple[Photo, ...]
    problems: tuple[PhotoProblem, ...]
    clues: tuple[Clue, ...] = ()
    """Of each picture, if photos are to be cropped around their subject."""

    @property
    def errors(self) -> tuple[PhotoProblem, ...]:
        """The problems that keep the work from starting."""
        return tuple(problem for problem in self.problems if problem.severity == "error")

    @property
    def warnings(self) -> tuple[PhotoProblem, ...]:
        """The problems that the work can live with."""
        return tuple(problem for problem in self.problems if problem.severity == "warning")

    def rows(self) -> list[tuple[str, str, str]]:
        """Rows (file, problem, what to do) for one table, errors first; the headings are PROBLEM_COLUMNS."""
        return problem_rows(self.problems)

    def raise_if_errors(self) -> None:
        """Raise one PhotoError with all errors; do nothing when there are none."""
        raise_if_errors(self.problems)


def read_pixels(path: Path, *, background: str, digest: str | None = None) -> Pixels:
    """The pixels (H, W, 3) of a picture, upright, uint8; transparent parts lie on the colour `background`.

    Raises PhotoError when the file cannot be read or decoded to the end, or no longer has the `digest` that it had.
    """
    try:
        data = bytes_of(path)
        if digest is not None and hashlib.sha256(data).hexdigest() != digest:
            raise PhotoError("the file was changed after it was checked", hint="Start again, so that the new one is checked.")
        return flatten(decode(data).pixels, background)
    except PhotoError as error:
        raise PhotoError(f"{path}: {error.problems[0]}", hint=error.hint) from error


def read_photo(path: Path) -> tuple[Photo, DecodedPicture]:
    """One picture as a record without a caption, and its pixels.

    Raises PhotoError, with the problem without the file's name and the advice as its hint.
    """
    return _photo_of(path, bytes_of(path))


def _photo_of(path: Path, data: bytes) -> tuple[Photo, DecodedPicture]:
    picture = decode(data)
    height, width = picture.pixels.shape[:2]
    if min(height, width) < MIN_SIDE:
        raise PhotoError(f"is only {width} x {height} pixels", hint="Use a larger original, or remove it.")
    return Photo(path, hashlib.sha256(data).hexdigest(), width, height, caption=None), picture


def scan_photos(
    folder: Path,
    *,
    role: Role,
    resolution: int,
    masks: MaskSource | None = None,
    views: ViewSettings | None = None,
) -> PhotoReport:
    """Look at every file below `folder` and report everything at once; nothing is raised for what is found.

    Every picture is decoded to its last pixel. Its captions are in the .txt, .caption or .json of the same name beside it, or
    in a metadata.jsonl. The number of photos, a shorter side below `resolution` and nearly equal photos are looked at for
    photos of the subject only: class images are many, and may be made small and alike.
    `masks` says where masks are looked for; None: photos have none.
    `views` says how photos are cropped, for squares by default, and which are too small.
    """
    views = views or ViewSettings()
    listing = list_folder(folder)
    problems = list(listing.problems)
    mask_files = None if masks is None else MaskFiles.find(folder, listing.masks, masks.folder)
    captions = find_captions(listing, role, problems)
    photos: list[Photo] = []
    fingerprints: list[Fingerprint] = []
    clues: list[Clue] = []
    for path in listing.pictures:
        try:
            data = bytes_of(path)
            photo, picture = _photo_of(path, data)
        except PhotoError as error:
            problems.append(_as_problem(path, error))
            continue
        caption, *others = captions.get(stem_of(path)) or (None,)
        photo = dataclasses.replace(photo, caption=caption, other_captions=tuple(others))
        if mask_files is not None:
            photo = _masked(photo, picture.pixels, mask_files.of(folder, path), problems)
        photos.append(photo)
        fingerprints.append(fingerprint(picture.pixels))
        problems += _about_the_content(photo, picture.pixels)
        if picture.num_frames > 1:
            what = f"has {picture.num_frames} frames; only the first one is used"
            problems.append(PhotoProblem(path, "warning", what, "Save the frame you want as a separate image."))
        if role == "instance":
            problems += _about_the_size(photo, resolution, views.widest, views.smallest_side)
            clues += [clue_of(data, picture.pixels)] if views.crop == "subject" else []
    for duplicate in find_duplicates(fingerprints, near=role == "instance"):
        what = f"is {duplicate.kind} {photos[duplicate.original].path}"
        advice = "Remove one of them: a duplicate counts twice."
        problems.append(PhotoProblem(photos[duplicate.index].path, "warning", what, advice))
    if mask_files is not None:
        problems += [*mask_files.problems, *mask_files.unused(), *mask_problems(photos, folder)]
    problems += _about_the_number(folder, len(photos), role, has_errors=any(one.severity == "error" for one in problems))
    return PhotoReport(tuple(photos), tuple(problems), tuple(clues))


def _masked(photo: Photo, pixels: Pixels, path: Path | None, problems: list[PhotoProblem]) -> Photo:
    """The photo with the mask in the file `path`, or else with its alpha channel as the mask."""
    if path is None:
        return dataclasses.replace(photo, mask=mask_of_alpha(pixels, photo))
    try:
        return dataclasses.replace(photo, mask=mask_of_file(path, photo))
    except PhotoError as error:
        problems.append(_as_problem(path, error))
        return photo


def _as_problem(path: Path, error: PhotoError) -> PhotoProblem:
    return PhotoProblem(path, "error", error.problems[0], error.hint or "Remove it.")


def _about_the_content(photo: Photo, pixels: Pixels) -> Iterator[PhotoProblem]:
    """A warning about a picture that shows nothing, as a failed export leaves it."""
    what, least_alpha = None, 255 if pixels.shape[2] == 3 else pixels[:, :, 3].min()
    if pixels.shape[2] == 4 and not pixels[:, :, 3].any():
        what = "is completely transparent: only the background color can be seen"
    elif least_alpha == 255 and pixels[:, :, :3].max() <= _DARK:  # a black shape on a clear ground shows something
        what = "is completely black"
    if what is not None:
        yield PhotoProblem(photo.path, "warning", what, "Look at it, and remove it if it shows nothing.")


def _about_the_size(photo: Photo, resolution: int, widest: int, smallest_side: int | None) -> Iterator[PhotoProblem]:
    shorter, longer = sorted((photo.width, photo.height))
    size = f"is {photo.width} x {photo.height} pixels"
    if smallest_side is not None and shorter < smallest_side:
        advice = "Use a larger original, remove it, or lower --smallest-side."
        yield PhotoProblem(photo.path, "error", f"{size}, smaller than the smallest side of {smallest_side}", advice)
    elif shorter < resolution:
        advice = "Upscaling blurs it: use a larger original, or train at a smaller --resolution."
        yield PhotoProblem(photo.path, "warning", f"{size}, smaller than the training size of {resolution}", advice)
    if longer > _LONGEST * shorter:
        view = "a square of it" if widest == 1 else "a training image"
        what = f"{size}: {view} shows at most {100 * widest * shorter / longer:.2g}% of the picture"
        yield PhotoProblem(photo.path, "warning", what, "Crop it to the subject.")


def _about_the_number(folder: Path, num_photos: int, role: Role, *, has_errors: bool) -> Iterator[PhotoProblem]:
    if num_photos == 0:
        if not has_errors:  # otherwise the errors say why
            yield PhotoProblem(folder, "error", "contains no images", "Give a folder with JPEG, PNG or WebP files.")
    elif role == "instance" and num_photos < MIN_PHOTOS:
        what = f"contains only {num_photos} photo{'s' if num_photos > 1 else ''} of the subject"
        advice = "Add photos: 3 to 10 with different backgrounds and angles work much better."
        yield PhotoProblem(folder, "warning", what, advice)
    elif role == "instance" and num_photos > MAX_PHOTOS:
        what = f"contains {num_photos} photos of the subject"
        advice = "Choose the best 5 to 30, or raise --steps so that each is seen often enough."
        yield PhotoProblem(folder, "warning", what, advice)
