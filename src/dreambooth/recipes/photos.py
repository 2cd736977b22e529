"""`dreambooth photos`: the check of the photos that training makes, and a sheet of every view that it would see."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from dreambooth.data.buckets import Buckets, bucket_sizes
from dreambooth.data.captions import named_settings, words_for
from dreambooth.data.decoding import Pixels
from dreambooth.data.file_name_captions import Words
from dreambooth.data.focus import cropped_around
from dreambooth.data.folder_layouts import crop_warnings, layout_warnings
from dreambooth.data.mask_rendering import mask_weights, render_mask
from dreambooth.data.masks import read_transparency
from dreambooth.data.photos import read_pixels
from dreambooth.data.pictures import Pictures, check_apart, find_pictures, same_picture_warnings
from dreambooth.data.problems import PROBLEM_COLUMNS, problem_rows, raise_if_errors
from dreambooth.data.records import CaptionedPhoto, Photo
from dreambooth.data.settings import PriorSettings
from dreambooth.data.size import Size
from dreambooth.data.views import View, all_training_views, render_view
from dreambooth.display import Display, counted
from dreambooth.families.clip_tokenizer import load_clip_tokenizer
from dreambooth.pages.photo_check import CheckedPhoto, write_photo_page, write_photo_sheet
from dreambooth.pages.settings import PhotoCheckSettings
from dreambooth.trainer.caption_checks import caption_warnings, check_token_is_said
from dreambooth.trainer.photo_folders import with_photo_folders
from dreambooth.trainer.preflight_tables import show_captions, show_warnings
from dreambooth.trainer.problems import Problems

__all__ = ["PhotoCheck", "check_photos", "drawn_view"]

_USUAL_RESOLUTION = 512
_DOWNSAMPLING = 8  # of every real model
_SHOWN_SIDE = 192
"""Longer side in pixels of a view in the sheet."""


@dataclass(frozen=True)
class PhotoCheck:
    """What was written, and how many photos can be used."""

    page: Path
    sheets: tuple[Path, ...]
    num_photos: int
    num_class_images: int


def check_photos(settings: PhotoCheckSettings, display: Display) -> PhotoCheck:
    """Show every problem of the photos and captions, and write a page and a sheet of the views of the usable photos.

    Raises PhotoError with every problem that would keep training from starting, after the page is written, and SettingsError
    when the output lies inside the folder of photos.
    """
    subject = with_photo_folders(settings.subject, settings.output / "photo-archives")
    settings = settings.model_copy(update={"subject": subject})
    for one in settings.subject.each():
        check_apart(settings.output, one.photos)
    prior = (
        PriorSettings(prior_weight=0) if settings.prior_images is None else PriorSettings(prior_images=settings.prior_images)
    )
    size = Size.square(settings.views.resolution or _USUAL_RESOLUTION)
    pictures = find_pictures(settings.subject, prior, resolution=size.shorter_side, views=settings.views)
    show_warnings(pictures.problems, display)
    show_captions(pictures, display)
    warnings = _warnings(pictures, settings, prior)
    for warning in warnings:
        display.warn(warning)
    page, sheets = settings.output / "photos.html", tuple[Path, ...]()
    if pictures.photos:
        shown = _shown(pictures.photos, settings)
        checked = list(_checked(shown, settings, size, display))
        page = write_photo_page(
            page,
            checked,
            about=_about(pictures, settings, size),
            problems=[PROBLEM_COLUMNS, *problem_rows(pictures.problems)],
            warnings=warnings,
        )
        sheets = write_photo_sheet(settings.output / "photos.png", checked)
        display.say(f"The views of {counted(len(shown), 'photo')}: {page} and {', '.join(map(str, sheets))}")
    problems = Problems()
    problems.attempt(lambda: raise_if_errors(pictures.problems))
    if pictures.photos:
        problems.attempt(lambda: check_token_is_said(pictures, settings.subject))
    problems.raise_if_any()
    display.say(_about(pictures, settings, size))
    return PhotoCheck(page, sheets, len(pictures.photos), len(pictures.given_priors))


def _shown(photos: Sequence[CaptionedPhoto], settings: PhotoCheckSettings) -> list[CaptionedPhoto]:
    """The photos whose views are shown, in their order; of several subjects equally many of each, as far as there are any."""
    seen, ranks = Counter[Words](), list[int]()
    for one in photos:
        words = words_for(one.photo, settings.subject)
        ranks.append(seen[words])
        seen[words] += 1
    first = sorted(range(len(photos)), key=lambda place: ranks[place])[: settings.most_photos]
    return [photos[place] for place in sorted(first)]


def _warnings(pictures: Pictures, settings: PhotoCheckSettings, prior: PriorSettings) -> list[str]:
    warnings = [
        *same_picture_warnings(pictures),
        *layout_warnings(pictures, settings.subject, prior),
        *crop_warnings(pictures, settings.views),
        *caption_warnings(pictures, settings.subject, prior, load_clip_tokenizer()),
    ]
    return list(dict.fromkeys(warnings))


def _about(pictures: Pictures, settings: PhotoCheckSettings, size: Size) -> str:
    masked = sum(one.photo.mask is not None for one in pictures.photos)
    num_subjects = len(named_settings((one.photo for one in pictures.photos), settings.subject))
    of_all = f" of {num_subjects} subjects" if num_subjects > 1 else ""
    parts = [f"{counted(len(pictures.photos), 'photo')}{of_all} can be used at {size} px"]
    parts += [f"{masked} with a mask"] if masked else []
    parts += [counted(len(pictures.given_priors), "class image")] if settings.prior_images is not None else []
    return ", ".join(parts)


def _checked(
    photos: Sequence[CaptionedPhoto], settings: PhotoCheckSettings, size: Size, display: Display
) -> Iterator[CheckedPhoto]:
    """Each photo with all its views; what a mask leaves out is darker, by its weight."""
    buckets = bucket_sizes(size.shorter_side, _DOWNSAMPLING) if settings.views.crop == "bucket" else Buckets(size)
    with display.progress("drawing views", len(photos), "photos") as advance:
        for one in photos:
            pixels = read_pixels(one.photo.path, background=settings.views.background)
            views = all_training_views(one.photo, settings.views, buckets.of(one.photo), settings.seed, "instance")
            images = [drawn_view(pixels, one.photo, view, settings.subject.mask_weight) for view in views]
            around = cropped_around(one.photo) if settings.views.crop == "subject" else None
            words = words_for(one.photo, settings.subject)
            subject = f"{words.token} {words.class_word}".strip()
            yield CheckedPhoto(one.photo.path.name, one.captions, tuple(images), around, subject)
            advance(1)


def drawn_view(pixels: Pixels, photo: Photo, view: View, outside: float) -> NDArray[np.uint8]:
    """A view in the sheet's size, (H, W, 3); what a mask leaves out is darker, by its weight `outside`."""
    scale = min(1.0, _SHOWN_SIDE / max(view.size.height, view.size.width))
    size = Size(max(1, round(view.size.height * scale)), max(1, round(view.size.width * scale)))
    small = View(size, view.top, view.left, view.height, view.width, view.flip)
    image = (render_view(pixels, small).permute(1, 2, 0) + 1) / 2
    if photo.mask is not None:
        mask_hw = render_mask(read_transparency(photo), photo, small, size)
        if (weights_hw := mask_weights(mask_hw, outside)) is not None:
            image = image * (0.25 + 0.75 * weights_hw / weights_hw.max()).unsqueeze(-1)
    drawn: NDArray[np.uint8] = (image.clamp(0, 1) * 255).round().byte().numpy()
    return drawn
