"""Layers of settings: defaults, then a preset or a run's own settings, then the flags."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

from dreambooth.cli.flags import Given
from dreambooth.cli.verbs import Verb
from dreambooth.config import Settings, parse_settings, read_yaml, section_default, without_silenced
from dreambooth.errors import SettingsError
from dreambooth.schema.layers import merged, nested
from dreambooth.schema.leaves import leaves
from dreambooth.schema.presets import read_preset

__all__ = ["changes_to_run", "settings_from"]

SettingsType = TypeVar("SettingsType", bound=Settings)


def settings_from(verb: Verb, record: type[SettingsType], given: Given) -> SettingsType:
    """Return the settings of a verb. Raises SettingsError listing every mistake in the command line and the preset."""
    preset = given.extra.get("preset")
    return _parse(verb, record, given, lambda: ("command line", {}) if preset is None else read_preset(preset))


def changes_to_run(verb: Verb, record: type[Settings], given: Given) -> dict[str, Any]:
    """Return {dotted path: value} for each flag given with `--resume RUN`, validated with the run's own settings.

    The recipe decides whether the run allows these changes, and whether the folder is a run at all.
    """
    if "preset" in given.extra:
        raise SettingsError("--resume uses the run's own settings, so --preset would have no effect; use only one of them")
    stored = Path(given.extra["resume"]) / "config.yaml"
    if not stored.is_file():
        return dict(given.values)
    settings = _parse(verb, record, given, lambda: (str(stored), read_yaml(stored)))
    return {path: _value_at(settings, path) for path in given.values}


def _parse(
    verb: Verb, record: type[SettingsType], given: Given, read_below: Callable[[], tuple[str, dict[str, Any]]]
) -> SettingsType:
    """Lay the flags over the values that `read_below` returns together with their source."""
    problems = list(given.problems)
    try:
        where, below = read_below()
        flags = nested(given.values)
        below = without_silenced(record, below, flags)
        values = merged(merged(_section_defaults(record), below, where), flags, where)
        settings = parse_settings(record, values, where=where, names=_names(verb, record, below, given))
    except SettingsError as error:
        problems += error.problems
    if problems:
        raise SettingsError(problems, hint=f"See `{verb.command} --help`.")
    return settings


def _section_defaults(record: type[Settings]) -> dict[str, Any]:
    made = {name: section_default(record, name) for name in record.model_fields}
    return {name: section.model_dump(exclude_unset=True) for name, section in made.items() if section is not None}


def _names(verb: Verb, record: type[Settings], below: Mapping[str, Any], given: Given) -> dict[str, str]:
    """Names for messages: settings are called by their flag, unless only a file sets them."""
    return {
        leaf.path: leaf.name.upper() if leaf.name in verb.positional else leaf.flag
        for leaf in leaves(record)
        if leaf.path in given.values or not _is_in(below, leaf.path)
    }


def _is_in(tree: Any, path: str) -> bool:
    for name in path.split("."):
        if not isinstance(tree, Mapping) or name not in tree:
            return False
        tree = tree[name]
    return True


def _value_at(settings: Any, path: str) -> Any:
    for name in path.split("."):
        settings = getattr(settings, name)
    return settings
