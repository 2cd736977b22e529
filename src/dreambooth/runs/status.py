"""What a run says about itself: whether it is running, in which process, and how and why it ended.

A run that was killed cannot say so. Its last word is that it is running, and its process is gone.
"""

from __future__ import annotations

import math
import os
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal, get_args

from dreambooth.errors import DreamboothError, Interrupted
from dreambooth.files import is_leftover, write_json
from dreambooth.reading import read_json
from dreambooth.runs.alive import is_alive, start_time
from dreambooth.runs.folder import RunFolder

__all__ = ["RunStatus", "read_status", "recorded_status"]

State = Literal["running", "finished", "stopped", "failed", "killed"]


@dataclass(frozen=True)
class RunStatus:
    """The state of a run; times are in seconds since 1970."""

    state: State
    """`stopped` was asked for and can be resumed; `killed` is a process that vanished without a word."""
    host: str
    process: int
    """The process that trains, or trained last, on that host."""
    process_started: float
    """Tells the process from a later one that has its number."""
    started: float
    ended: float | None = None
    """None while it runs, and for a killed process."""
    reason: str = ""
    """Why it ended; empty while it runs."""

    def is_sound(self) -> bool:
        """Whether all values are of their kinds: they may come from a damaged file."""
        times = (self.process_started, self.started, *(() if self.ended is None else (self.ended,)))
        has_texts = self.state in get_args(State) and isinstance(self.host, str) and isinstance(self.reason, str)
        has_times = all(isinstance(moment, int | float) and math.isfinite(moment) for moment in times)
        return has_texts and has_times and isinstance(self.process, int) and 0 <= self.process < 2**31


@contextmanager
def recorded_status(run: RunFolder, *, now: Callable[[], Path | None] | None = None) -> Iterator[Callable[[str], None]]:
    """Inside, the run is recorded as running in this process; afterwards, how it ended. Exceptions pass through.

    Call what is yielded with a reason when the run stops before its last step without an exception. `now` tells where the
    folder is at the end, or None if it is gone, and nothing is recorded then.
    """
    status = RunStatus("running", socket.gethostname(), os.getpid(), start_time(os.getpid()), time.time())
    write_json(run.status, asdict(status))
    state: State
    state, reason = "finished", "the training reached its end"

    def stop(why: str) -> None:
        nonlocal state, reason
        state, reason = "stopped", why

    def end() -> None:
        place = run.path if now is None else now()
        if place is not None:
            write_json(replace(run, path=place).status, asdict(replace(status, state=state, ended=time.time(), reason=reason)))

    try:
        yield stop
    except BaseException as error:
        is_stop = isinstance(error, Interrupted | KeyboardInterrupt)
        state, reason = "stopped" if is_stop else "failed", _reason(error)
        with suppress(OSError, DreamboothError):  # a full disk must not hide why the run ended
            end()
        raise
    end()


def read_status(run: RunFolder) -> RunStatus | None:
    """The state of a run now; None for a run that never recorded one.

    A run on another machine that says it is running is believed: its process cannot be looked up from here.
    """
    try:
        values: dict[str, Any] = read_json(run.status)
        status = RunStatus(**values)
    except (OSError, ValueError, TypeError):
        return None
    if not status.is_sound():
        return None
    is_here = status.host == socket.gethostname()
    if status.state == "running" and is_here and not is_alive(status.process, status.process_started):
        if _has_only_its_model(run):
            ended = run.final_model.stat().st_mtime
            return replace(
                status, state="finished", ended=ended, reason="its process was killed after it wrote the final model"
            )
        return replace(status, state="killed", reason="its process is gone and did not say why")
    return status


def _has_only_its_model(run: RunFolder) -> bool:
    """Whether the model of the last step was written, and no checkpoint: such a run cannot be resumed and need not be.

    The model is written before the checkpoint of its step. Where an earlier checkpoint exists, a resume repeats the last steps.
    """
    has_checkpoint = run.checkpoints.is_dir() and any(not is_leftover(entry) for entry in run.checkpoints.iterdir())
    return run.newest_model is None and run.final_model.is_file() and not has_checkpoint


def _reason(error: BaseException) -> str:
    if isinstance(error, DreamboothError):
        return str(error)
    return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
