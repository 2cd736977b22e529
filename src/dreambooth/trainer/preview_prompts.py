"""The prompts of the preview images."""

from __future__ import annotations

from dreambooth.data.captions import default_caption, default_prior_caption, named_settings, without_gaps
from dreambooth.trainer.ready import Learned
from dreambooth.training.settings import OutputSettings

__all__ = ["preview_prompts"]

_MOST_PREVIEWED = 4  # of subjects that folders name, of which there may be hundreds


def preview_prompts(output: OutputSettings, learned: Learned) -> tuple[str, ...]:
    """The preview prompts, filled in for each listed subject, or for the first few of those that folders name."""
    subject, photos = learned.subject, [one.photo for one in learned.photos]
    asked = output.preview_prompts
    if not subject.has_class and not output.is_changed("preview_prompts"):
        asked = tuple(
            prompt for prompt in asked if "{class_prompt}" not in prompt
        )  # the default prompt for a class makes no sense without one
    most, prompts = len(subject.subjects) or _MOST_PREVIEWED, []
    for prompt in asked:
        for one in named_settings(photos, subject)[:most]:
            filled = prompt.format(
                token=one.token,
                class_word=one.class_word,
                instance_prompt=default_caption(one),
                class_prompt=default_prior_caption(learned.prior, one),
            )
            prompts.append(filled if one.has_class else without_gaps(filled))
    return tuple(dict.fromkeys(prompts))
