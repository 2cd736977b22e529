"""The results of an evaluation by subject."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from torch import Tensor

from dreambooth.evaluation.evaluator import Encoders, Evaluator, Measured, Samples
from dreambooth.evaluation.target import EvaluationTarget
from dreambooth.measures.balance import Balance
from dreambooth.measures.intervals import Score
from dreambooth.measures.settings import EvaluationSettings
from dreambooth.weights.model_weights import ModelWeights

__all__ = ["ModelScores", "Results", "SubjectResults", "alarm_text", "encoders_text"]


@dataclass(frozen=True)
class ModelScores:
    """All scores of a subject, and the images they were computed from."""

    model: Measured
    base: Measured | None
    photos: Mapping[str, Score]
    by_step: Mapping[int, Measured]
    """Scores by training step, from fewer images; empty if the run has no other models."""
    after: Samples
    before: Samples | None
    step: int
    """Training step of the model; 0 if unknown."""
    by_strength: Mapping[float, Balance] = field(default_factory=dict)
    """Balance by strength of the training, from fewer images; empty unless asked for."""
    balances: Mapping[int, Balance] = field(default_factory=dict)
    """Balance by training step, 0 for the base model, from the same images as `by_step`."""


@dataclass(frozen=True)
class SubjectResults:
    """The settings, models and scores of one subject's evaluation."""

    evaluation: EvaluationSettings
    asked: EvaluationTarget
    evaluator: Evaluator
    model: ModelWeights
    base: ModelWeights | None
    found: ModelScores


@dataclass(frozen=True)
class Results:
    """The results of all evaluated subjects, with the same models and encoders."""

    subjects: tuple[SubjectResults, ...]
    confusion_KK: Tensor | None
    """Row i, column j: the share of subject i's images most like photos of subject j; None for a single subject."""

    @property
    def names(self) -> tuple[str, ...]:
        """The unique names of the subjects."""
        return tuple(one.asked.name for one in self.subjects)


def encoders_text(encoders: Encoders) -> dict[str, str]:
    """The encoder of each score."""
    return {
        "DINO, PRES and drift by": encoders.dino.name,
        "CLIP-I and CLIP-T by": encoders.clip.name,
        "DIV and copies by": encoders.distance_name,
    }


def alarm_text(result: SubjectResults) -> str:
    """The sentence about copies."""
    found = result.found.model.copying
    if found is None:
        reason = "there is only one photo" if len(result.evaluator.photos) == 1 else "all photos are identical"
        return f"Copies: not measured, because {reason}."
    is_own = result.asked.has_own_photos
    share = f"Copies: {found.share:.0%} of images look nearly identical to a {'training ' if is_own else ''}photo"
    if found.is_alarming:
        return (
            f"{share}, above the warning threshold of 50%. The model reproduces its photos instead of generating new views: "
            "use an earlier model of the run, train for fewer steps, or add more varied photos."
        )
    return f"{share} (warning above 50%).{'' if is_own else ' Training photos outside this set were not compared.'}"
