"""What a command line of an original program comes to: settings of ours, where each came from, and what to say about it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from dreambooth.config import parse_settings, without_silenced
from dreambooth.errors import SettingsError
from dreambooth.schema.layers import merged, nested
from dreambooth.schema.presets import read_preset
from dreambooth.schema.verbs import TrainSettings

__all__ = ["HINT", "Collected", "Job", "Key", "settings_of", "truth", "without_slashes"]

HINT = "See `python main.py --help`, and docs/reference/from-the-original.md for what each option and key does."


@dataclass(frozen=True)
class Key:
    """A key of the YAML files as it was given: its value, and what to call it in messages."""

    value: Any
    name: str
    """Its dotted name behind the file it is from, or the option that stands for it."""


@dataclass
class Collected:
    """Settings on their way from an original command line: dotted path to value, and the name each is known by there."""

    values: dict[str, Any] = field(default_factory=dict)
    names: dict[str, str] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def set(self, path: str, value: Any, name: str) -> None:
        """Take down a setting of ours under its original name."""
        self.values[path] = value
        self.names[path] = name

    def default(self, path: str, value: Any) -> None:
        """Take down what the original program did where nothing was said."""
        self.values.setdefault(path, value)

    def has_priors(self) -> bool:
        """Whether class images have a weight in the loss."""
        return str(self.values.get("prior.prior_weight", 1)) not in ("0", "0.0")


@dataclass(frozen=True)
class Job:
    """A training run that was asked for in an original program's way."""

    settings: TrainSettings | None
    """None where an older run goes on with its own."""
    said: Mapping[str, Any]
    """Dotted path to value of what was said, without what follows where nothing was: it must agree with a run that goes on."""
    problems: tuple[str, ...]
    """What is wrong with what was said, where an older run goes on and nobody has raised it yet."""
    notes: tuple[str, ...]
    is_debug: bool = False
    gpus: tuple[int, ...] = ()
    beside: Mapping[str, str] = field(default_factory=dict)
    """Path within the run's folder to the text of a file that the original program put there."""
    structure: Mapping[str, Key] = field(default_factory=dict)
    """Keys of the original language that the checkpoint must agree with."""
    published: str | None = None
    """What models are called outside of the run's folder, too, with a place for {steps}; None where that is not done."""


def without_slashes(name: str) -> str:
    """A part of a file's name that stays in its folder."""
    return re.sub(r"[/\\]", "-", name)


def truth(value: object, name: str, collected: Collected) -> bool:
    """A truth value as the original programs spelled it; anything else is noted as a problem."""
    lowered = str(value).lower()
    if lowered not in ("yes", "true", "t", "y", "1", "no", "false", "f", "n", "0"):
        collected.problems.append(f"{name} is {str(value)!r}: expected true or false")
    return lowered in ("yes", "true", "t", "y", "1")


def settings_of(collected: Collected) -> TrainSettings:
    """What was collected over the preset `original`, judged by the one schema.

    Raises SettingsError with everything that is wrong, of the translation too.
    """
    given = nested(collected.values)
    where, below = read_preset("original")
    problems = list(collected.problems)
    settings = None
    try:
        values = merged(without_silenced(TrainSettings, below, given), given, where)
        settings = parse_settings(TrainSettings, values, where="command line", names=collected.names)
    except SettingsError as error:
        problems += [problem for problem in error.problems if problem not in problems]
    if problems or settings is None:
        raise SettingsError(problems, hint=HINT)
    return settings
