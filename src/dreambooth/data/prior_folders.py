"""Folders of class images that somebody gives: real photos, or sets made earlier.

Only the pictures of such a set are used, not the latents beside them: its latents are numbers of the VAE of the model that
made it, which need not be the one that trains now.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from dreambooth.data.captions import empty_captions, fill, names_not_utf8, prior_caption
from dreambooth.data.listing import MANIFEST_NAME
from dreambooth.data.photos import PhotoReport, scan_photos
from dreambooth.data.prior_sets import prompt_of_set
from dreambooth.data.problems import PhotoProblem
from dreambooth.data.records import CaptionedPhoto
from dreambooth.data.settings import Captions, PriorSettings, SubjectSettings
from dreambooth.errors import PhotoError

__all__ = ["PriorImages", "also_prior_images", "prior_images_from_folder"]

_ADVICE: dict[Captions, str] = {
    "prompt": "Give a --class-prompt, or add a .txt file with a caption for each image.",
    "filename": "Use folders named after their class, give a --class-word, or write a caption after the @ of each name.",
}


@dataclass(frozen=True)
class PriorImages:
    """The usable class images of a folder with their captions, and every problem found."""

    images: tuple[CaptionedPhoto, ...]
    problems: tuple[PhotoProblem, ...]


def prior_images_from_folder(folder: Path, *, prior: PriorSettings, subject: SubjectSettings, resolution: int) -> PriorImages:
    """All pictures below `folder` as class images of the subject's class.

    The caption of each is the .txt beside it, else the prompt that made the set it lies in, else its name or the class prompt.
    """
    report, prompts = _look_at(folder, resolution)
    images: list[CaptionedPhoto] = []
    for photo in report.photos:
        prompt = prompts[photo.path.parent] if photo.caption is None else None
        caption = prior_caption(photo, prior, subject, folder=folder) if prompt is None else prompt
        others = [replace(photo, caption=template) for template in photo.other_captions]
        more = tuple(prior_caption(other, prior, subject, folder=folder) for other in others)
        images.append(CaptionedPhoto(photo, caption, more))
    empty = empty_captions(images, _ADVICE[subject.captions])
    odd = names_not_utf8(images, folder) if subject.captions == "filename" else ()
    return PriorImages(tuple(images), (*report.problems, *empty, *odd))


def also_prior_images(folder: Path, *, resolution: int) -> PriorImages:
    """All pictures below `folder` as class images of an earlier subject, whose class word is not known here.

    The caption of each is the .txt beside it, in which no placeholder may stand, else the prompt that made the set it lies
    in. A picture with neither is an error.
    """
    report, prompts = _look_at(folder, resolution)
    images: list[CaptionedPhoto] = []
    problems = list(report.problems)
    num_silent = 0
    for photo in report.photos:
        templates = () if photo.caption is None else (photo.caption, *photo.other_captions)
        if any(map(_names_class_word, templates)):
            what = "has {class_word} in its caption, but the class word of an earlier subject is unknown"
            problems.append(PhotoProblem(photo.path, "error", what, "Write the class word itself into the .txt file."))
        elif templates:
            first, *others = (fill(template, token="", class_word="") for template in templates)
            images.append(CaptionedPhoto(photo, first, tuple(others)))
        elif (prompt := prompts[photo.path.parent]) is not None:
            images.append(CaptionedPhoto(photo, prompt))
        else:
            num_silent += 1
    if num_silent:
        what = f"contains {num_silent} class images without a caption"
        advice = "Add a .txt file with a caption for each, or give a set made by `dreambooth prior` (it has a manifest.json)."
        problems.append(PhotoProblem(folder, "error", what, advice))
    return PriorImages(tuple(images), tuple(problems))


def _look_at(folder: Path, resolution: int) -> tuple[PhotoReport, dict[Path, str | None]]:
    """The pictures below `folder`, and for each folder among them the prompt that made it, if anything says so."""
    if (folder / "config.yaml").is_file() and (folder / "events.jsonl").is_file():
        advice = "Give the folder of its class images: a set such as class-images/<class word>-<key>, next to the run folder."
        problem = PhotoProblem(folder, "error", "is a run folder; its images are previews, not class images", advice)
        return PhotoReport((), (problem,)), {}
    report = scan_photos(folder, role="prior", resolution=resolution)
    problems = list(report.problems)
    places = dict.fromkeys(photo.path.parent for photo in report.photos)
    prompts = {place: _prompt(place, problems) for place in places}
    return PhotoReport(report.photos, tuple(problems)), prompts


def _prompt(place: Path, problems: list[PhotoProblem]) -> str | None:
    try:
        return prompt_of_set(place)
    except PhotoError as error:
        path = place / MANIFEST_NAME
        problems.append(PhotoProblem(path, "error", error.problems[0].removeprefix(f"{path}: "), error.hint or "Remove it."))
        return None


def _names_class_word(caption: str) -> bool:
    return fill(caption, token="", class_word="a") != fill(caption, token="", class_word="b")
