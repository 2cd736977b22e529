"""Whether the captions teach what they should: they say the token, and the model reads them to their end."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from dreambooth.data.captions import fill, named_subjects, settings_of, words_for
from dreambooth.data.file_name_captions import Words
from dreambooth.data.pictures import Pictures
from dreambooth.data.prior_prompts import class_prompts
from dreambooth.data.records import CaptionedPhoto
from dreambooth.data.settings import PriorSettings, SubjectSettings
from dreambooth.data.tags import num_tags
from dreambooth.display import counted, quoted
from dreambooth.errors import PhotoError
from dreambooth.families.tokens import is_rare, says
from dreambooth.sampling.prompts import cut_warnings
from dreambooth.trainer.class_examples import classes_without_images

__all__ = ["caption_warnings", "check_token_is_said", "class_prompt_warnings", "is_silent"]

_MOST_CUT = 5


@dataclass(frozen=True)
class _Subject:
    """A subject, its photos, and those of them in whose captions the model does not read its token."""

    words: Words
    photos: tuple[CaptionedPhoto, ...]
    silent: tuple[CaptionedPhoto, ...]

    @property
    def where(self) -> str:
        """How the first of the silent captions fails."""
        name, caption = self.silent[0].photo.path.name, self.silent[0].caption
        if says(caption, self.words.token, is_cut=False):
            return f"in that of {name} it stands beyond the 75 tokens that the model reads: '{_shortened(caption)}'"
        return f"that of {name} is '{_shortened(caption)}'"


def _subjects(pictures: Pictures, subject: SubjectSettings) -> Iterator[_Subject]:
    for words in named_subjects((one.photo for one in pictures.photos), subject):
        photos = _apart(one for one in pictures.photos if words_for(one.photo, subject) == words)
        yield _Subject(words, photos, tuple(one for one in photos if not says(one.caption, words.token)))


def _apart(images: Iterable[CaptionedPhoto]) -> tuple[CaptionedPhoto, ...]:
    """Every caption of every picture as a picture of its own; versions of one caption count once."""
    return tuple(CaptionedPhoto(one.photo, caption) for one in images for caption in dict.fromkeys(one.captions))


def check_token_is_said(pictures: Pictures, subject: SubjectSettings) -> None:
    """Raise PhotoError for each subject whose token no caption says, unless the settings allow that."""
    if subject.allow_silent_token:
        return
    problems, hints = list[str](), dict[str, None]()
    for one in _subjects(pictures, subject):
        if one.silent and one.silent == one.photos:
            num = counted(len(one.photos), "caption")
            problems.append(f"none of the {num} says the token '{one.words.token}', so it would not be learned; {one.where}")
            hints.update(dict.fromkeys(_hints(one, settings_of(one.photos[0].photo, subject))))
    if problems:
        raise PhotoError(problems, hint="\n".join([*hints, "To train with these captions anyway: --allow-silent-token"]))


def _hints(one: _Subject, subject: SubjectSettings) -> Iterator[str]:
    other = _other_token([photo.caption for photo in one.silent], one.words)
    if other is not None and subject.captions == "prompt":
        yield f"If '{other}' is the token: --token {quoted(other)}"
    if subject.captions == "filename":
        yield "Write S into the names, where the token belongs: 001@S asleep.jpg"
    elif any(photo.photo.caption is not None for photo in one.silent):
        yield "Write {token} into the caption files, where the token belongs: photo of a {token} {class_word}"
    else:
        yield 'Say the token early in the prompt: --instance-prompt "photo of a {token} {class_word}"'


def _other_token(captions: Sequence[str], words: Words) -> str | None:
    """A rare word that all captions say: most likely the one that was meant."""
    said = [dict.fromkeys(word.strip(".,;:!?()[]\"'") for word in caption.split()) for caption in captions]
    common = (word for word in said[0] if all(word in others for others in said))
    known = {word.lower() for word in (*words.class_word.split(), words.token)}
    return next((word for word in common if word and word.lower() not in known and is_rare(word)), None)


def is_silent(photos: Sequence[CaptionedPhoto], token: str) -> bool:
    """Whether no caption says the token."""
    return not any(says(caption, token) for caption in {one.caption for one in _apart(photos)})


def caption_warnings(pictures: Pictures, subject: SubjectSettings, prior: PriorSettings, tokenizer: Any) -> list[str]:
    """Sentences about captions without the token, class images with it, and words that the model does not read."""
    warnings, priors = list[str](), _apart(pictures.given_priors)
    for one in _subjects(pictures, subject):
        token = one.words.token
        if one.silent:
            verb = "does" if len(one.silent) == 1 else "do"
            num = counted(len(one.photos), "caption")
            warnings.append(f"{len(one.silent)} of {num} {verb} not say the token '{token}': {one.where}")
        if (telling := [image for image in priors if says(image.caption, token)]) and token.strip():
            num, first = counted(len(priors), "class image"), telling[0]
            warnings.append(
                f"the captions of {len(telling)} of {num} say the token '{token}', which teaches it as the name of the class: "
                f"that of {first.photo.path.name} is '{_shortened(first.caption)}'"
            )
    warnings += _cut(tokenizer, [one.caption for one in _apart((*pictures.photos, *pictures.given_priors))])
    warnings += _tag_warnings(pictures.photos, subject)
    if prior.prior_weight > 0 and prior.prior_images is None:
        for word in classes_without_images(subject):
            prompts = [fill(template, token="", class_word=word) for template in class_prompts(prior)]
            warnings += class_prompt_warnings(prompts, word, tokenizer)
    return warnings


def _tag_warnings(photos: Sequence[CaptionedPhoto], subject: SubjectSettings) -> list[str]:
    """A sentence when there are no tags to shuffle or to leave out."""
    names = subject.is_changed("shuffle_tags", "tag_dropout")
    if not names or any(num_tags(caption) > subject.keep_tags for one in photos for caption in one.captions):
        return []
    return [
        f"{' and '.join(names)} {'has' if len(names) == 1 else 'have'} no effect: no caption has more than "
        f"{counted(subject.keep_tags, 'comma-separated tag')}, which stay{'s' if subject.keep_tags == 1 else ''} (--keep-tags)"
    ]


def class_prompt_warnings(prompts: Iterable[str], class_word: str, tokenizer: Any) -> list[str]:
    """Sentences about class prompts that do not say what class images should show, and about words that are not read.

    The empty prompt is left out: it is meant to say nothing.
    """
    said = [prompt for prompt in prompts if prompt]
    silent = [prompt for prompt in said if not says(prompt, class_word)]
    warnings = []
    if silent:
        first = f"'{_shortened(silent[0])}'"
        which = f"the class prompt {first} does not" if len(said) == 1 else f"{len(silent)} of {len(said)} class prompts do not"
        example = "" if len(said) == 1 else f" (the first: {first})"
        warnings.append(f"{which} say the class word '{class_word}'{example}, so the class images will show something else")
    return [*warnings, *_cut(tokenizer, said)]


def _cut(tokenizer: Any, prompts: Iterable[str]) -> list[str]:
    """The sentences about words that the model does not read, at most a few of them."""
    cut = cut_warnings(tokenizer, prompts)
    more = len(cut) - _MOST_CUT
    if more <= 0:
        return cut
    return [*cut[:_MOST_CUT], f"{counted(more, 'more text')} {'is' if more == 1 else 'are'} cut as well"]


def _shortened(text: str, length: int = 80) -> str:
    return text if len(text) <= length else f"{text[:length]}..."
