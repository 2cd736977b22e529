"""The prompts of an evaluation, and the guidance scale of its images."""

from __future__ import annotations

from collections.abc import Sequence

from dreambooth.data.captions import fill
from dreambooth.data.settings import PriorSettings, SubjectSettings
from dreambooth.evaluation.evaluator import PromptSet
from dreambooth.evaluation.prompts import SubjectPrompt, read_subject_prompts, subject_prompt
from dreambooth.measures.settings import EvaluationSettings
from dreambooth.toybox.world import PLACES

__all__ = ["class_prompt_of", "prompt_set_of", "subject_prompt_set", "usual_guidance_scale", "with_guidance_scale"]

_PLACES = (
    *("on a sandy beach", "in fresh snow", "on a cobbled street", "in front of a mountain lake"),
    *("on a sunlit wooden floor", "on a striped blanket", "among autumn leaves", "in a city at night"),
)
_GUIDANCE_SCALE, _TOYBOX_GUIDANCE_SCALE = 7.5, 3.0


def subject_prompt_set(
    subject: SubjectSettings, evaluation: EvaluationSettings, *, class_prompt: str | None, is_toybox: bool
) -> PromptSet:
    """The prompts of a file, or the subject in eight places: those of the small rendered world when `is_toybox`.

    Raises SettingsError with everything that is wrong in the file.
    """
    if evaluation.prompts is not None:
        prompts = read_subject_prompts(evaluation.prompts, subject)
    else:
        places = PLACES.values() if is_toybox else _PLACES
        prompts = tuple(subject_prompt(f"photo of a {{token}} {{class_word}} {place}", subject) for place in places)
    return prompt_set_of(prompts, evaluation, class_prompt=class_prompt)


def prompt_set_of(prompts: Sequence[SubjectPrompt], evaluation: EvaluationSettings, *, class_prompt: str | None) -> PromptSet:
    """These prompts, with the numbers of images from the settings."""
    return PromptSet(
        prompts=tuple(one.prompt for one in prompts),
        descriptions=tuple(one.description for one in prompts),
        class_prompt=class_prompt,
        num_images=evaluation.num_images,
        num_class_images=evaluation.num_class_images,
    )


def class_prompt_of(subject: SubjectSettings, prior: PriorSettings) -> str | None:
    """The prompt of the subject's class; None if the class has no name."""
    return fill(prior.class_prompt, token="", class_word=subject.class_word) if subject.has_class else None


def usual_guidance_scale(*, is_toybox: bool) -> float:
    """Default guidance scale of evaluated images."""
    return _TOYBOX_GUIDANCE_SCALE if is_toybox else _GUIDANCE_SCALE


def with_guidance_scale(evaluation: EvaluationSettings, *, is_toybox: bool) -> EvaluationSettings:
    """The settings with the guidance scale filled in, whose default depends on the model."""
    if evaluation.guidance_scale is not None:
        return evaluation
    return evaluation.model_copy(update={"guidance_scale": usual_guidance_scale(is_toybox=is_toybox)})
