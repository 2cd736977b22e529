"""How a recipe speaks: a protocol for sentences, tables and progress, and the words that all of its texts share.

`display_console.py` shows everything on a terminal, `display_silent.py` shows nothing, and `display_events.py` hands
records to a program.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, Protocol

__all__ = ["Display", "Row", "TrainingStatus", "counted", "format_duration", "format_rate", "format_score", "listed", "quoted"]


@dataclass(frozen=True)
class Row:
    """One line of the table that is shown while a model trains."""

    name: str
    value: str
    is_detail: bool = False
    """Whether it is left out where there is room for one line alone."""


@dataclass(frozen=True)
class TrainingStatus:
    """What is shown of a training after a step, as text."""

    step: int
    time_left: str
    rows: tuple[Row, ...]


class Display(Protocol):
    """Where a recipe's sentences, tables and progress go."""

    def say(self, text: str) -> None:
        """Show a sentence, or several lines, as they are."""

    def warn(self, text: str) -> None:
        """Show a sentence that says what may go wrong."""

    def table(self, title: str, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
        """Show rows of cells under column names."""

    def progress(
        self, description: str, total: int, unit: str, *, parts: int = 1
    ) -> AbstractContextManager[Callable[[int], None]]:
        """Show how far a job of `total` things (plural name `unit`) is, each of which is done in `parts`.

        Call the yielded `advance(n)` after every n parts.
        """

    def training(self, *, first_step: int, last_step: int) -> AbstractContextManager[Callable[[TrainingStatus], None]]:
        """Show a training that goes from the state after `first_step` to `last_step`; call what is yielded after each step."""

    def event(self, kind: str, values: Mapping[str, Any]) -> None:
        """Take note of what a training did, as in the run's events: kind `step`, `validation`, `preview` and so on."""


def quoted(word: object) -> str:
    """A path or a prompt as it must be typed in a shell: in quotes when it has blanks or signs that mean something there.

    Bytes that are not UTF-8 are escaped as bash and zsh read them, so that the command can be copied from any console.
    """
    text = str(word)
    if not any("\ud800" <= letter <= "\udfff" for letter in text):
        return shlex.quote(text)
    escaped = text.replace("\\", "\\\\").replace("'", "\\'").replace("\n", "\\n")
    return "$'" + re.sub("[\udc80-\udcff]", lambda byte: f"\\x{ord(byte[0]) - 0xDC00:02x}", escaped) + "'"


def format_duration(seconds: float) -> str:
    """Seconds as 12 s, 3:05 min or 2:15 h."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60}:{whole % 60:02d} min"
    return f"{whole // 3600}:{whole % 3600 // 60:02d} h"


def format_rate(count: float, seconds: float, unit: str) -> str:
    """How fast `count` things of the plural name `unit` were done: 3.20 images/s, or 2.50 s for one when it is slower."""
    rate = count / max(seconds, 1e-9)
    return f"{rate:.2f} {unit}/s" if rate >= 1 or count == 0 else f"{1 / rate:.2f} s/{unit.removesuffix('s')}"


def format_score(value: float) -> str:
    """With three decimals; a rounding error below zero is not shown as -0.000."""
    return f"{round(value, 3) + 0.0:.3f}"


def counted(num: int, what: str) -> str:
    """A number with its thing, as a person says it: 1 picture, 2 pictures."""
    return f"{num} {what}{'' if num == 1 else 's'}"


def listed(names: Sequence[str], *, most: int) -> str:
    """The first names of many, and how many more there are: a, b and 3 more."""
    more = len(names) - most
    return ", ".join(names[:most]) + (f" and {more} more" if more > 0 else "")
