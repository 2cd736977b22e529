"""The translation of an original command line: our settings, where each came from, and the messages about it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from dreambooth.compat.wording import in_original_words
from dreambooth.config import parse_settings
from dreambooth.errors import SettingsError
from dreambooth.schema.layers import laid_over, nested
from dreambooth.schema.presets import read_preset
from dreambooth.schema.verbs import TrainSettings

__all__ = ["HINT", "Collected", "Job", "Key", "settings_of", "truth", "without_slashes"]

HINT = "See `python main.py --help`; docs/reference/from-the-original.md explains each option and key."


@dataclass(frozen=True)
class Key:
    """A key of the YAML files: its value, and its name in messages."""

    value: Any
    name: str
    """The file and the dotted name, or the option that sets the key."""


@dataclass
class Collected:
    """Settings collected from an original command line: dotted path to value, and to the name used there."""

    values: dict[str, Any] = field(default_factory=dict)
    names: dict[str, str] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def set(self, path: str, value: Any, name: str) -> None:
        """Record one of our settings with its original name."""
        self.values[path] = value
        self.names[path] = name

    def default(self, path: str, value: Any) -> None:
        """Record the original program's default."""
        self.values.setdefault(path, value)

    def has_priors(self) -> bool:
        """Whether class images have a weight in the loss."""
        return str(self.values.get("prior.prior_weight", 1)) not in ("0", "0.0")


@dataclass(frozen=True)
class Job:
    """A training run requested by a command line of an original program."""

    settings: TrainSettings | None
    """None when a run is resumed with its own settings."""
    said: Mapping[str, Any]
    """Dotted path to value of the settings that were given, without defaults; a resumed run must agree with them."""
    problems: tuple[str, ...]
    """Problems of a command line that resumes a run; not raised yet."""
    notes: tuple[str, ...]
    is_debug: bool = False
    gpus: tuple[int, ...] = ()
    beside: Mapping[str, str] = field(default_factory=dict)
    """Path within the run's folder to the text of a file that the original program put there."""
    structure: Mapping[str, Key] = field(default_factory=dict)
    """Original keys that the checkpoint must agree with."""
    published: str | None = None
    """Second name of the models, outside the run folder, with the placeholder {steps}; None when there is none."""


def without_slashes(name: str) -> str:
    """A name in which slashes are replaced, so that the file stays in its folder."""
    return re.sub(r"[/\\]", "-", name)


def truth(value: object, name: str, collected: Collected) -> bool:
    """A boolean in the spellings of the original programs; anything else is recorded as a problem."""
    lowered = str(value).lower()
    if lowered not in ("yes", "true", "t", "y", "1", "no", "false", "f", "n", "0"):
        collected.problems.append(f"{name} is {str(value)!r}: expected true or false")
    return lowered in ("yes", "true", "t", "y", "1")


def settings_of(collected: Collected, *, is_later: bool) -> TrainSettings:
    """The collected settings on top of the preset `original`, validated by the settings schema, whose rules name our flags.

    Raises SettingsError with all problems, including those of the translation.
    """
    collected.default("subject.allow_silent_token", True)  # the original never looked; a warning remains
    given = nested(collected.values)
    where, below = read_preset("original")
    problems = list(collected.problems)
    settings = None
    try:
        values = laid_over(TrainSettings, below, given, where=where)
        with in_original_words(is_later=is_later):
            settings = parse_settings(TrainSettings, values, where="command line", names=collected.names)
    except SettingsError as error:
        problems += [problem for problem in error.problems if problem not in problems]
    if problems or settings is None:
        raise SettingsError(problems, hint=HINT)
    return settings
