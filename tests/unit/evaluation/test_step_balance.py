"""The best step of a run is named by its balance, and held against the base model's."""

from __future__ import annotations

from dreambooth.evaluation.step_balance import best_step_text
from dreambooth.measures.balance import Balance


def balances(*values: float) -> dict[int, Balance]:
    return {10 * place: Balance(value, value, value, value) for place, value in enumerate(values)}


def test_the_best_step_is_named_with_what_was_gained() -> None:
    assert best_step_text(balances(0.5, 0.6, 0.8, 0.7)) == (
        "Best step by the balance of subject, prompts and class: 20, with 0.800; averaged with its neighbors, 0.725, "
        "the highest of 3 steps."
    )


def test_a_run_that_gained_nothing_is_told_so() -> None:
    assert best_step_text(balances(0.5, 0.4)) == (
        "Best step by the balance of subject, prompts and class: 10, with 0.400. No step is above the base model's 0.500."
    )


def test_the_base_model_is_no_step() -> None:
    assert best_step_text(balances(0.5)) == best_step_text({}) == ""
