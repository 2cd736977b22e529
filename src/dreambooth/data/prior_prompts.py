"""Class prompts: one, or a list that asks for the class in places, colors and styles.

A prior that only knows "photo of a dog" holds only that in place. Prompts are templates with {class_word}; the line "" is the
empty prompt, which guidance uses.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from dreambooth.data.captions import fill, words_for
from dreambooth.data.records import CaptionedPhoto
from dreambooth.data.settings import PriorSettings, SubjectSettings
from dreambooth.errors import SettingsError
from dreambooth.files import expanded
from dreambooth.reading import check_template, read_text, reason_of

__all__ = ["class_prompts", "photos_as_class_examples", "subject_prompts"]

_BUNDLED = "varied"
_EMPTY = '""'


def class_prompts(prior: PriorSettings) -> tuple[str, ...]:
    """The templates of all class prompts. Raises SettingsError with every problem of their file."""
    if prior.prior_prompts is None:
        return (prior.class_prompt,)
    path = expanded(Path(prior.prior_prompts))
    if prior.prior_prompts == _BUNDLED:
        path = Path(__file__).with_name("varied_prompts.txt")
    try:
        lines = read_text(path).splitlines()
    except (OSError, ValueError) as error:
        reason = "it is not UTF-8 text" if isinstance(error, UnicodeDecodeError) else reason_of(error)
        raise SettingsError(
            f"prior_prompts: {path} cannot be read ({reason})",
            hint=f"Give a text file with one class prompt per line, or --prior-prompts {_BUNDLED} for the bundled list.",
        ) from error
    prompts = [line.strip() for line in lines if line.strip() and not line.lstrip().startswith("#")]
    _check(prompts, path)
    return tuple(dict.fromkeys("" if prompt == _EMPTY else prompt for prompt in prompts))


def subject_prompts(prompt: str, name: str) -> tuple[str, ...]:
    """Prompts for images of a subject that a model knows: the one it was trained with, and the bundled list with its name."""
    varied = (template.format(class_word=name) for template in class_prompts(PriorSettings(prior_prompts=_BUNDLED)) if template)
    return tuple(dict.fromkeys((prompt, *varied)))


def _check(prompts: list[str], path: Path) -> None:
    problems = []
    for prompt in prompts:
        try:
            check_template(prompt, frozenset({"class_word"}))
        except ValueError as error:
            problems.append(f"prior_prompts: {path}: {error}")
    if not prompts:
        problems.append(f"prior_prompts: {path} holds no prompt")
    if problems:
        raise SettingsError(
            problems, hint='Write one prompt per line, such as: photo of a {class_word} on the beach; "" is empty.'
        )


def photos_as_class_examples(
    photos: Iterable[CaptionedPhoto], prior: PriorSettings, subject: SubjectSettings
) -> tuple[CaptionedPhoto, ...]:
    """Every photo under every class caption, with the class word of its own subject."""
    prompts = class_prompts(prior)
    return tuple(
        CaptionedPhoto(one.photo, fill(prompt, token="", class_word=words_for(one.photo, subject).class_word))
        for one in photos
        for prompt in prompts
    )
