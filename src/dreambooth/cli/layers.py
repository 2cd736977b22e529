"""Layers of settings: defaults, then a preset or a run's own settings, then the flags."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from dreambooth.cli.flags import Given
from dreambooth.cli.verbs import Verb
from dreambooth.config import Settings, read_yaml
from dreambooth.data.settings import SubjectSettings
from dreambooth.display import quoted
from dreambooth.errors import SettingsError
from dreambooth.schema.layers import layered_settings, value_at
from dreambooth.schema.leaves import Leaf, leaves
from dreambooth.schema.presets import read_preset

__all__ = ["changes_to_run", "settings_from"]

SettingsType = TypeVar("SettingsType", bound=Settings)


def settings_from(verb: Verb, record: type[SettingsType], given: Given) -> SettingsType:
    """Return the settings of a verb. Raises SettingsError listing every mistake in the command line and the preset."""
    preset = given.extra.get("preset")
    return _parse(verb, record, given, lambda: ("command line", {}) if preset is None else read_preset(preset, record))


def changes_to_run(verb: Verb, record: type[Settings], given: Given) -> dict[str, Any]:
    """Return {dotted path: value} for each flag given with `--resume RUN`, validated with the run's own settings.

    The recipe decides whether the run allows these changes, and whether the folder is a run at all.
    """
    if "preset" in given.extra:
        raise SettingsError("--resume uses the run's own settings, so --preset would have no effect; use only one of them")
    stored = Path(given.extra["resume"]) / "config.yaml"
    if not stored.is_file():
        return dict(given.values)
    _check_one_subject(verb, record, given, stored)
    settings = _parse(verb, record, given, lambda: (str(stored), read_yaml(stored)))
    return {path: value_at(settings, path) for path in given.values}


def _check_one_subject(verb: Verb, record: type[Settings], given: Given, stored: Path) -> None:
    """Raise SettingsError for flags of one subject if the run has a list of several, which it keeps."""
    section = read_yaml(stored).get("subject")
    if not (isinstance(section, dict) and section.get("subjects")):
        return
    one = {f"subject.{name}" for name in SubjectSettings.replaces["subjects"]}
    if useless := [_name(leaf, verb, given) for leaf in leaves(record) if leaf.path in one & given.values.keys()]:
        flags = " and ".join(useless)
        raise SettingsError(
            f"{stored} has subjects, which a resumed run keeps, so {flags} would have no effect",
            hint=f"Remove {flags}, or start a new run with one subject: dreambooth train --preset {quoted(stored)} "
            "--photos FOLDER --class-word WORD --token WORD --output NEW_FOLDER",
        )


def _parse(
    verb: Verb, record: type[SettingsType], given: Given, read_below: Callable[[], tuple[str, dict[str, Any]]]
) -> SettingsType:
    """Lay the flags over the values that `read_below` returns together with their source."""
    problems = list(given.problems)
    try:
        where, below = read_below()
        settings = layered_settings(record, given.values, below, where=where, name_of=lambda leaf: _name(leaf, verb, given))
    except SettingsError as error:
        broken = tuple(f"{_name(leaf, verb, given)} is missing" for leaf in leaves(record) if leaf.path in given.broken)
        problems += (problem for problem in error.problems if not problem.startswith(broken))
    if problems:
        raise SettingsError(problems, hint=f"See `{verb.command} --help`.")
    return settings


def _name(leaf: Leaf, verb: Verb, given: Given) -> str:
    return leaf.name.upper() if leaf.name in verb.positional else given.typed.get(leaf.path, leaf.flag)
