"""The exceptions for everything that a user can fix.

DreamboothError
├── SettingsError      a setting is unknown, out of range, contradicts another or would have no effect
├── ModelFileError     a model file cannot be read or written
├── PhotoError         the photos, captions or class images cannot be used
├── RunError           a run folder cannot be created, resumed or trusted
└── TrainingError      training stopped before the weights were damaged

Interrupted              not an error: the user stopped the work

A message says what was found, what was expected, where, and what to type next. User errors raise nothing else; an `assert`
states only invariants of the code itself.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

__all__ = ["DreamboothError", "Interrupted", "ModelFileError", "PhotoError", "RunError", "SettingsError", "TrainingError"]


_MOST_SHOWN = 100  # problems


class DreamboothError(Exception):
    """An error that the user can fix.

    `problems` are reported together, one line each; `hint` is the next thing to do or to type.
    """

    def __init__(self, problems: str | Sequence[str], *, hint: str | None = None) -> None:
        self.problems: tuple[str, ...] = (problems,) if isinstance(problems, str) else tuple(problems)
        self.hint = hint
        super().__init__(self.text)

    @property
    def text(self) -> str:
        """All problems, one a line (with a dash when there are several), then the hint."""
        lines = list(self.problems) if len(self.problems) == 1 else [f"- {problem}" for problem in self.problems[:_MOST_SHOWN]]
        if (more := len(self.problems) - _MOST_SHOWN) > 0:
            lines.append(f"- and {more} more")
        return "\n".join([*lines, self.hint] if self.hint is not None else lines)


class SettingsError(DreamboothError):
    """A setting is unknown, out of range, contradicts another one or would have no effect."""


class ModelFileError(DreamboothError):
    """A model file cannot be read or written."""


class PhotoError(DreamboothError):
    """The photos, their captions or the class images cannot be used."""


class RunError(DreamboothError):
    """A run folder cannot be created, resumed or trusted."""


class TrainingError(DreamboothError):
    """Training stopped before the update: a value was not finite, or memory or disk space ran out."""


class Interrupted(BaseException):
    """The user stopped the work (Ctrl-C, SIGTERM, SIGHUP); everything that can be saved has been saved.

    Like KeyboardInterrupt it is no Exception, since it may be raised anywhere: a library that turns any Exception of a file or
    of an import into an error of its own would report a damaged file instead.

    `text` says what was saved and how to resume; `exit_code` is 128 + the signal number, as in shells.
    """

    def __init__(self, text: str, *, exit_code: int) -> None:
        self.text = text
        self.exit_code = exit_code
        super().__init__(text)

    def __reduce__(self) -> tuple[object, ...]:
        """What another process needs to raise it again."""
        return partial(type(self), exit_code=self.exit_code), (self.text,)
