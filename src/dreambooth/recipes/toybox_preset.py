"""The preset `toybox` for recipes that train on the embedded model themselves."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from dreambooth import presets
from dreambooth.config import parse_settings, read_yaml, without_silenced
from dreambooth.schema.verbs import TrainSettings

__all__ = ["toybox_training"]


def toybox_training(**changes: Mapping[str, object]) -> TrainSettings:
    """The settings of the preset with these sections' values over it."""
    preset = without_silenced(TrainSettings, read_yaml(Path(presets.__path__[0]) / "toybox.yaml"), changes)
    merged = {name: {**preset.get(name, {}), **changes.get(name, {})} for name in {**preset, **changes}}
    return parse_settings(TrainSettings, merged, where="preset toybox")
