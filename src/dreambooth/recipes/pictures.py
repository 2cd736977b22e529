"""The photos and the given class images of a run with their captions, looked at before anything else is done with them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from dreambooth.data.captions import CaptionedPhoto, empty_captions, instance_caption
from dreambooth.data.drawing import PerRole, drawing, repeats_of
from dreambooth.data.photos import scan_photos
from dreambooth.data.prior_folders import PriorImages, also_prior_images, prior_images_from_folder
from dreambooth.data.problems import PROBLEM_COLUMNS, PhotoProblem, problem_rows
from dreambooth.data.settings import Captions, PriorSettings
from dreambooth.errors import SettingsError
from dreambooth.recipes.display import Display
from dreambooth.recipes.settings import TrainSettings

__all__ = [
    "Pictures",
    "check_apart",
    "find_pictures",
    "same_picture_warnings",
    "show_captions",
    "show_problems",
    "unseen_warnings",
]

_MOST_ROWS = 12
_ADVICE: dict[Captions, str] = {
    "prompt": "Give an --instance-prompt that says something.",
    "filename": "Write a caption behind the @ of each name, or take the @ away.",
}


@dataclass(frozen=True)
class Pictures:
    """What the folders that the person named hold."""

    photos: tuple[CaptionedPhoto, ...]
    given_priors: tuple[CaptionedPhoto, ...]
    """Class images; those that the base model makes come on top."""
    problems: tuple[PhotoProblem, ...]


def find_pictures(settings: TrainSettings, resolution: int) -> Pictures:
    """Look at every file; nothing is raised for what is found."""
    subject = settings.subject
    report = scan_photos(subject.photos, role="instance", resolution=resolution)
    photos = tuple(CaptionedPhoto(photo, instance_caption(photo, subject)) for photo in report.photos)
    given = _given_priors(settings, resolution)
    return Pictures(
        photos=photos,
        given_priors=tuple(image for images in given for image in images.images),
        problems=(
            *report.problems,
            *empty_captions(photos, _ADVICE[subject.captions]),
            *(problem for images in given for problem in images.problems),
        ),
    )


def _given_priors(settings: TrainSettings, resolution: int) -> list[PriorImages]:
    """What is in the folders of class images that the person named."""
    prior = settings.prior
    given = [also_prior_images(folder, resolution=resolution) for folder in prior.also_prior]
    if (folder := prior.prior_images) is not None:
        given.insert(0, prior_images_from_folder(folder, prior=prior, subject=settings.subject, resolution=resolution))
    return given


def show_problems(pictures: Pictures, display: Display) -> None:
    """One table of everything that was found wrong; nothing when that is nothing."""
    if pictures.problems:
        display.table("Pictures", PROBLEM_COLUMNS, problem_rows(pictures.problems))


def show_captions(pictures: Pictures, display: Display) -> None:
    """How many photos, and how many class images, have which caption."""
    for name, images in (("photos", pictures.photos), ("class images", pictures.given_priors)):
        if images:
            display.table("Captions", ("caption", name), _caption_rows(images))


def _caption_rows(images: Sequence[CaptionedPhoto]) -> list[tuple[str, str]]:
    """Captions in the order of their pictures; what is too much for a table is counted in its last row."""
    counts = list(Counter(one.caption for one in images).items())
    rows = [(caption, str(num)) for caption, num in counts[:_MOST_ROWS]]
    if more := counts[_MOST_ROWS:]:
        rows.append((f"and {len(more)} more", str(sum(num for _, num in more))))
    return rows


def same_picture_warnings(pictures: Pictures) -> list[str]:
    """Photos of the subject among the class images would teach that the class looks like the subject."""
    photos = {one.photo.digest: one.photo.path for one in pictures.photos}
    same = [one.photo for one in pictures.given_priors if one.photo.digest in photos]
    if not same:
        return []
    first = f"{same[0].path} is {photos[same[0].digest]}"
    return [f"{len(same)} of the class images are photos of the subject ({first}): remove them, or give another folder"]


def unseen_warnings(prior: PriorSettings, num_pictures: PerRole) -> list[str]:
    """What the original's pairs never show, however long the run; rounds show everything."""
    repeats = repeats_of(prior)
    if repeats is None:
        return []
    reached = drawing(num_pictures, repeats, seed=0).num_reached
    warnings = []
    if (seen := reached("prior")) < num_pictures.prior:
        enough = -(-num_pictures.prior // num_pictures.instance)
        warnings.append(
            f"original_pairing: an epoch has {seen} pairs ({num_pictures.instance} photos x {repeats.instance} repeats), so "
            f"{num_pictures.prior - seen} of {num_pictures.prior} class images will never be seen; "
            f"--photo-repeats {enough} reaches all"
        )
    if (seen := reached("instance")) < num_pictures.instance:
        enough = -(-num_pictures.instance // num_pictures.prior)
        warnings.append(
            f"original_pairing: an epoch has {seen} pairs ({num_pictures.prior} class images x {repeats.prior} repeats), so "
            f"{num_pictures.instance - seen} of {num_pictures.instance} photos will never be seen; "
            f"--prior-repeats {enough} reaches all"
        )
    return warnings


def check_apart(output: Path, photos: Path) -> None:
    """Raise SettingsError when pictures would be written where photos are looked for, which is in all folders below as well."""
    if output.resolve().is_relative_to(photos.resolve()):
        raise SettingsError(
            f"output is {output}: it lies in the folder of the photos, {photos}, so what is written there would be taken for "
            "photos the next time",
            hint="Choose another --output.",
        )
