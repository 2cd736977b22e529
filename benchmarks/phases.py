"""Where the time of a run of the product goes: a display that notes when each job began and ended, and the run's events."""

from __future__ import annotations

import io
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import pairwise

from rich.console import Console

from dreambooth.display import Display
from dreambooth.runs.events import read_events
from dreambooth.runs.folder import RunFolder

__all__ = ["TimedDisplay", "event_phases"]


class TimedDisplay(Display):
    """Keeps what it is told, and the seconds of every job that shows its progress."""

    def __init__(self) -> None:
        super().__init__(Console(file=io.StringIO(), width=200))
        self.seconds: dict[str, float] = {}
        self.counts: dict[str, int] = {}

    @contextmanager
    def progress(self, description: str, total: int, unit: str) -> Iterator[Callable[[int], None]]:
        """As the display's own; jobs of one name are added up."""
        start = time.monotonic()
        with super().progress(description, total, unit) as advance:
            yield advance
        self.seconds[description] = self.seconds.get(description, 0.0) + time.monotonic() - start
        self.counts[description] = self.counts.get(description, 0) + total


def event_phases(run: RunFolder, *, started: float, ended: float) -> dict[str, float]:
    """Seconds between the events of a run; `started` and `ended` are times since 1970.

    Steps are noted some time after they were made, so the seconds of a phase are right to about a second.
    """
    events = read_events(run.events)
    if not events:
        return {}
    phases: dict[str, float] = {"until_the_first_event": events[0]["time"] - started}
    for before, after in pairwise(events):
        name = f"until_{after['event']}"
        phases[name] = phases.get(name, 0.0) + after["time"] - before["time"]
    phases["after_the_last_event"] = ended - events[-1]["time"]
    return {name: round(seconds, 3) for name, seconds in phases.items()}
