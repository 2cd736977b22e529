"""The record of all scores of an evaluation, and of what they were measured with, as plain values for JSON."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import torch

from dreambooth import __version__
from dreambooth.evaluation.evaluator import Measured
from dreambooth.evaluation.results import Results, SubjectResults
from dreambooth.evaluation.step_balance import best_step_text
from dreambooth.evaluation.verdict import verdict
from dreambooth.measures.balance import best
from dreambooth.measures.intervals import CONFIDENCE, Score
from dreambooth.measures.metrics import Copying

__all__ = ["scores_record"]


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
                "balance": asdict(found.balances[step]) if step in found.balances else None,
            }
            for step, measured in found.by_step.items()
        },
        "best_step": _best_step(result),
        "verdict": verdict(found, is_earlier=asked.is_earlier),
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


def _best_step(result: SubjectResults) -> dict[str, Any] | None:
    """The step with the best balance, and the sentence about it; None if no steps were compared."""
    values = {step: one.value for step, one in result.found.balances.items() if step > 0}
    return {"step": best(values), "text": best_step_text(result.found.balances)} if values else None
