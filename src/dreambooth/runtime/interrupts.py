"""Stopping at any moment without losing work.

The first SIGINT, SIGTERM or SIGHUP (the terminal was closed, or the connection lost) asks: inside `deferred` the work goes on
until the caller looks at `requested`, elsewhere an Interrupted is raised on the spot (files are atomic, so any spot is safe).
The second signal quits at once; inside `process_survives` it raises KeyboardInterrupt. A SIGHUP is never the second: the system
and the shell each send one. Signals within a second are one request, which a launcher and its group of processes deliver twice.
SIGUSR1 asks a training to save and go on, SIGUSR2 to make preview images and go on.

A handler comes between any two instructions, perhaps in the middle of a line that is being drawn. So it writes nothing itself:
a thread, which waits for its turn as every other writer does, says that the signal was heard.
"""

from __future__ import annotations

import os
import signal
import stat
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from queue import SimpleQueue
from types import FrameType
from typing import Literal, TypeAlias

from dreambooth.errors import Interrupted

__all__ = ["Interrupts", "Request", "process_survives", "raise_if_interrupted"]

Request: TypeAlias = Literal["save", "previews"]
"""What a training can be asked for while it goes on."""

_HANGUP = getattr(signal, "SIGHUP", None)  # Windows has none
_SIGNALS = (signal.SIGINT, signal.SIGTERM, *(() if _HANGUP is None else (_HANGUP,)))
_REQUEST_NAMES: dict[str, Request] = {"SIGUSR1": "save", "SIGUSR2": "previews"}  # Windows has neither
_REQUESTS = {int(getattr(signal, name)): request for name, request in _REQUEST_NAMES.items() if hasattr(signal, name)}
_REPEAT_SECONDS = 1.0
_survives = False
_current: Interrupts | None = None


def raise_if_interrupted() -> None:
    """Raise Interrupted if a stop was requested and lost on its way; loops of slow work call it in every turn."""
    if _current is not None and _current._was_raised:
        raise _current.error()


@contextmanager
def process_survives() -> Iterator[None]:
    """Inside, the second signal raises KeyboardInterrupt and does not end the process: it may be a person's notebook."""
    global _survives  # noqa: PLW0603 - signals belong to the process
    before, _survives = _survives, True
    try:
        yield
    finally:
        _survives = before


class Interrupts:
    """Holds whether somebody asked to stop. Use as a context manager around all work of a command."""

    def __init__(self, describe: Callable[[], str]) -> None:
        """`describe` gives the sentence to show when work is stopped: what is kept and how to go on."""
        self.requested: signal.Signals | None = None
        self._describe = describe
        self._deferring = False
        self._was_raised = False
        self._when = 0.0
        self._requests: set[Request] = set()
        self._outer: Interrupts | None = None
        self._heard: SimpleQueue[bool]
        self._previous: dict[signal.Signals, object] = {}

    def __enter__(self) -> Interrupts:
        """Take over the signals; a no-op outside the main thread, where Python allows no handlers.

        Raises Interrupted for a stop that was requested before, and lost while libraries were loaded.
        """
        global _current
        raise_if_interrupted()
        self._outer, _current = _current, self
        if threading.current_thread() is threading.main_thread():
            heeded = [number for number in _SIGNALS if number != _HANGUP or signal.getsignal(number) != signal.SIG_IGN]  # nohup
            self._previous = {number: signal.signal(number, self._handle) for number in heeded}
            for number in map(signal.Signals, _REQUESTS):
                self._previous[number] = signal.signal(number, self._ask)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        """Give the signals back to whoever had them.

        A stop that was raised in the middle of a library's code may have been swallowed there, or have come out as another
        error; here it is raised again.
        """
        global _current  # noqa: PLW0603
        _current = self._outer
        for number, handler in self._previous.items():
            signal.signal(number, handler)  # type: ignore[arg-type]
        if self._was_raised and not isinstance(error, Interrupted | KeyboardInterrupt | SystemExit):
            raise self.error() from error

    def error(self) -> Interrupted:
        """The exception that ends the command: its exit code follows the shells' rule of 128 + the signal's number.

        Where only another process was asked, as if this one had been told to terminate.
        """
        return Interrupted(self._describe(), exit_code=128 + int(self.requested or signal.SIGTERM))

    @contextmanager
    def deferred(self, announcement: str = "") -> Iterator[None]:
        """Inside, a signal only sets `requested`; the caller finishes its step, saves, and raises `error()`.

        What it finishes may take minutes, so `announcement` is said on stderr at once; nothing is when it is empty.
        """
        self._heard = SimpleQueue()  # the one queue that a handler may put into at any moment
        speaker = threading.Thread(target=self._say_when_heard, args=(announcement,), daemon=True)
        speaker.start()
        self._deferring = True
        try:
            yield
        finally:
            self._heard.put(False)
            speaker.join()
            self._deferring = False

    def _say_when_heard(self, announcement: str) -> None:
        if self._heard.get() and announcement and sys.stderr is not None:
            sys.stderr.write(f"{announcement}\n")
            sys.stderr.flush()

    def take_requests(self) -> frozenset[Request]:
        """What somebody asked for since the last call, while the work goes on."""
        asked, self._requests = self._requests, set()
        return frozenset(asked)

    def _ask(self, number: int, frame: FrameType | None) -> None:
        if self._deferring:  # outside a training there is nothing to save or to show
            self._requests = {*self._requests, _REQUESTS[number]}

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if number == _HANGUP:
            _forget_terminal()
            if self.requested is not None:
                return
        if self.requested is not None and time.monotonic() - self._when < _REPEAT_SECONDS:
            return
        if self.requested is not None and _survives:
            raise KeyboardInterrupt
        if self.requested is not None:
            os._exit(128 + number)
        self.requested, self._when = signal.Signals(number), time.monotonic()
        if not self._deferring:
            self._was_raised = True
            raise self.error()
        self._heard.put(True)


def _forget_terminal() -> None:
    """Write nothing more to a terminal that is gone: each attempt would be an error, and end the work before it is saved."""
    for number in (1, 2):
        with suppress(OSError):
            if stat.S_ISCHR(os.fstat(number).st_mode):
                os.dup2(os.open(os.devnull, os.O_WRONLY), number)
