"""Calls that are about to change the disk, counted: to kill a process at them, or to make them fail."""

from __future__ import annotations

import errno
import itertools
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path

__all__ = ["FAULTS", "at_changes", "changes_of", "failer", "killer"]

FAULTS = {"full": (errno.ENOSPC, {"open", "os.mkdir", "os.link"}), "read-only": (errno.EROFS, set[str]())}
"""The error of each fault, and the calls that it ends; all that change the disk where none is named."""

_CHANGES = frozenset({"open", "os.rename", "os.remove", "os.rmdir", "os.mkdir", "os.link", "os.truncate"})
_WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND


def changes_of(event: str, arguments: tuple[object, ...], place: Path) -> bool:
    """Whether an audit event of the interpreter is about to change something below `place`."""
    if event not in _CHANGES or not str(arguments[0]).startswith(str(place)):
        return False
    return event != "open" or (isinstance(arguments[2], int) and bool(arguments[2] & _WRITES))


def at_changes(place: Path, then: Callable[[str, int], None]) -> None:
    """Call `then` with the kind and the number, from 1 on, of each call that is about to change something below `place`.

    It cannot be undone: for a process of its own.
    """
    numbers = itertools.count(1)

    def hook(event: str, arguments: tuple[object, ...]) -> None:
        if changes_of(event, arguments, place):
            then(event, next(numbers))

    sys.addaudithook(hook)


def killer(number: int) -> Callable[[str, int], None]:
    """Kill this process right before the change of that number."""

    def die(event: str, current: int) -> None:
        if current == number:
            os.kill(os.getpid(), signal.SIGKILL)

    return die


def failer(fault: str, number: int) -> Callable[[str, int], None]:
    """Give the change of that number, and all later ones, the error of a fault."""
    number_of_error, kinds = FAULTS[fault]

    def fail(event: str, current: int) -> None:
        if current >= number and (not kinds or event in kinds):
            raise OSError(number_of_error, os.strerror(number_of_error), "injected")

    return fail
