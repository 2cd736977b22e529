"""The results of an evaluation by subject, and the record of all its scores."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import torch
from torch import Tensor

from dreambooth import __version__
from dreambooth.evaluation.evaluator import Encoders, Evaluator, Measured, Samples
from dreambooth.evaluation.target import EvaluationTarget
from dreambooth.measures.balance import Balance
from dreambooth.measures.intervals import CONFIDENCE, Score
from dreambooth.measures.metrics import Copying
from dreambooth.measures.settings import EvaluationSettings
from dreambooth.weights.model_weights import ModelWeights

__all__ = ["ModelScores", "Results", "SubjectResults", "alarm_text", "encoders_text", "scores_record"]


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


def scores_record(results: Results) -> dict[str, Any]:
    """All scores and their inputs as plain values for JSON; for several subjects, one such record per name."""
    records = [_record(one) for one in results.subjects]
    if results.confusion_KK is None:
        return records[0]
    names = results.names
    return {
        "subjects": dict(zip(names, records, strict=True)),
        "confusion": {
            "encoder": results.subjects[0].evaluator.encoders.dino.name,
            "shares": {
                name: dict(zip(names, shares, strict=True))
                for name, shares in zip(names, results.confusion_KK.tolist(), strict=True)
            },
        },
    }


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


def _record(result: SubjectResults) -> dict[str, Any]:
    found, asked, prompt_set, encoders = (
        result.found,
        result.asked,
        result.evaluator.prompt_set,
        result.evaluator.encoders,
    )
    models = {"model": (asked.model, result.model)}
    if result.base is not None and asked.base is not None:
        models["base"] = (asked.base.model, result.base)
    return {
        "scores": {
            "model": _score_records(found.model),
            "base": None if found.base is None else _score_records(found.base),
            "photos": [_score_record(score) for score in found.photos.values()],
        },
        "copying": _copying_record(found.model.copying, encoders.distance_name),
        "by_step": {
            str(step): {
                "scores": _score_records(measured),
                "copying": _copying_record(measured.copying, encoders.distance_name),
            }
            for step, measured in found.by_step.items()
        },
        "by_strength": {f"{strength:g}": asdict(one) for strength, one in found.by_strength.items()},
        "confidence": CONFIDENCE,
        "prompts": list(prompt_set.prompts),
        "descriptions": list(prompt_set.descriptions),
        "class_prompt": prompt_set.class_prompt,
        "token": asked.subject.token,
        "class_word": asked.subject.class_word,
        "photos": [{"name": photo.path.name, "sha256": photo.digest} for photo in asked.photos],
        "models": {role: {"name": name, "digest": model.digest()} for role, (name, model) in models.items()},
        "step": found.step,
        "encoders": {
            "dino": {"name": encoders.dino.name, "digest": encoders.dino.digest},
            "clip": {"name": encoders.clip.name, "digest": encoders.clip.digest},
            "distance": {"name": encoders.distance_name},
        },
        "settings": result.evaluation.model_dump(mode="json"),
        "side": result.model.family.resolution,
        "versions": {"dreambooth": __version__, "torch": torch.__version__},
    }


def _score_records(measured: Measured) -> list[dict[str, Any]]:
    return [_score_record(score) for score in measured.scores.values()]


def _score_record(score: Score) -> dict[str, Any]:
    return {"name": score.name, "value": score.value, "low": score.low, "high": score.high, "encoder": score.encoder}


def _copying_record(found: Copying | None, distance: str) -> dict[str, Any] | None:
    if found is None:
        return None
    return {"share": found.share, "spread": found.spread, "is_alarming": found.is_alarming, "distance": distance}
