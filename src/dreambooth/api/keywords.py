"""Converts keyword arguments to settings, with the flags' names, schema and messages."""

from __future__ import annotations

import os
import re
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import MappingProxyType
from typing import Any

from dreambooth.cli.synonyms import advice_for
from dreambooth.cli.terminal import hush_libraries, set_environment
from dreambooth.cli.verbs import VERBS
from dreambooth.config import Settings, nearest
from dreambooth.display import Display
from dreambooth.display_events import EventsDisplay
from dreambooth.display_silent import SilentDisplay
from dreambooth.errors import SettingsError
from dreambooth.schema.layers import layered_settings, value_at
from dreambooth.schema.leaves import Leaf, leaves
from dreambooth.schema.presets import read_preset

__all__ = ["Listener", "changes_from", "display_for", "given_only", "settings_from", "without_noise"]


_FLAG = re.compile(r"--(?P<no>no-)?(?P<name>[a-z][a-z0-9-]*)(?: (?P<value>[^?\s]+))?")

Listener = Callable[[dict[str, Any]], None]
"""Called with each event: a mapping whose "event" names its kind. An exception in it stops the work."""


def settings_from(
    verb: str,
    given: Mapping[str, object],
    *,
    preset: object = None,
    fixed: Mapping[str, object] = MappingProxyType({}),
    hidden: Iterable[str] = (),
) -> Any:
    """The settings of a command, from keyword arguments with the names of its flags.

    `preset` is a built-in preset or a YAML file that they override. `fixed` holds settings that are not arguments here, and
    `hidden` names further ones. Raises SettingsError with all problems at once; for an unknown name, it suggests the nearest
    valid one.
    """
    record = VERBS[verb].record()
    values, problems = _by_path(verb, record, given, (*fixed, *hidden))
    values |= _by_path(verb, record, fixed, ())[0]
    if preset is not None and not isinstance(preset, (str, os.PathLike)):
        problems.append(f"preset is {preset!r}: expected a built-in preset or a YAML file")
        preset = None
    typed = {new: old for old, new in VERBS[verb].former_names.items() if old in given}
    return _parsed(verb, record, values, problems, below=None if preset is None else os.fspath(preset), typed=typed)


def changes_from(run: Path, given: Mapping[str, object]) -> dict[str, Any]:
    """Maps the dotted path of each changed setting of a run to its value. Raises SettingsError as `settings_from` does."""
    record = VERBS["train"].record()
    values, problems = _by_path("train", record, given, ())
    stored = run / "config.yaml"
    if not stored.is_file():
        return values
    settings = _parsed("train", record, values, problems, below=str(stored))
    return {path: value_at(settings, path) for path in values}


def given_only(**arguments: object) -> dict[str, object]:
    """The arguments that are not None."""
    return {name: value for name, value in arguments.items() if value is not None}


def display_for(on_event: Listener | None) -> Display:
    """A silent display, which sends events to the listener if there is one. Raises SettingsError if it is not a function."""
    if on_event is not None and not callable(on_event):
        raise SettingsError(f"on_event is {on_event!r}: expected a function that takes one event")
    return SilentDisplay() if on_event is None else EventsDisplay(on_event)


@contextmanager
def without_noise() -> Iterator[None]:
    """Inside, libraries print nothing. Enter it before importing the first of them."""
    set_environment()
    with warnings.catch_warnings():
        hush_libraries()
        yield


def _by_path(
    verb: str, record: type[Settings], given: Mapping[str, object], hidden: Iterable[str]
) -> tuple[dict[str, Any], list[str]]:
    """The values by dotted path, and a sentence for each unknown name."""
    excluded = {*VERBS[verb].without, *hidden}
    known = {leaf.name: leaf for leaf in leaves(record) if leaf.name not in excluded}
    former = {old: new for old, new in VERBS[verb].former_names.items() if new in known}
    problems = [
        f"{old} is another name of {new}: use only one of them" for old, new in former.items() if {old, new} <= given.keys()
    ]
    known |= {old: known[new] for old, new in former.items()}
    for name in given:
        if name not in known:
            advice = None if name in excluded else _advice(verb, name, known)
            problems.append(f"unknown setting {name!r}" + (f"; {advice}" if advice is not None else ""))
    return {known[name].path: _plain(known[name], value) for name, value in given.items() if name in known}, problems


def _advice(verb: str, name: str, known: Mapping[str, Leaf]) -> str | None:
    """What to write instead of an unknown name: the name of a flag, of another trainer's option, or of something similar."""
    if name == "resume" and name in VERBS[verb].extra:
        return "to resume a run: dreambooth.open(FOLDER).resume()"
    positive = name.removeprefix("no_")
    if positive != name and positive in known and known[positive].is_switch:
        return f"did you mean {positive}=False?"
    names = {leaf.flag.removeprefix("--") for leaf in known.values()}
    names |= {f"no-{leaf.flag.removeprefix('--')}" for leaf in known.values() if leaf.is_switch}
    advice = advice_for(name.replace("_", "-"), names)
    if advice is not None:
        return _FLAG.sub(_as_keyword, advice)
    near = nearest(name, known)
    return None if near is None else f"did you mean {near!r}?"


def _as_keyword(flag: re.Match[str]) -> str:
    """`--prior-weight 1` as a keyword argument."""
    name, value = flag["name"].replace("-", "_"), flag["value"]
    if flag["no"]:
        return f"{name}=False"
    if value is None:
        return repr(name)
    return f"{name}={value if value[0].isdigit() and not value[-1].isalpha() else repr(value)}"


def _plain(leaf: Leaf, value: object) -> object:
    """Converts paths to text, and a single value to a list where several are allowed."""
    if isinstance(value, os.PathLike):
        value = os.fspath(value)
    if not leaf.is_list:
        return value
    if isinstance(value, str):
        return (value,)
    if isinstance(value, Iterable):
        return tuple(os.fspath(item) if isinstance(item, os.PathLike) else item for item in value)
    return value


def _parsed(
    verb: str,
    record: type[Settings],
    values: Mapping[str, Any],
    problems: list[str],
    *,
    below: str | None,
    typed: Mapping[str, str] = MappingProxyType({}),
) -> Any:
    settings = None
    where, low = "keyword arguments", dict[str, Any]()
    try:
        if below is not None:
            where, low = read_preset(below, record, argument="preset")
        settings = layered_settings(record, values, low, where=where, name_of=lambda leaf: typed.get(leaf.name, leaf.name))
    except SettingsError as error:
        problems = [*problems, *error.problems]
    if problems:
        raise SettingsError(problems, hint=f"All settings: `dreambooth {verb} --help`.")
    return settings
