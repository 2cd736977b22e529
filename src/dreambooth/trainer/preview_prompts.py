"""The prompts of the preview images, and those that the end of a training suggests."""

from __future__ import annotations

from collections.abc import Sequence

from dreambooth.data.captions import default_caption, default_prior_caption, named_settings, without_gaps
from dreambooth.data.records import CaptionedPhoto
from dreambooth.data.settings import PriorSettings, SubjectSettings
from dreambooth.trainer.caption_checks import is_silent
from dreambooth.training.settings import OutputSettings

__all__ = ["preview_prompts", "prompts_to_try"]

_MOST_PREVIEWED = 4  # of subjects that folders name, of which there may be hundreds


def preview_prompts(
    output: OutputSettings, subject: SubjectSettings, prior: PriorSettings, photos: Sequence[CaptionedPhoto]
) -> tuple[str, ...]:
    """The preview prompts, filled in for each listed subject, or for the first few of those that folders name.

    Without photos, which may be gone after the training, they are those of the settings alone.
    """
    asked = output.preview_prompts
    if not subject.has_class and not output.is_changed("preview_prompts"):
        asked = tuple(
            prompt for prompt in asked if "{class_prompt}" not in prompt
        )  # the default prompt for a class makes no sense without one
    most, prompts = len(subject.subjects) or _MOST_PREVIEWED, []
    for prompt in asked:
        for one in named_settings((one.photo for one in photos), subject)[:most] or (subject,):
            filled = prompt.format(
                token=one.token,
                class_word=one.class_word,
                instance_prompt=default_caption(one),
                class_prompt=default_prior_caption(prior, one),
            )
            prompts.append(filled if one.has_class else without_gaps(filled))
    return tuple(dict.fromkeys(prompts))


def prompts_to_try(previewed: Sequence[str], subject: SubjectSettings, photos: Sequence[CaptionedPhoto]) -> list[str]:
    """One prompt for each subject of a list; else the first preview prompt, or a caption if no photo says the token."""
    if subject.subjects:
        return [default_caption(one) for one in subject.each()]
    prompt = previewed[0] if previewed else subject.token
    captions = {said for one in photos for said in one.captions}
    is_said = not photos or any(caption in prompt for caption in captions) or not is_silent(photos, subject.token)
    return [prompt if is_said else photos[0].caption]
