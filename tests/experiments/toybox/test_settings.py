from __future__ import annotations

from typing import get_args

import pytest

from dreambooth.config import parse_settings
from dreambooth.errors import SettingsError
from experiments.toybox.settings import STAGES, PretrainSettings, StageName


def test_all_stages_are_done_in_order_when_nothing_is_said() -> None:
    assert PretrainSettings().stages == STAGES == get_args(StageName)


@pytest.mark.parametrize(
    ("values", "text"),
    [
        ({"stages": ["vae"]}, "vae"),
        ({"unet_steps": 0}, "unet_steps"),
        ({"num_pictures": 99}, "num_pictures"),
        ({"num_lookalike_pictures": 31}, "num_lookalike_pictures"),
        ({"eye_steps": 0}, "eye_steps"),
        ({"seed": -1}, "seed"),
        ({"steps": 3}, "steps"),
    ],
)
def test_values_that_cannot_be_meant_are_refused_by_name(values: dict[str, object], text: str) -> None:
    with pytest.raises(SettingsError, match=text):
        parse_settings(PretrainSettings, values, where="test")
