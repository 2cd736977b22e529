"""A model scored at several strengths, from few images: which of them balances subject, prompts and class best."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path

import torch

from dreambooth.display import Display
from dreambooth.errors import SettingsError
from dreambooth.evaluation.evaluator import Evaluator, Samples
from dreambooth.evaluation.models import Models
from dreambooth.evaluation.results import ModelScores
from dreambooth.measures.balance import Balance, Weights, balance
from dreambooth.measures.settings import EvaluationSettings, SelectionSettings
from dreambooth.pictures.sample_cache import SampleCache
from dreambooth.sampling.settings import SampleSettings
from dreambooth.weights.strength import at_strength

__all__ = ["balances_by_strength", "best_strength_text", "check_strengths", "strength_rows"]


def check_strengths(evaluation: EvaluationSettings, models: Models) -> None:
    """Raise SettingsError if strengths are to be scored and there are none: without a base model, or for a learned word."""
    if evaluation.strengths and models.measured.words:
        raise SettingsError("a learned word has no strength, so strengths cannot be scored; omit --strengths")
    if evaluation.strengths and models.base is None:
        raise SettingsError("strengths are counted from the base model, and there is none", hint="Give it with --base MODEL.")


def balances_by_strength(
    models: Models,
    evaluators: Sequence[Evaluator],
    scores: Sequence[ModelScores],
    evaluation: EvaluationSettings,
    *,
    sample: SampleSettings,
    folder: Path,
    device: torch.device,
    display: Display,
) -> list[dict[float, Balance]]:
    """For each evaluator, the balance at each strength and at 1; empty without strengths or without a base model.

    One strength at a time is in memory. Images are kept in `folder`, so an interrupted evaluation resumes.
    """
    if not evaluation.strengths or models.base is None:
        return [{} for _ in evaluators]
    num_images = max(1, evaluation.num_checkpoint_images)
    few = [evaluator.fewer(num_images) for evaluator in evaluators]
    made: list[dict[float, Samples]] = [
        {1.0: one.after.fewer(evaluator.prompt_set)} for one, evaluator in zip(scores, few, strict=True)
    ]
    for strength in sorted({*evaluation.strengths} - {1.0}):
        model, name = at_strength(models.measured, models.base, strength), f"strength-{strength:g}"
        cache = SampleCache(folder / name, model, f"{models.measured.report.source} at strength {strength:g}", sample, device)
        for evaluator, samples in zip(few, made, strict=True):
            samples[strength] = evaluator.samples(partial(cache.make, display=display))
    return [_balances(*one) for one in zip(few, scores, made, strict=True)]


def _balances(evaluator: Evaluator, scores: ModelScores, made: Mapping[float, Samples]) -> dict[float, Balance]:
    assert scores.before is not None, "there is a base model"
    before, weights = scores.before.fewer(evaluator.prompt_set), Weights.of(SelectionSettings())
    between = evaluator.spans(before)
    found = {one: balance(evaluator.score(made[one], before=before).values, between, weights) for one in sorted(made)}
    return {strength: one for strength, one in found.items() if one is not None}


def strength_rows(balances: Mapping[float, Balance]) -> list[tuple[str, ...]]:
    """The rows of a table with the report's STRENGTH_COLUMNS."""
    return [
        (
            f"{strength:g}",
            *("-" if value is None else f"{value:.2f}" for value in (one.value, one.fidelity, one.prompt, one.prior)),
        )
        for strength, one in balances.items()
    ]


def best_strength_text(balances: Mapping[float, Balance], model: str) -> str:
    """Which strength has the highest balance, and how to use it."""
    best = max(balances, key=lambda strength: (balances[strength].value, -abs(strength - 1)))
    if best == 1:
        return "The full strength has the highest balance."
    return f"Strength {best:g} has the highest balance: dreambooth convert {model} FILE.safetensors --strength {best:g}"
