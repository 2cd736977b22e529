"""Collects problems, so that they are reported together."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TypeVar

from dreambooth.errors import DreamboothError

__all__ = ["HINT_BELOW", "Problems"]

HINT_BELOW = "\n  "
"""Begins a hint below the problem that it belongs to, where several problems have hints of their own."""

Value = TypeVar("Value")


@dataclass
class Problems:
    """Collects problems, so that one error reports them all."""

    found: list[DreamboothError] = field(default_factory=list)

    def attempt(self, work: Callable[[], Value]) -> Value | None:
        """The value of `work`, or None after recording its problems."""
        try:
            return work()
        except DreamboothError as error:
            self.found.append(error)
            return None

    def raise_if_any(self) -> None:
        """Raise one error with every recorded problem, each with its own hint; a hint that all share is given once.

        It is of the problems' own class, such as PhotoError, if they have the same one.
        """
        if not self.found:
            return
        kinds, hints = {type(error) for error in self.found}, {error.hint for error in self.found}
        kind = kinds.pop() if len(kinds) == 1 else DreamboothError
        if len(hints) == 1:
            raise kind([problem for error in self.found for problem in error.problems], hint=hints.pop())
        raise kind([problem for error in self.found for problem in _with_hint(error)])


def _with_hint(error: DreamboothError) -> list[str]:
    """The problems of an error; the hint is indented below the last."""
    if error.hint is None:
        return list(error.problems)
    *others, last = error.problems
    return [*others, last + "".join(f"{HINT_BELOW}{line}" for line in error.hint.splitlines())]
