"""What is said about each picture.

A caption is a template in which {token} and {class_word} may stand. A .txt file beside a picture takes the place of the
template of the settings; in captions of class images only {class_word} may stand, for they must not teach the token.
Where captions come from names, these take the place of the template, and folders say what the placeholders stand for.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

from dreambooth.config import is_text
from dreambooth.data.file_name_captions import (
    Words,
    caption_of_class_image,
    caption_of_photo,
    class_of_class_image,
    words_of_photo,
)
from dreambooth.data.problems import PhotoProblem
from dreambooth.data.records import CaptionedPhoto, Photo
from dreambooth.data.settings import PriorSettings, SubjectSettings
from dreambooth.data.tags import tag_versions

__all__ = [
    "default_caption",
    "default_prior_caption",
    "empty_captions",
    "fill",
    "fixed",
    "instance_caption",
    "instance_captions",
    "named_settings",
    "named_subjects",
    "names_not_utf8",
    "place_in",
    "prior_caption",
    "settings_of",
    "without_gaps",
    "words_for",
]


def fill(template: str, *, token: str, class_word: str) -> str:
    """The template with {token} and {class_word} put in; doubled braces become single ones.

    Where the class word is empty, the blanks around it close up.
    """
    filled = template.format(token=token, class_word=class_word)
    return filled if class_word.strip() else without_gaps(filled)


def without_gaps(text: str) -> str:
    """The text with single blanks between its words and none around them."""
    return " ".join(text.split())


def fixed(caption: str) -> str:
    """A template that fills to `caption` exactly, whatever the words are."""
    return caption.replace("{", "{{").replace("}", "}}")


def default_caption(subject: SubjectSettings) -> str:
    """What is said about a photo of which nothing of its own is said."""
    template = subject.instance_prompt if subject.captions == "prompt" else "{token} {class_word}"
    return fill(template, token=subject.token, class_word=subject.class_word)


def default_prior_caption(prior: PriorSettings, subject: SubjectSettings) -> str:
    """What is said about a class image of which nothing of its own is said; made ones keep the prompt that made them."""
    has_names = subject.captions == "filename" and prior.prior_images is not None
    return fill("{class_word}" if has_names else prior.class_prompt, token="", class_word=subject.class_word)


def named_subjects(photos: Iterable[Photo], subject: SubjectSettings) -> tuple[Words, ...]:
    """What the subjects of the photos are called: several where the settings or names of folders say so."""
    return tuple(Words(one.token, one.class_word) for one in named_settings(photos, subject))


def named_settings(photos: Iterable[Photo], subject: SubjectSettings) -> tuple[SubjectSettings, ...]:
    """The settings of each subject of the photos, with its own words, in the order of the photos."""
    if subject.captions == "prompt" and not subject.subjects:
        return (subject,)
    named: dict[Words, SubjectSettings] = {}
    for photo in photos:
        named.setdefault(words_for(photo, subject), settings_of(photo, subject))
    updates = ({"token": words.token, "class_word": words.class_word} for words in named)
    return tuple(one.model_copy(update=update) for one, update in zip(named.values(), updates, strict=True))


def settings_of(photo: Photo, subject: SubjectSettings) -> SubjectSettings:
    """The settings of the subject whose folder holds a photo: these themselves, unless they list several subjects."""
    if not subject.subjects:
        return subject
    return next(one for one in subject.each() if photo.path.absolute().is_relative_to(one.photos.absolute()))


def words_for(photo: Photo, subject: SubjectSettings) -> Words:
    """What the subject of a photo is called: by its folders where captions come from names, else by its settings."""
    subject = settings_of(photo, subject)
    words = Words(subject.token, subject.class_word)
    return words if subject.captions == "prompt" else words_of_photo(place_in(subject.photos, photo), words)


def place_in(folder: Path, photo: Photo) -> Path:
    """Where a picture is within its folder, whichever of the two is given from where the program runs."""
    return photo.path.absolute().relative_to(folder.absolute())


def instance_caption(photo: Photo, subject: SubjectSettings) -> str:
    """The caption of a photo of the subject: its own where it has one, else its name or the instance prompt."""
    subject = settings_of(photo, subject)
    words = Words(subject.token, subject.class_word)
    if subject.captions == "filename":
        place = place_in(subject.photos, photo)
        if photo.caption is None:
            return caption_of_photo(place, words)
        words = words_of_photo(place, words)
    template = subject.instance_prompt if photo.caption is None else photo.caption
    return fill(template, token=words.token, class_word=words.class_word)


def instance_captions(photo: Photo, subject: SubjectSettings) -> CaptionedPhoto:
    """A photo of the subject with all its captions, in all orders of their tags."""
    token = words_for(photo, subject).token
    captions = [instance_caption(photo, subject)]
    captions += [instance_caption(replace(photo, caption=template), subject) for template in photo.other_captions]
    first, *others = (version for caption in captions for version in tag_versions(caption, subject, token=token))
    return CaptionedPhoto(photo, first, tuple(others))


def prior_caption(photo: Photo, prior: PriorSettings, subject: SubjectSettings, *, folder: Path) -> str:
    """The caption of a class image below `folder`: its own where it has one, else its name or the class prompt."""
    class_word = subject.class_word
    if subject.captions == "filename":
        place = place_in(folder, photo)
        if photo.caption is None:
            return caption_of_class_image(place, class_word=class_word)
        class_word = class_of_class_image(place, class_word=class_word)
    template = prior.class_prompt if photo.caption is None else photo.caption
    return fill(template, token="", class_word=class_word)  # no {token} gets this far


def names_not_utf8(images: Iterable[CaptionedPhoto], folder: Path) -> tuple[PhotoProblem, ...]:
    """An error for every picture below `folder` whose name, or that of its folder, must be read as text and cannot be."""
    advice = "Rename the file or its folder, or use --captions prompt."
    what = "has a name that is not UTF-8, so no caption can be read from it"
    return tuple(
        PhotoProblem(one.photo.path, "error", what, advice)
        for one in images
        if not is_text(one.caption) or not all(map(is_text, place_in(folder, one.photo).parts[:-1]))
    )


def empty_captions(images: Iterable[CaptionedPhoto], advice: str) -> tuple[PhotoProblem, ...]:
    """One error for every folder with pictures about which nothing would be said."""
    places = Counter(one.photo.path.parent for one in images if not one.caption.strip())
    return tuple(
        PhotoProblem(place, "error", f"contains {num} image{'s' if num > 1 else ''} without a caption", advice)
        for place, num in places.items()
    )
