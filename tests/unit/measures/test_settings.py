"""Which ways of measuring contradict each other."""

from __future__ import annotations

import pytest

from dreambooth.config import parse_settings
from dreambooth.errors import SettingsError
from dreambooth.measures.settings import EvaluationSettings, SelectionSettings


def test_an_earlier_model_has_no_more_pictures_than_the_last() -> None:
    with pytest.raises(SettingsError) as caught:
        parse_settings(EvaluationSettings, {"num_images": 2, "num_checkpoint_images": 3}, where="here")
    assert "num_checkpoint_images is 3 and num_images is 2" in caught.value.text
    assert "lower the first or raise the second" in caught.value.text


def test_as_many_or_none_are_allowed() -> None:
    for num in (0, 2):
        assert EvaluationSettings(num_images=2, num_checkpoint_images=num).num_checkpoint_images == num


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"select": "best"}, "evaluate_every is 0, so select would have no effect; add --evaluate-every N (for instance 100)"),
        ({"select": "best", "dino": "toybox"}, "or leave out --select, --dino"),
        ({"early_stop_margin": 0.1, "dino": "toybox"}, "evaluate_every is 0, so dino, early_stop_margin would have no effect"),
        ({"evaluate_every": 5, "early_stop_patience": 3}, "early_stop_margin is not set, so early_stop_patience would have"),
        (
            {"evaluate_every": 5, "balance_fidelity": 0, "balance_prompt": 0, "balance_prior": 0},
            "are all 0, so all steps would score the same",
        ),
    ],
)
def test_a_choice_without_effect_is_refused(values: dict[str, object], message: str) -> None:
    with pytest.raises(SettingsError) as caught:
        parse_settings(SelectionSettings, values, where="here")
    assert message in caught.value.text


def test_choosing_is_off_unless_asked_for() -> None:
    assert SelectionSettings().evaluate_every == 0
    assert SelectionSettings(evaluate_every=5, select="best", early_stop_margin=0.1, early_stop_patience=3).select == "best"
