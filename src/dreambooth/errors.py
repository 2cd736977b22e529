"""Everything that a user can do wrong, as one small family of exceptions.

DreamboothError
├── SettingsError      a setting is unknown, out of range, contradicts another or would have no effect
├── ModelFileError     a base model or a file meant to be one cannot be read
├── PhotoError         the photos, captions or class images cannot be used
├── RunError           a run folder cannot be created, resumed or trusted
└── TrainingError      training stopped before the weights were harmed

Interrupted              not a mistake: somebody asked the work to stop

A message says what was found, what was expected, where, and what to type next. Nothing else in the project is raised on
purpose for a user's mistake; an `assert` states only what the code itself promises.
"""

from __future__ import annotations

from collections.abc import Sequence

__all__ = ["DreamboothError", "Interrupted", "ModelFileError", "PhotoError", "RunError", "SettingsError", "TrainingError"]


class DreamboothError(Exception):
    """A mistake that the person at the keyboard can mend.

    `problems` are reported together, one line each; `hint` is the next thing to do or to type.
    """

    def __init__(self, problems: str | Sequence[str], *, hint: str | None = None) -> None:
        self.problems: tuple[str, ...] = (problems,) if isinstance(problems, str) else tuple(problems)
        self.hint = hint
        super().__init__(self.text)

    @property
    def text(self) -> str:
        """All problems, one a line (with a dash when there are several), then the hint."""
        lines = list(self.problems) if len(self.problems) == 1 else [f"- {problem}" for problem in self.problems]
        return "\n".join([*lines, self.hint] if self.hint is not None else lines)


class SettingsError(DreamboothError):
    """A setting is unknown, out of range, contradicts another one or would have no effect."""


class ModelFileError(DreamboothError):
    """A base model, or a file that was meant to be one, cannot be read or written."""


class PhotoError(DreamboothError):
    """The photos, their captions or the class images cannot be used."""


class RunError(DreamboothError):
    """A run folder cannot be created, resumed or trusted."""


class TrainingError(DreamboothError):
    """Training stopped before the weights moved: a number was not finite, or there is no room."""


class Interrupted(Exception):  # noqa: N818 - a request, not an error
    """Somebody asked the work to stop (Ctrl-C, SIGTERM) and it did, with everything saved that can be saved.

    `text` says what is kept and how to go on; `exit_code` follows the shells' rule of 128 + the signal's number.
    """

    def __init__(self, text: str, *, exit_code: int) -> None:
        self.text = text
        self.exit_code = exit_code
        super().__init__(text)
