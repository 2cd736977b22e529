"""What is said about each picture.

A caption is a template in which {token} and {class_word} may stand. A .txt file beside a picture takes the place of the
template of the settings; in captions of class images only {class_word} may stand, for they must not teach the token.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from dreambooth.data.settings import PriorSettings, SubjectSettings, check_template
from dreambooth.errors import PhotoError

if TYPE_CHECKING:
    from dreambooth.data.photos import Photo

__all__ = ["CaptionedPhoto", "Role", "fill", "fixed", "instance_caption", "prior_caption", "read_caption"]

Role = Literal["instance", "prior"]
"""What a picture is for: a photo of the subject, or a class image."""

_PLACEHOLDERS: dict[Role, frozenset[str]] = {
    "instance": frozenset({"token", "class_word"}),
    "prior": frozenset({"class_word"}),
}


@dataclass(frozen=True)
class CaptionedPhoto:
    """A picture and what is said about it, with every placeholder filled in."""

    photo: Photo
    caption: str


def fill(template: str, *, token: str, class_word: str) -> str:
    """The template with {token} and {class_word} put in; doubled braces become single ones."""
    return template.format(token=token, class_word=class_word)


def fixed(caption: str) -> str:
    """A template that fills to `caption` exactly, whatever the words are."""
    return caption.replace("{", "{{").replace("}", "}}")


def instance_caption(photo: Photo, subject: SubjectSettings) -> str:
    """The caption of a photo of the subject: its own where it has one, else the instance prompt."""
    template = subject.instance_prompt if photo.caption is None else photo.caption
    return fill(template, token=subject.token, class_word=subject.class_word)


def prior_caption(photo: Photo, prior: PriorSettings, class_word: str) -> str:
    """The caption of a class image: its own where it has one, else the class prompt."""
    template = prior.class_prompt if photo.caption is None else photo.caption
    return fill(template, token="", class_word=class_word)  # no {token} gets this far


def read_caption(path: Path, *, role: Role) -> str | None:
    """The caption in a text file: lines joined by single spaces; None when there is nothing in it.

    Raises PhotoError, with the problem without the file's name and the advice as its hint, when the file cannot be read, is
    not UTF-8 (a byte order mark is allowed) or has a placeholder that is not known for the role.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise PhotoError("is not UTF-8 text", hint="Save the caption again as UTF-8.") from error
    except OSError as error:
        raise PhotoError(f"cannot be read: {error.strerror}", hint="Allow reading it, or remove it.") from error
    caption = " ".join(text.split())
    if not caption:
        return None
    try:
        return check_template(caption, _PLACEHOLDERS[role])
    except ValueError as error:
        raise PhotoError(str(error), hint="Change the caption; a brace that is meant to stay is written twice.") from error
