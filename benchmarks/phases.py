"""Time of a run by phase, from the progress of each job and the events of the run."""

from __future__ import annotations

import time
from collections.abc import Mapping
from itertools import pairwise
from typing import Any

from dreambooth.runs.events import read_events
from dreambooth.runs.folder import RunFolder

__all__ = ["JobTimes", "event_phases"]


class JobTimes:
    """Listens to a display's events and adds up the seconds and the number of items of every job that reports progress."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self.counts: dict[str, int] = {}
        self._last = 0.0

    def listen(self, record: Mapping[str, Any]) -> None:
        """Record progress; jobs with the same name are added."""
        if record["event"] != "progress":
            return
        name, now = record["description"], time.monotonic()
        if record["done"] == 0:
            self.counts[name] = self.counts.get(name, 0) + record["total"]
        else:
            self.seconds[name] = self.seconds.get(name, 0.0) + now - self._last
        self._last = now


def event_phases(run: RunFolder, *, started: float, ended: float) -> dict[str, float]:
    """Seconds between the events of a run; `started` and `ended` are times since 1970.

    Steps are recorded with a delay, so the seconds of a phase are accurate to about one second.
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
