"""The photos and the given class images of a run with their captions, looked at before anything else is done with them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from dreambooth.data.captions import empty_captions, instance_captions, names_not_utf8, settings_of, words_for
from dreambooth.data.drawing import PerRole, Share, drawing, repeats_of
from dreambooth.data.focus import with_focus
from dreambooth.data.photos import MaskSource, PhotoReport, scan_photos
from dreambooth.data.prior_folders import PriorImages, also_prior_images, prior_images_from_folder
from dreambooth.data.problems import PhotoProblem
from dreambooth.data.records import CaptionedPhoto, Photo
from dreambooth.data.settings import Captions, PriorSettings, SubjectSettings, ViewSettings
from dreambooth.errors import SettingsError

__all__ = [
    "Pictures",
    "check_apart",
    "find_pictures",
    "same_picture_warnings",
    "scan_subjects",
    "shares_of",
    "unseen_warnings",
]

_ADVICE: dict[Captions, str] = {
    "prompt": "Give an --instance-prompt that is not empty.",
    "filename": "Write a caption after the @ of each name, or remove the @.",
}


@dataclass(frozen=True)
class Pictures:
    """What the folders that the person named hold."""

    photos: tuple[CaptionedPhoto, ...]
    given_priors: tuple[CaptionedPhoto, ...]
    """Class images; those that the base model makes come on top."""
    problems: tuple[PhotoProblem, ...]


def find_pictures(
    subject: SubjectSettings, prior: PriorSettings, *, resolution: int, views: ViewSettings | None = None
) -> Pictures:
    """Look at every file; nothing is raised for what is found. The photos of a subject follow one another."""
    masks = MaskSource(subject.mask_folder) if subject.masks else None
    report = scan_subjects(subject, resolution=resolution, masks=masks, views=views)
    photos = tuple(instance_captions(photo, subject) for photo in report.photos)
    given = _given_priors(subject, prior, resolution)
    return Pictures(
        photos=photos,
        given_priors=tuple(image for images in given for image in images.images),
        problems=(
            *report.problems,
            *(
                problem
                for one in subject.each()
                for problem in _of_subject(_caption_problems(photos, one, subject), one, subject)
            ),
            *(problem for images in given for problem in images.problems),
        ),
    )


def scan_subjects(
    subject: SubjectSettings, *, resolution: int, masks: MaskSource | None = None, views: ViewSettings | None = None
) -> PhotoReport:
    """The photos of all subjects in their order, and every problem; nothing is raised for what is found."""
    reports = [
        scan_photos(
            one.photos,
            role="instance",
            resolution=resolution,
            masks=masks,
            views=views,
        )
        for one in subject.each()
    ]
    photos = tuple(photo for report in reports for photo in report.photos)
    if clues := tuple(clue for report in reports for clue in report.clues):
        photos = with_focus(photos, clues, lambda photo: words_for(photo, subject))
    problems = (
        problem
        for one, report in zip(subject.each(), reports, strict=True)
        for problem in _of_subject(report.problems, one, subject)
    )
    return PhotoReport(photos, (*problems, *(_of_two_subjects(photos, subject) if subject.subjects else ())))


def _of_subject(problems: Iterable[PhotoProblem], one: SubjectSettings, subject: SubjectSettings) -> Iterator[PhotoProblem]:
    """The problems, with the name of the subject if the settings list several."""
    name = f"{one.token} {one.class_word}" if subject.subjects else ""
    return (replace(problem, subject=name) for problem in problems)


def _of_two_subjects(photos: Sequence[Photo], subject: SubjectSettings) -> Iterator[PhotoProblem]:
    """A warning for each photo that two subjects have; copies within one folder are reported with the folder."""
    first: dict[str, Photo] = {}
    for photo in photos:
        other = first.setdefault(photo.digest, photo)
        if settings_of(other, subject).token != settings_of(photo, subject).token:
            what = f"is also a photo of {settings_of(other, subject).token}: {other.path}"
            yield PhotoProblem(photo.path, "warning", what, "Remove one of them, or crop each to its subject.")


def _caption_problems(
    photos: Sequence[CaptionedPhoto], one: SubjectSettings, subject: SubjectSettings
) -> Iterator[PhotoProblem]:
    """The problems of the captions of one of the subjects."""
    own = [photo for photo in photos if settings_of(photo.photo, subject).photos == one.photos]
    yield from empty_captions(own, _ADVICE[one.captions])
    if one.captions == "filename":
        yield from names_not_utf8(own, one.photos)


def shares_of(photos: Sequence[Photo], subject: SubjectSettings) -> tuple[Share, ...]:
    """How often each of the listed subjects is shown, in the order of their photos; empty without such a list."""
    tokens = [settings_of(photo, subject).token for photo in photos]
    return tuple(Share(tokens.count(one.token), one.weight) for one in subject.subjects)


def _given_priors(subject: SubjectSettings, prior: PriorSettings, resolution: int) -> list[PriorImages]:
    """What is in the folders of class images that the person named."""
    given = [also_prior_images(folder, resolution=resolution) for folder in prior.also_prior]
    if (folder := prior.prior_images) is not None:
        given.insert(0, prior_images_from_folder(folder, prior=prior, subject=subject, resolution=resolution))
    folders = {one.prior_images.absolute(): one.class_word for one in subject.subjects if one.prior_images is not None}
    for folder, class_word in folders.items() if prior.prior_weight > 0 else ():
        named = subject.model_copy(update={"class_word": class_word, "captions": "prompt"})
        given.append(prior_images_from_folder(folder, prior=prior, subject=named, resolution=resolution))
    return given


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


def check_apart(output: Path, photos: Path, *, name: str = "output") -> None:
    """Raise SettingsError when pictures would be written where photos are looked for, which is in all folders below as well."""
    if output.resolve().is_relative_to(photos.resolve()):
        raise SettingsError(
            f"{name} is {output}: it is inside the photo folder {photos}, so its images would be used as photos next time",
            hint=f"Choose another --{name.replace('_', '-')}.",
        )
