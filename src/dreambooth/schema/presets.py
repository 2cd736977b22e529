"""Built-in presets and settings files given by the user."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from dreambooth import presets
from dreambooth.config import Settings, nearest, parse_settings, read_yaml
from dreambooth.data.settings import ONLY_TRAINED_ON
from dreambooth.errors import SettingsError
from dreambooth.schema.layers import laid_over
from dreambooth.schema.verbs import PlanSettings, PriorRecipeSettings, TrainSettings

__all__ = ["preset_names", "read_preset", "toybox_training"]


def preset_names() -> list[str]:
    """Names of the built-in presets."""
    return sorted(file.stem for file in _shipped().glob("*.yaml"))


def read_preset(name: str, record: type[Settings] = TrainSettings, *, argument: str = "--preset") -> tuple[str, dict[str, Any]]:
    """Read a built-in preset or a YAML file. Returns its name for messages, and its values for `record`.

    Sections that only training has are left out for another record; class images take their class, size and seed from them,
    and a plan takes the photos for their buckets.

    Raises SettingsError if no such preset or file exists or it is not a mapping.
    """
    if name in preset_names():
        return f"preset {name}", _for_record(read_yaml(_shipped() / f"{name}.yaml"), record)
    if Path(name).suffix in (".yaml", ".yml") or Path(name).exists():
        return name, _for_record(read_yaml(Path(name)), record)
    near = nearest(name, preset_names())
    raise SettingsError(
        f"{argument} is {name!r}: expected {', '.join(preset_names())} or a YAML file"
        + (f"; did you mean {near!r}?" if near else "")
    )


def _for_record(values: dict[str, Any], record: type[Settings]) -> dict[str, Any]:
    if record is PriorRecipeSettings:
        values = _for_class_images(values)
    if record is PlanSettings:
        values = {**values, **_photos_in_buckets(values)}
    only_training = TrainSettings.model_fields.keys() - record.model_fields.keys()
    return {name: value for name, value in values.items() if name not in only_training}


def _for_class_images(values: dict[str, Any]) -> dict[str, Any]:
    """The settings of a training, with those under which it generates class images in their places for `dreambooth prior`."""

    def at(section: str, name: str) -> Any:
        inner = values.get(section)
        return inner.get(name) if isinstance(inner, dict) else None

    prior, moved = values.get("prior"), {"class_word": ("subject", "class_word"), "resolution": ("views", "resolution")}
    found = {name: at(*place) for name, place in {**moved, "seed": ("loop", "seed")}.items()}
    if isinstance(prior, dict):
        values = {**values, "prior": {name: value for name, value in prior.items() if name not in ONLY_TRAINED_ON}}
    return {**values, **{name: value for name, value in found.items() if value is not None}}


def _photos_in_buckets(values: dict[str, Any]) -> dict[str, Any]:
    """The folders of photos of a training in buckets, whose sizes its memory depends on."""
    views, subject = values.get("views"), values.get("subject")
    if not isinstance(views, dict) or views.get("crop") != "bucket" or not isinstance(subject, dict):
        return {}
    listed = subject.get("subjects")
    each = listed if isinstance(listed, list) and listed else [subject]
    return {"photos": [one["photos"] for one in each if isinstance(one, dict) and "photos" in one]}


def _shipped() -> Path:
    return Path(presets.__path__[0])


def toybox_training(**changes: Mapping[str, object]) -> TrainSettings:
    """The settings of the toybox preset, with the given sections overriding it."""
    where, preset = read_preset("toybox")
    return parse_settings(TrainSettings, laid_over(TrainSettings, preset, changes, where=where), where=where)
