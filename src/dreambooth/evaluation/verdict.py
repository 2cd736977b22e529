"""What the scores of an evaluation say, in sentences.

A difference counts as clear where the confidence intervals of the model and of its base model lie apart, so that no sentence
claims more than the table of scores shows.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from dreambooth.display import format_score
from dreambooth.evaluation.results import ModelScores
from dreambooth.measures.intervals import Score

__all__ = ["verdict"]

_MOST_OF_THE_WAY = 0.7


def verdict(found: ModelScores, *, is_earlier: bool = False) -> list[str]:
    """One sentence each on the subject (DINO), the prompts (CLIP-T) and the class (PRES and drift), as far as measured.

    Of a subject that `is_earlier`, the base model is the one that learned it.
    """
    if found.base is None:
        return []
    model, base = found.model.scores, found.base.scores
    sentences: dict[str, Callable[[Score, Score], str]] = {
        "DINO": _kept if is_earlier else partial(_subject, photos=found.photos.get("DINO")),
        "CLIP-T": _prompts,
        "PRES": partial(_class, drift=model.get("drift")),
    }
    return [say(model[name], base[name]) for name, say in sentences.items() if name in model and name in base]


def _subject(model: Score, base: Score, *, photos: Score | None) -> str:
    compared = f"DINO {format_score(model.value)}, base model {format_score(base.value)}"
    if not _is_above(model, base):
        return (
            f"The subject was not clearly learned: its images are no closer than the base model's to the photos ({compared})."
        )
    if photos is None or photos.value <= base.value:
        return f"The subject was learned: its images are closer to the photos than the base model's ({compared})."
    compared += f", photos among themselves {format_score(photos.value)}"
    way = (model.value - base.value) / (photos.value - base.value)
    if way >= 1:
        return f"The subject was learned: its images are as close to the photos as the photos are to each other ({compared})."
    how = "was learned" if way >= _MOST_OF_THE_WAY else "was learned in part"
    return f"The subject {how}: {way:.0%} of the way from the base model's images to the photos ({compared})."


def _kept(model: Score, before: Score) -> str:
    compared = f"(DINO {format_score(model.value)}, before this training {format_score(before.value)})"
    if _is_above(before, model):
        return f"The earlier subject was forgotten in part: its images are less close to the photos {compared}."
    return f"The earlier subject was kept: its images are about as close to the photos as before {compared}."


def _prompts(model: Score, base: Score) -> str:
    compared = f"(CLIP-T {format_score(model.value)}, base model {format_score(base.value)})"
    if _is_above(base, model):
        return f"The images follow their prompts less closely than the base model's {compared}."
    if _is_above(model, base):
        return f"The images follow their prompts more closely than the base model's {compared}."
    return f"The images follow their prompts about as closely as the base model's {compared}."


def _class(model: Score, base: Score, *, drift: Score | None) -> str:
    compared = f"PRES {format_score(model.value)}, base model {format_score(base.value)}"
    if drift is not None:
        compared += f"; drift {format_score(drift.value)}, 0 is unchanged"
    if _is_above(model, base):
        return f"The class moved toward the subject: its images are closer to the photos than before ({compared})."
    return f"The class did not clearly move toward the subject ({compared})."


def _is_above(one: Score, other: Score) -> bool:
    """Whether the interval of `one` lies above that of `other`; without intervals, the values decide."""
    low = one.value if one.low is None else one.low
    high = other.value if other.high is None else other.high
    return low > high
