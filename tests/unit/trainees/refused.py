"""Settings of `train` that are refused."""

from __future__ import annotations

from typing import Any

import pytest

from dreambooth.config import parse_settings
from dreambooth.errors import SettingsError
from dreambooth.schema.verbs import TrainSettings

__all__ = ["RUN", "assert_refused"]

RUN: dict[str, Any] = {"base": {"model": "toybox"}, "subject": {"photos": "photos", "class_word": "dog"}}


def assert_refused(sections: dict[str, Any], problem: str) -> None:
    """`RUN` with these sections is refused, and one of the problems says `problem`."""
    with pytest.raises(SettingsError) as raised:
        parse_settings(TrainSettings, {**RUN, **sections}, where="command line")
    assert problem in "; ".join(raised.value.problems)
