"""Which strength is named the best, and how its balance is shown."""

from __future__ import annotations

import pytest

from dreambooth.config import parse_settings
from dreambooth.errors import SettingsError
from dreambooth.evaluation.strengths import best_strength_text, strength_rows
from dreambooth.measures.balance import Balance
from dreambooth.measures.settings import EvaluationSettings


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({0.6: 0.5, 1.0: 0.7, 1.2: 0.6}, "The full strength has the highest balance."),
        ({0.8: 0.7, 1.0: 0.7}, "The full strength has the highest balance."),
        (
            {0.6: 0.8, 1.0: 0.7},
            "Strength 0.6 has the highest balance: dreambooth convert runs/rex FILE.safetensors --strength 0.6",
        ),
    ],
)
def test_the_best_is_named_with_its_command(values: dict[float, float], said: str) -> None:
    balances = {strength: Balance(value, value, None, value) for strength, value in values.items()}
    assert best_strength_text(balances, "runs/rex") == said


def test_a_part_that_nothing_measures_is_a_dash() -> None:
    assert strength_rows({0.5: Balance(0.61, 0.5, None, 0.72)}) == [("0.5", "0.61", "0.50", "-", "0.72")]


@pytest.mark.parametrize("strength", [0, -1, 2.5])
def test_the_base_model_is_no_strength_of_a_training(strength: float) -> None:
    """Strength 0 made the base model's images a second time and could name it the best strength."""
    with pytest.raises(SettingsError, match=r"'strengths'.* expected (more than 0|at most 2)"):
        parse_settings(EvaluationSettings, {"strengths": [0.5, strength]}, where="test")
