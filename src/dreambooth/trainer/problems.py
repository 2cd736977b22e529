"""Collects problems, so that they are reported together."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TypeVar

from dreambooth.errors import DreamboothError

__all__ = ["Problems"]

Value = TypeVar("Value")


@dataclass
class Problems:
    """Collects problems, so that one error reports them all."""

    problems: list[str] = field(default_factory=list)
    hints: list[str] = field(default_factory=list)

    def attempt(self, work: Callable[[], Value]) -> Value | None:
        """The value of `work`, or None after recording its problems."""
        try:
            return work()
        except DreamboothError as error:
            self.problems.extend(error.problems)
            if error.hint is not None:
                self.hints.append(error.hint)
            return None

    def raise_if_any(self) -> None:
        """Raise one error with every recorded problem."""
        if self.problems:
            raise DreamboothError(self.problems, hint="\n".join(dict.fromkeys(self.hints)) or None)
