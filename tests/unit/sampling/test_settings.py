from __future__ import annotations

from typing import Any

import pytest

from dreambooth.config import parse_settings
from dreambooth.errors import SettingsError
from dreambooth.sampling.settings import SampleSettings


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"eta": 0.5, "sampler": "plms"}, "eta applies only to the ddim sampler and would have no effect with plms; omit it"),
        ({"guidance_scale": 1, "negative_prompt": "dark"}, "guidance_scale is 1, so negative_prompt would have no effect"),
    ],
)
def test_options_without_effect_are_refused(values: dict[str, Any], message: str) -> None:
    with pytest.raises(SettingsError, match=message):
        parse_settings(SampleSettings, values, where="here")


def test_the_defaults_stand() -> None:
    settings = SampleSettings()
    assert (settings.sampler, settings.sampling_steps, settings.guidance_scale, settings.seed) == ("ddim", 50, 7.5, 42)
