"""The list of subjects that `dreambooth batch` reads: settings for all, and those of each."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dreambooth.config import nearest, parse_settings, read_yaml
from dreambooth.data.settings import SubjectSettings
from dreambooth.errors import SettingsError
from dreambooth.reading import shown_value
from dreambooth.schema.layers import laid_over
from dreambooth.schema.leaves import leaves
from dreambooth.schema.presets import read_preset
from dreambooth.schema.verbs import TrainSettings

__all__ = ["SHARED_FOLDERS", "Manifest", "read_manifest"]

SHARED_FOLDERS = ("batch", "class-images", "latent-cache", "photo-archives", "prior-predictions")
"""Folders beside the runs, which no subject may be named after."""

_PARTS = ("preset", "defaults", "subjects")
_NAME = re.compile(r"\w[\w .-]{0,99}(?<![ .])")
_CHOSEN_HERE = {
    ("output", "output"): "each subject is trained in a folder of its name below --output",
    ("loop", "device"): "the device is chosen for all subjects, by --device",
}
_TYPED = {"False": "no, off or false", "True": "yes, on or true", "None": "null, ~ or nothing"}  # what YAML reads as these
_EXAMPLE = "subjects:\n  rex:\n    photos: photos/rex\n    class_word: dog"


@dataclass(frozen=True)
class Manifest:
    """The subjects of a list by name."""

    names: tuple[str, ...]
    """All of them, in the order of the list."""
    trainings: Mapping[str, TrainSettings]
    """The settings of each subject without a mistake; the run's folder is `output`/NAME."""
    problems: Mapping[str, SettingsError]
    """What is wrong with the settings of each other subject."""


def read_manifest(path: Path, output: Path) -> Manifest:
    """Read a list of subjects whose runs are below `output`.

    The settings of a subject are its own, laid over `defaults`, laid over `preset`. Raises SettingsError for mistakes that
    concern no single subject.
    """
    values = read_yaml(path)
    if unknown := [name for name in values if name not in _PARTS]:
        raise SettingsError([_unknown_part(path, name) for name in unknown])
    subjects = values.get("subjects")
    if not isinstance(subjects, dict) or not subjects:
        raise SettingsError(f"{path}: expected subjects by name under 'subjects:'", hint=f"For example:\n{_EXAMPLE}")
    if problems := list(_problems_of_names(path, subjects)):
        raise SettingsError(problems)
    below = _settings_of_all(path, values)
    trainings, wrong = dict[str, TrainSettings](), dict[str, SettingsError]()
    for name, own in subjects.items():
        try:
            trainings[name] = _training(path, name, own, below=below, output=output)
        except SettingsError as error:
            wrong[name] = error
    return Manifest(tuple(subjects), trainings, wrong)


def _unknown_part(path: Path, name: str) -> str:
    near = nearest(name, _PARTS)
    return f"{path}: unknown part '{name}': expected {', '.join(_PARTS)}" + (f"; did you mean '{near}'?" if near else "")


def _problems_of_names(path: Path, subjects: Mapping[Any, Any]) -> list[str]:
    problems, seen = list[str](), dict[str, str]()
    for name in subjects:
        if not isinstance(name, str):
            shown = _TYPED.get(repr(name), shown_value(name))
            problems.append(f"{path}: subject {shown}: expected a name for its folder; put the name in quotes")
        elif _NAME.fullmatch(name) is None:
            problems.append(
                f"{path}: subject {shown_value(name)}: expected a name for its folder: up to 100 letters, digits, "
                "spaces, dots, dashes and underscores, beginning with a letter or digit"
            )
        elif name.lower() in SHARED_FOLDERS:
            problems.append(f"{path}: subject {name!r}: the folder of this name is for all subjects; choose another name")
        elif (other := seen.setdefault(name.lower(), name)) != name:
            problems.append(f"{path}: subjects {other!r} and {name!r} would share a folder where capitals make no difference")
    return problems


@dataclass(frozen=True)
class _Below:
    """The settings below those of each subject."""

    where: str
    """The place that they come from."""
    values: Mapping[str, Any]
    names: Mapping[str, str]
    """What messages call those of the preset, by dotted path."""


def _settings_of_all(path: Path, values: Mapping[str, Any]) -> _Below:
    preset, defaults = values.get("preset"), values.get("defaults")
    if preset is not None and not isinstance(preset, str):
        raise SettingsError(f"{path}: preset is {shown_value(preset)}: expected the name of a preset or a YAML file")
    if defaults is not None and not isinstance(defaults, dict):
        raise SettingsError(f"{path}: defaults is {shown_value(defaults)}: expected a mapping of settings")
    where, low = (f"{path}: defaults", {}) if preset is None else read_preset(preset, argument=f"{path}: preset")
    if "subjects" in low:
        raise SettingsError(f"{path}: preset is {preset!r}: it is a list of subjects, not a preset")
    own = _with_sections(defaults or {}, where=f"{path}: defaults")
    names = _without(own, dict(_names(low, where)))
    return _Below(where, laid_over(TrainSettings, low, own, where=where), names)


def _names(preset: Mapping[Any, Any], where: str, section: str = "") -> Iterator[tuple[str, str]]:
    """What messages call each setting of a preset, by dotted path."""
    known = {part for leaf in leaves(TrainSettings) for part in (leaf.path, *map(str, leaf.path.split(".")[:1]))}
    for key, value in preset.items():
        setting = f"{section}{key}"
        yield setting, f"{where}: {'' if setting in known else 'unknown setting '}'{setting}'"
        if isinstance(value, dict):
            yield from _names(value, where, f"{setting}.")


def _without(above: Mapping[str, Any], names: Mapping[str, str]) -> dict[str, str]:
    """The names of those settings that the ones above them do not replace."""

    def is_replaced(setting: str) -> bool:
        section, _, field = setting.partition(".")
        values = above.get(section, {})
        return not isinstance(values, dict) or field in values

    return {setting: name for setting, name in names.items() if not is_replaced(setting)}


def _training(path: Path, name: str, own: Any, *, below: _Below, output: Path) -> TrainSettings:
    if not isinstance(own, dict):
        shown = "empty" if own is None else shown_value(own)
        raise SettingsError(f"{path}: the subject is {shown}: expected a mapping of settings")
    high = _with_sections(own, where=str(path))
    values = laid_over(TrainSettings, below.values, high, where=below.where)
    values = laid_over(TrainSettings, values, {"output": {"output": output / name}}, where=below.where)
    return parse_settings(TrainSettings, values, where=str(path), names=_without(high, below.names) or None)


def _with_sections(values: Mapping[Any, Any], *, where: str) -> dict[str, Any]:
    """Settings by section; those of the section `subject` may stand without it. Raises SettingsError for what is not free."""
    problems, sorted_values = list[str](), dict[str, Any]()
    in_section = values.get("subject")
    subject = dict(in_section) if isinstance(in_section, dict) else {}
    for key, value in values.items():
        if key in SubjectSettings.model_fields and key not in TrainSettings.model_fields:
            if key in subject:
                problems.append(f"{where}: '{key}' is also in the section subject; use only one of them")
            subject[key] = value
        elif not isinstance(key, str):
            problems.append(f"{where}: expected names of settings, found {shown_value(key)}")
        else:
            sorted_values[key] = value
    for (section, field), why in _CHOSEN_HERE.items():
        if isinstance(sorted_values.get(section), dict) and field in sorted_values[section]:
            problems.append(f"{where}: '{section}.{field}' has no effect: {why}; remove it")
    if problems:
        raise SettingsError(problems)
    if subject and (in_section is None or isinstance(in_section, dict)):
        sorted_values["subject"] = subject
    return sorted_values
