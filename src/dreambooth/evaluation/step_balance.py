"""The steps of a run compared by one number each, the balance of subject, prompts and class: which of them is best."""

from __future__ import annotations

from collections.abc import Mapping

from dreambooth.evaluation.evaluator import Evaluator, Measured, Samples
from dreambooth.measures.balance import Balance, Weights, balance, best, smoothed
from dreambooth.measures.settings import SelectionSettings

__all__ = ["balances_by_step", "best_step_text"]


def balances_by_step(evaluator: Evaluator, by_step: Mapping[int, Measured], before: Samples | None) -> dict[int, Balance]:
    """The balance at each step, with the usual weights; empty without other steps or without a base model.

    `before` are the base model's samples of the evaluator's prompts.
    """
    if not by_step or before is None:
        return {}
    between, weights = evaluator.spans(before), Weights.of(SelectionSettings())
    found = {step: balance(measured.values, between, weights) for step, measured in by_step.items()}
    return {step: one for step, one in found.items() if one is not None}


def best_step_text(balances: Mapping[int, Balance]) -> str:
    """A sentence that names the best step of training (not the base model, step 0); empty if there is none."""
    values = {step: one.value for step, one in balances.items() if step > 0}
    if not values:
        return ""
    peak, averaged = best(values), smoothed(values)
    highest = (
        f"; averaged with its neighbors, {averaged[peak]:.3f}, the highest of {len(values)} steps" if len(values) > 1 else ""
    )
    text = f"Best step by the balance of subject, prompts and class: {peak}, with {values[peak]:.3f}{highest}."
    if 0 in balances and averaged[peak] <= balances[0].value:
        text += f" No step is above the base model's {balances[0].value:.3f}."
    return text
